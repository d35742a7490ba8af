#!/usr/bin/env python3
"""Runs clang-tidy on every file of compile_commands.json, in parallel, and remembers which were clean.

A file is checked again when it, a header of the project that it includes, any .proto, .clang-tidy or its compile options
changed: the first run takes ten seconds a file, the following ones what was touched.
"""

from __future__ import annotations

import concurrent.futures
import functools
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys

CACHE = pathlib.Path(".lint-cache")
CLANG_TIDY = "clang-tidy"
# Bazel's paths are relative to its execution root: this is what our own headers look like from there.
HEADER_FILTER = r"(^|/)(client|server|tests|tools)/.*\.h$"


def shared_digest() -> bytes:
    """Digest of what every file depends on. Generated headers are represented by their .proto files."""
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.proto", ".clang-tidy",
                             "tools/clang_tidy.py"], capture_output=True, text=True, check=True)
    digest = hashlib.sha256()
    version = subprocess.run([CLANG_TIDY, "--version"], capture_output=True, check=True).stdout
    digest.update(re.sub(rb"Host CPU.*", b"", version))
    for name in sorted(set(listed.stdout.splitlines())):
        path = pathlib.Path(name)
        if path.is_file():
            digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()


@functools.cache
def own_includes(name: str) -> tuple[str, ...]:
    """The project's own files that a file includes: they are named from the project's root."""
    included = re.findall(rb'^\s*#\s*include\s+"([^"]+)"', pathlib.Path(name).read_bytes(), re.MULTILINE)
    return tuple(path for path in (entry.decode() for entry in included) if pathlib.Path(path).is_file())


def source_digest(source: str) -> bytes:
    """Digest of a source file and of every file of the project that it includes, however indirectly."""
    seen: set[str] = set()
    waiting = [source]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(own_includes(name))
    digest = hashlib.sha256()
    for name in sorted(seen):
        digest.update(name.encode() + b"\0" + hashlib.sha256(pathlib.Path(name).read_bytes()).digest())
    return digest.digest()


def check(command: dict, shared: bytes) -> tuple[str, bool, str]:
    """(file, clean, output)"""
    source = command["file"]
    key = hashlib.sha256(shared + source_digest(source) + json.dumps(command["arguments"]).encode())
    stamp = CACHE / key.hexdigest()
    if stamp.exists():
        return source, True, ""
    done = subprocess.run(
        [CLANG_TIDY, "--quiet", "-p", str(pathlib.Path.cwd()), f"--config-file={pathlib.Path('.clang-tidy').absolute()}",
         f"--header-filter={HEADER_FILTER}", "--extra-arg=-Wno-unknown-warning-option", "--warnings-as-errors=*",
         os.path.join(command["directory"], source)],
        capture_output=True, text=True, check=False, cwd=command["directory"])
    if done.returncode == 0:
        stamp.touch()
    errors = [line for line in done.stderr.splitlines() if not re.match(r"\d+ warnings? |Suppressed |Use -header", line)]
    return source, done.returncode == 0, "\n".join(filter(None, [done.stdout.strip(), *errors]))


def main() -> int:
    commands = json.loads(pathlib.Path("compile_commands.json").read_text(encoding="utf-8"))
    CACHE.mkdir(exist_ok=True)
    shared = shared_digest()
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        jobs = [pool.submit(check, command, shared) for command in commands]
        for number, job in enumerate(concurrent.futures.as_completed(jobs), 1):
            source, clean, output = job.result()
            print(f"[{number}/{len(jobs)}] {source}{'' if clean else ': problems'}", file=sys.stderr, flush=True)
            if not clean:
                bad += 1
                print(output, flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
