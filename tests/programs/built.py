"""Finds what Bazel built."""

from __future__ import annotations

import os
import pathlib


class LabError(RuntimeError):
    """Something that tests, demo or benchmarks stand on does not work; the text says what."""


def binary(name: str) -> pathlib.Path:
    """A program that Bazel built, for example "server/agent/tsc-agent"."""
    root = os.environ.get("TSC_BAZEL_BIN")
    if not root:
        raise LabError("TSC_BAZEL_BIN is not set: start this with ./run, which builds the programs first")
    path = pathlib.Path(root) / name
    if not path.is_file():
        raise LabError(f"{path} is not built: run ./run build")
    return path.resolve()
