"""The delivered binaries are as hard as .bazelrc says, and who reads that from them would notice if they were not."""

from __future__ import annotations

import pathlib
import re
import subprocess

import pytest

from ..programs import binary
from .hardening import findings, members_without_cet

DELIVERED = ("server/agent/tsc-agent", "client/tscctl/tscctl", "client/vmm/libtsc_vmm.so.0")
ARCHIVE = "client/vmm/libtsc_vmm_archive.a"

# A program with something for each protection to protect.
SAMPLE = """
#include <stdio.h>
#include <string.h>
int callee(const char* text) {
  char copy[16];
  strcpy(copy, text);
  return printf("%s", copy);
}
int main(int argc, char** argv) { return argc > 1 ? callee(argv[1]) : 0; }
"""
# As .bazelrc has it, and Bazel's toolchain.
FLAGS = {"optimise": "-O2 -g1", "pic": "-fPIE", "pie": "-pie", "stack": "-fstack-protector-strong",
         "fortify": "-D_FORTIFY_SOURCE=2", "cet": "-fcf-protection=full",
         "relro": "-Wl,-z,relro", "now": "-Wl,-z,now", "noexecstack": "-Wl,-z,noexecstack"}  # fmt: skip


def _compile(directory: pathlib.Path, changed: dict[str, str]) -> pathlib.Path:
    source, program = directory / "sample.c", directory / "sample"
    source.write_text(SAMPLE)
    flags = " ".join({**FLAGS, **changed}.values()).split()
    subprocess.run(["gcc", *flags, "-o", program, source], check=True, capture_output=True)
    return program


def _compile_archive(directory: pathlib.Path, flags: str) -> pathlib.Path:
    archive = directory / "sample.a"
    (directory / "sample.c").write_text(SAMPLE)
    for argv in (["gcc", *flags.split(), "-c", "sample.c"], ["ar", "rcs", archive, "sample.o"]):
        subprocess.run(argv, cwd=directory, check=True, capture_output=True)
    return archive


@pytest.mark.parametrize("name", DELIVERED)
def test_a_delivered_binary_is_hardened(name: str) -> None:
    assert findings(binary(name)) == []


def test_the_delivered_archive_is_ready_for_cet() -> None:
    assert members_without_cet(binary(ARCHIVE)) == []


@pytest.mark.parametrize(("flags", "without"), [
    ("-fcf-protection=full", []),
    ("-fcf-protection=return", ["sample.a(sample.o)"]),
    ("", ["sample.a(sample.o)"]),
])  # fmt: skip
def test_an_archive_that_is_not_ready_for_cet_is_noticed(tmp_path: pathlib.Path, flags: str, without: list[str]) -> None:
    found = members_without_cet(_compile_archive(tmp_path, flags))
    assert [pathlib.Path(member).name for member in found] == without


def test_a_program_with_all_flags_is_hardened(tmp_path: pathlib.Path) -> None:
    assert findings(_compile(tmp_path, {})) == []


@pytest.mark.parametrize(("changed", "found"), [
    ({"pic": "-fno-pie", "pie": "-no-pie"}, ["not position independent"]),
    ({"relro": "-Wl,-z,norelro"}, ["no RELRO"]),
    ({"now": "-Wl,-z,lazy"}, ["no BIND_NOW"]),
    ({"noexecstack": "-Wl,-z,execstack"}, ["stack may be executed"]),
    ({"rpath": "-Wl,-rpath,/tmp"}, ["RPATH"]),
    ({"stack": "-fno-stack-protector"}, ["nothing guards its stack", "without -fstack-protector-strong"]),
    ({"stack": "-fstack-protector"}, ["without -fstack-protector-strong"]),
    ({"fortify": ""}, ["FORTIFY"]),
    ({"optimise": "-O0 -g1"}, ["FORTIFY"]),
    ({"cet": ""}, ["without -fcf-protection=full", "no jump may land: ['callee', 'main']"]),
    ({"cet": "-fcf-protection=return"}, ["without -fcf-protection=full", "no jump may land"]),
    ({"optimise": "-O2"}, ["does not say how it was compiled"]),
])  # fmt: skip
def test_a_flag_that_is_missing_is_noticed(tmp_path: pathlib.Path, changed: dict[str, str], found: list[str]) -> None:
    said = findings(_compile(tmp_path, changed))
    assert len(said) == len(found), said
    for what, line in zip(found, said, strict=True):
        assert re.search(re.escape(what), line), said
