#!/usr/bin/env python3
"""Writes compile_commands.json, for clang-tidy and clangd, from what Bazel says it would run.

Paths in it are relative to Bazel's execution root, where both our sources (as links) and generated headers are.
"""

from __future__ import annotations

import json
import os
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Sequence

# gcc's own options, which clang refuses, and -Werror: warnings of clang are clang-tidy's to judge.
NOT_FOR_CLANG = frozenset({"-Werror", "-fno-canonical-system-headers", "-Wno-free-nonheap-object"})
# In this order: an option with its argument is dropped as a pair.
DROPPED_WITH_ARGUMENT = frozenset({"-MF", "-o"})
DROPPED = frozenset({"-MD"})


def bazel(*args: str) -> str:
    startup = shlex.split(os.environ.get("BAZEL_STARTUP", ""))
    done = subprocess.run(["bazel", *startup, *args], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"bazel {args[0]} failed with status {done.returncode}:\n{done.stderr}")
    return done.stdout


def for_clang(arguments: Sequence[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in DROPPED_WITH_ARGUMENT:
            skip = True
        elif argument not in NOT_FOR_CLANG and argument not in DROPPED and not argument.startswith("-frandom-seed="):
            kept.append(argument)
    return kept


def commands_of(actions: Sequence[dict], directory: str) -> list[dict]:
    """One entry for each source file, sorted. Generated sources are left out."""
    entries: dict[str, dict] = {}
    for action in actions:
        arguments = action.get("arguments", [])
        if "-c" not in arguments:
            continue
        source = arguments[arguments.index("-c") + 1]
        if source.startswith(("bazel-out/", "external/")):
            continue
        entries.setdefault(source, {"directory": directory, "file": source, "arguments": for_clang(arguments)})
    return [entries[source] for source in sorted(entries)]


def main() -> None:
    options = shlex.split(os.environ.get("BAZEL_OPTIONS", ""))
    query = bazel("aquery", *options, "--output=jsonproto", 'mnemonic("CppCompile", //...)')
    directory = bazel("info", *options, "execution_root").strip()
    commands = commands_of(json.loads(query).get("actions", []), directory)
    pathlib.Path("compile_commands.json").write_text(json.dumps(commands, indent=1) + "\n", encoding="utf-8")
    print(f"compile_commands.json: {len(commands)} files", file=sys.stderr)


if __name__ == "__main__":
    main()
