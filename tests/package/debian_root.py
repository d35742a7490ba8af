"""File systems of a Debian 12, made by debootstrap once and cached beside the nodes' kernels.

The mirror is the one that this machine's own apt uses. Two flavours: what a container's base image has, with the
packages that ours depend on; and the same with systemd and udev, to be booted in a node. Nothing of the project is in
either. They are only read: whoever wants to change one lays an overlay over it. Needs root.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import pathlib
import shutil
import subprocess
from collections.abc import Iterator, Sequence

from ..cluster import kernel

# Version of what is done below; a new one makes the cached file systems anew.
_RECIPE = 4
# python3 is for the node's agent, and shows what tests want to see; the others make a host of it.
_HOST_PACKAGES = ("systemd", "systemd-sysv", "udev", "dbus", "python3", "man-db", "procps", "chrony")

_NODE_UNIT = """\
[Unit]
Description=The line to who booted this node
DefaultDependencies=no
After=basic.target
[Service]
ExecStart=/usr/bin/python3 -I -S /exchange/.agent.py
KillMode=process
Environment=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
"""
# No terminal to log in at, and no waiting for its device.
_MASKED = ("getty@.service", "serial-getty@.service", "systemd-networkd-wait-online.service", "apt-daily.timer",
           "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "man-db.timer")  # fmt: skip


class RootError(RuntimeError):
    """A file system could not be made; the message says why."""


def container_root(packages: Sequence[str]) -> pathlib.Path:
    """A minimal Debian 12 with `packages`."""
    return _cached("container", packages, lambda root: _bootstrap(root, packages))


def host_root(packages: Sequence[str]) -> pathlib.Path:
    """A Debian 12 that boots with systemd, with `packages` and the node's agent."""
    base = container_root(packages)

    def make(root: pathlib.Path) -> None:
        _run("cp", "-a", base, root)
        # The stand-in for systemd's program, where the packages brought it, gives way to systemd.
        _apt_install(root, _HOST_PACKAGES)
        units = root / "etc/systemd/system"
        (units / "tsc-node.service").write_text(_NODE_UNIT)
        wants = units / "multi-user.target.wants"
        wants.mkdir(exist_ok=True)
        (wants / "tsc-node.service").symlink_to("/etc/systemd/system/tsc-node.service")
        for unit in _MASKED:
            (units / unit).unlink(missing_ok=True)
            (units / unit).symlink_to("/dev/null")
        (root / "exchange").mkdir(exist_ok=True)
        (root / "etc/machine-id").write_text("uninitialized\n")

    return _cached("host", [*packages, *_HOST_PACKAGES], make)


def _cached(flavour: str, packages: Sequence[str], make: object) -> pathlib.Path:
    key = hashlib.sha256(repr((_RECIPE, flavour, sorted(packages), _NODE_UNIT, _MASKED)).encode()).hexdigest()[:12]
    final = kernel.cache_dir() / f"debian-{flavour}.{key}"
    with _lock(flavour):
        if not final.is_dir():
            unfinished = final.with_suffix(".tmp")
            shutil.rmtree(unfinished, ignore_errors=True)
            for old in kernel.cache_dir().glob(f"debian-{flavour}.*"):
                shutil.rmtree(old, ignore_errors=True)
            make(unfinished)  # type: ignore[operator]
            unfinished.rename(final)
    return final


@contextlib.contextmanager
def _lock(flavour: str) -> Iterator[None]:
    with open(kernel.cache_dir() / f"debian-{flavour}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _bootstrap(root: pathlib.Path, packages: Sequence[str]) -> None:
    _run("debootstrap", "--variant=minbase", "bookworm", root, _mirror())
    _apt_install(root, packages)


def _mirror() -> str:
    targets = _run("apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages", "Codename: bookworm")
    if not targets.strip():
        raise RootError("apt on this machine has no source of Debian 12 (bookworm)")
    return targets.split()[0]


def _apt_install(root: pathlib.Path, packages: Sequence[str]) -> None:
    # Packages that are made for this must not be started, here nor by dpkg's triggers.
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        _run("chroot", root, "apt-get", "update", "-q")
        _run("chroot", root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-q",
             "--no-install-recommends", "-o", "APT::Sandbox::User=root", *packages)
        _run("chroot", root, "apt-get", "clean")
    finally:
        policy.unlink()


def _run(*argv: str | pathlib.Path) -> str:
    try:
        done = subprocess.run([str(word) for word in argv], check=False, text=True, stdin=subprocess.DEVNULL,
                              capture_output=True)
    except FileNotFoundError as error:
        raise RootError(f"{argv[0]} is missing: ./run deps package") from error
    if done.returncode != 0:
        raise RootError(f"{' '.join(map(str, argv))} failed ({done.returncode}): {done.stdout[-1500:]}"
                        f"{done.stderr[-1500:]}")
    return done.stdout
