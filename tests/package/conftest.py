"""Fixtures of the packages' tests."""

from __future__ import annotations

import pathlib

import pytest

from . import packages


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pathlib.Path]:
    """The packages as ./run package makes them, by name."""
    return packages.make_packages(tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="session")
def dependencies(made: dict[str, pathlib.Path]) -> list[str]:
    """Of what runs on a host, as a file system for tests needs them: without our own, and without systemd."""
    names = {name for package in ("tsc-handoff-agent", "tsc-handoff-tools", "libtsc-vmm0")
             for name in packages.depends(made[package])}
    # The second choice of the agent's package, for places where no systemd runs.
    return sorted(names - {"systemd"} | {"systemd-standalone-sysusers"})


@pytest.fixture(scope="session")
def unpacked(made: dict[str, pathlib.Path], tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """All packages' files under one directory, nothing installed."""
    root = tmp_path_factory.mktemp("unpacked")
    for package in made.values():
        packages.output("dpkg-deb", "--extract", package, root)
    return root
