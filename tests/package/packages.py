"""Makes the packages as a user does, with ./run package, and looks into them."""

from __future__ import annotations

import os
import pathlib
import subprocess

PROJECT = pathlib.Path(__file__).resolve().parents[2]
NAMES = ("tsc-handoff-agent", "tsc-handoff-tools", "libtsc-vmm0", "libtsc-vmm-dev")


def make_packages(directory: pathlib.Path, version: str | None = None) -> dict[str, pathlib.Path]:
    """Package name -> file. `version` is what the packages call themselves, not what is in them."""
    options = ["--version", version] if version else []
    done = subprocess.run([PROJECT / "run", "package", *options, directory], cwd=PROJECT, check=False, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True)
    assert done.returncode == 0, f"./run package failed:\n{done.stdout}{done.stderr}"
    files = {path.name.split("_")[0]: path for path in directory.glob("*.deb")}
    assert sorted(files) == sorted(NAMES)
    return files


def field(package: pathlib.Path, name: str) -> str:
    return output("dpkg-deb", "--field", package, name).strip()


def depends(package: pathlib.Path) -> list[str]:
    """Names of the packages that it needs, the first one where there is a choice."""
    return [clause.split("|")[0].split("(")[0].strip() for clause in field(package, "Depends").split(",")]


def output(*argv: str | pathlib.Path, **options: object) -> str:
    """What a command prints; an AssertionError with all that it said when it fails."""
    done = subprocess.run([str(word) for word in argv], check=False, text=True, stdin=subprocess.DEVNULL,
                          capture_output=True, env={**os.environ, "LC_ALL": "C.UTF-8"}, **options)  # type: ignore
    assert done.returncode == 0, f"{argv} failed ({done.returncode}):\n{done.stdout}{done.stderr}"
    return done.stdout
