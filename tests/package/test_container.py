"""The container's file system, built by the script that the Dockerfile runs, and the agent started in it as its user. No
Docker: the base is a Debian made by debootstrap, with an overlay on top. Needs root."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator

import grpc
import pytest

from ..e2e.health import SERVING, health
from . import debian_root
from .packages import PROJECT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2400),  # the first run makes the file system with debootstrap
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting and chroot need root"),
]

USER = 64640
# Mounts are in a namespace of their own: they end with the shell that this becomes, whatever happens.
_ENTER = """
set -e
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$WORK/upper,workdir=$WORK/work" "$WORK/root"
mount -t proc proc "$WORK/root/proc"
mount --rbind /sys "$WORK/root/sys"
mount --rbind /dev "$WORK/root/dev"
exec "$@"
"""


class Container:
    def __init__(self, lower: pathlib.Path, work: pathlib.Path) -> None:
        self._environment = {**os.environ, "LOWER": str(lower), "WORK": str(work)}
        self.root = work / "root"
        for name in ("root", "upper", "work"):
            (work / name).mkdir()

    def command(self, *argv: str, user: int = 0) -> list[str]:
        return ["unshare", "--mount", "sh", "-c", _ENTER, "sh", "chroot", f"--userspec={user}:{user}", "--groups=",
                str(self.root), *argv]  # fmt: skip

    def run(self, *argv: str, user: int = 0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*argv, user=user), env=self._environment, check=False, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True)

    def start(self, *argv: str, user: int, log: pathlib.Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as out:
            return subprocess.Popen(self.command(*argv, user=user), env=self._environment, stdin=subprocess.DEVNULL,
                                    stdout=out, stderr=out)


@pytest.fixture(scope="module")
def container(made: dict[str, pathlib.Path], dependencies: list[str],
              tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    work = tmp_path_factory.mktemp("container")
    found = Container(debian_root.container_root(dependencies), work)
    packages = work / "upper/packages"
    packages.mkdir()
    for source in (made["tsc-handoff-agent"], made["tsc-handoff-tools"], PROJECT / "deploy/container/install.sh"):
        shutil.copy(source, packages)
    done = found.run("sh", "/packages/install.sh")
    assert done.returncode == 0, done.stdout + done.stderr
    yield found


def test_the_dockerfile_takes_the_same_steps() -> None:
    text = (PROJECT / "deploy/container/Dockerfile").read_text()
    last = text.split("\nFROM ")[-1]
    assert last.startswith("debian:12-slim\n")
    assert "sh /packages/install.sh" in last and f"USER {USER}:{USER}" in last
    assert 'ENTRYPOINT ["/usr/bin/tsc-agent"]' in last
    assert (PROJECT / "deploy/container/install.sh").exists()


def test_nothing_to_build_with_is_in_it(container: Container) -> None:
    for tool in ("gcc", "g++", "cc", "make", "ld", "bazel", "git", "python3"):
        assert container.run("sh", "-c", f"command -v {tool}").returncode != 0, tool
    # The packages that only a booted system needs did not come along.
    status = container.run("dpkg-query", "-W", "-f", "${db:Status-Status}", "systemd").stdout
    assert status in ("", "not-installed")


def test_the_agent_starts_as_its_user_and_is_ready(container: Container, tmp_path: pathlib.Path) -> None:
    log = tmp_path / "agent.log"
    agent = container.start("/usr/bin/tsc-agent", "--listen", "127.0.0.1:0", "--insecure-tcp",
                            "--listen", "unix:/run/tsc-handoff/agent.sock", "--metrics", "127.0.0.1:0",
                            "--clock", "kernel", user=USER, log=log)
    try:
        port = _port(log, agent)
        deadline = time.monotonic() + 30
        while not _is_ready(port):
            assert time.monotonic() < deadline, log.read_text()
            threading.Event().wait(0.1)
        status = pathlib.Path(f"/proc/{agent.pid}/status").read_text()
        assert re.search(rf"^Uid:\t{USER}\t{USER}\t{USER}\t{USER}$", status, re.MULTILINE)
        assert "CapEff:\t0000000000000000" in status
        agent.terminate()
        assert agent.wait(30) == 0, log.read_text()
    finally:
        agent.kill()
        agent.wait()


def _is_ready(port: str) -> bool:
    """As the readiness probe of the DaemonSet asks."""
    try:
        return health(f"127.0.0.1:{port}", "tschandoff.v1.TscAgent/handoffs") == SERVING
    except grpc.RpcError:
        return False  # the agent names its services one after the other


def _port(log: pathlib.Path, agent: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 60
    while True:
        found = re.search(r"serving address=127\.0\.0\.1:0 port=(\d+)", log.read_text())
        if found is not None:
            return found.group(1)
        assert agent.poll() is None and time.monotonic() < deadline, log.read_text()
        threading.Event().wait(0.1)
