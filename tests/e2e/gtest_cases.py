"""Runs a GoogleTest binary on another machine (a node, Bochs) and shows each of its cases as one of pytest's.

The names come from the binary itself, asked here with --gtest_list_tests; the results from the XML that it wrote there.
"""

from __future__ import annotations

import pathlib
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest


def names(program: pathlib.Path) -> list[str]:
    """Suite.Case, as in the XML."""
    listed = subprocess.run([program, "--gtest_list_tests"], check=True, capture_output=True, text=True).stdout
    found: list[str] = []
    suite = ""
    for line in listed.splitlines():
        name = line.split("#")[0].rstrip()
        if name.startswith("  "):
            found.append(suite + name.strip())
        elif name.endswith("."):
            suite = name
    return found


def results(xml: str) -> dict[str, ElementTree.Element]:
    """By the same names."""
    return {f"{case.get('classname')}.{case.get('name')}": case
            for case in ElementTree.fromstring(xml).iter("testcase")}


def report(name: str, found: dict[str, ElementTree.Element]) -> None:
    """Ends the calling test as that case ended."""
    case = found.get(name)
    assert case is not None, f"{name} did not run: the binary died before it; see its output"
    if (skipped := case.find("skipped")) is not None:
        pytest.skip((skipped.get("message") or skipped.text or "no reason given").strip())
    problems = [failure.get("message") or failure.text or "" for failure in case.iter("failure")]
    assert not problems, "\n".join(problems)
