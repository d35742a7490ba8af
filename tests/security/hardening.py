"""Reads from a binary, with binutils alone, how hard it is to take over. Knows x86-64."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess

# How the compiler was told, as it notes in the debug information of each file that it compiled.
FLAGS = ("-fstack-protector-strong", "-fcf-protection=full")
# Of the C library's start-up code, which is none of ours; no pointer leads there.
START_UP = ("_start", "_dl_relocate_static_pie")
ENDBR64 = bytes.fromhex("f30f1efa")


def findings(binary: pathlib.Path, stripped: bool = False) -> list[str]:
    """What is wrong with a program or a shared object, each in a sentence; none for one that is as hard as it should be.
    `stripped`: it has no symbols and no debug information, so what only these show is not looked for."""
    found = _linked(binary) + _imported(binary)
    return found if stripped else found + _compiled(binary)


def members_without_cet(archive: pathlib.Path) -> list[str]:
    """Of an archive's files, those that are not marked as ready for CET. Who links them decides for the whole."""
    parts = _readelf("--notes", archive).split("File: ")[1:]
    return [part.splitlines()[0] for part in parts if not re.search(r"x86 feature: IBT, SHSTK", part)]


def _readelf(*arguments: str | pathlib.Path) -> str:
    return subprocess.run(["readelf", "--wide", *arguments], check=True, capture_output=True, text=True,
                          env={**os.environ, "LC_ALL": "C.UTF-8"}).stdout


def _linked(binary: pathlib.Path) -> list[str]:
    headers = _readelf("--file-header", "--program-headers", binary)
    dynamic = _readelf("--dynamic", binary)
    stack = re.search(r"GNU_STACK.* (\S{1,2}E?) +0x\w+$", headers, re.MULTILINE)
    checks = {
        "it is not position independent": re.search(r"Type: +DYN ", headers),
        "what the loader fills in stays writable (no RELRO)": "GNU_RELRO" in headers,
        "its symbols are bound late (no BIND_NOW)": re.search(r"BIND_NOW|FLAGS_1.*\bNOW\b", dynamic),
        "its stack may be executed": stack and "E" not in stack.group(1),
        "it has a path of its own to libraries (RPATH)": not re.search(r"\((RPATH|RUNPATH)\)", dynamic),
    }
    return [what for what, holds in checks.items() if not holds]


def _imported(binary: pathlib.Path) -> list[str]:
    imports = set(re.findall(r"UND (\w+)", _readelf("--dyn-syms", binary)))
    checks = {
        "nothing guards its stack": "__stack_chk_fail" in imports,
        "no call of libc is checked (FORTIFY)": any(name.endswith("_chk") for name in imports),
    }
    return [what for what, holds in checks.items() if not holds]


def _compiled(binary: pathlib.Path) -> list[str]:
    units = re.findall(r"DW_AT_producer.*?: (?:\(.*?\): )?(GNU C.*)", _readelf("--debug-dump=info", "--dwarf-depth=1", binary))
    if not units:
        return ["it does not say how it was compiled (no debug information)"]
    found = [f"{len(without)} of {len(units)} files were compiled without {flag}" for flag in FLAGS
             if (without := [unit for unit in units if flag not in unit.split()])]
    open_ones = _functions_without_endbr64(binary)
    return found + ([f"functions where no jump may land: {sorted(open_ones)[:5]}"] if open_ones else [])


def _functions_without_endbr64(binary: pathlib.Path) -> set[str]:
    """Of the functions that other files may call. The linker's mark (.note.gnu.property) cannot tell: Debian 12's own crti.o
    is not ready for CET, so no program has it."""
    section = re.search(r"\] \.text +PROGBITS +(\w+) (\w+) (\w+)", _readelf("--sections", binary))
    assert section is not None
    address, offset, size = (int(number, 16) for number in section.groups())
    text = binary.read_bytes()[offset:offset + size]
    found = set()
    for line in _readelf("--symbols", binary).splitlines():
        symbol = re.match(r" *\d+: (\w+) +\d+ FUNC +GLOBAL +\w+ +\d+ (\S+)", line)
        if symbol is None or symbol.group(2) in START_UP:
            continue
        at = int(symbol.group(1), 16) - address
        if 0 <= at < size and text[at:at + 4] != ENDBR64:
            found.add(symbol.group(2))
    return found
