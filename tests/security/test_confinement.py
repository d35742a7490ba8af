"""What a serving agent has given up, and that it goes on serving without it. Runs natively; the filter itself has its unit
test, and every agent on a node runs with --seccomp kill."""

from __future__ import annotations

import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator

import pytest

from ..e2e.support import wait_for
from ..operations.test_agent_process import AgentProcess

# What /proc/PID/status says of a thread.
FILTERED, NO_FILTER = "2", "0"
SYSTEM_USERS = ("daemon", "games", "nobody")


@pytest.fixture
def directory() -> Iterator[pathlib.Path]:
    with tempfile.TemporaryDirectory(prefix="agent") as name:  # short enough for a socket
        yield pathlib.Path(name)


def _of_every_thread(agent: AgentProcess, field: str) -> set[str]:
    texts = [path.read_text() for path in pathlib.Path(f"/proc/{agent.process.pid}/task").glob("*/status")]
    assert len(texts) > 5, "an agent has many threads"
    return {re.findall(rf"^{field}:\s+(\S+)$", text, re.MULTILINE)[0] for text in texts}


@pytest.mark.parametrize("how", ["on", "kill"])
def test_every_thread_of_a_serving_agent_is_confined(directory: pathlib.Path, how: str) -> None:
    with AgentProcess(directory, "--seccomp", how) as agent:
        agent.ask_for_nothing()
        assert _of_every_thread(agent, "Seccomp") == {FILTERED}
        assert _of_every_thread(agent, "NoNewPrivs") == {"1"}
        assert f"seccomp={how}" in agent.log()


def test_an_operator_may_go_without(directory: pathlib.Path) -> None:
    before = re.findall(r"^Seccomp:\s+(\S+)$", pathlib.Path("/proc/self/status").read_text(), re.MULTILINE)
    if before != [NO_FILTER]:
        pytest.skip("this test itself runs under a filter, and so does what it starts")
    with AgentProcess(directory, "--seccomp", "off") as agent:
        assert _of_every_thread(agent, "Seccomp") == {NO_FILTER}


def test_an_aborted_agent_leaves_no_core(directory: pathlib.Path) -> None:
    unlimited = resource.getrlimit(resource.RLIMIT_CORE)[1]
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (unlimited, unlimited))
    try:
        if not os.WCOREDUMP(_status_after_abort(subprocess.Popen(["sleep", "600"], cwd=directory).pid)):
            pytest.skip("this machine dumps no core of any process")
        with AgentProcess(directory) as agent:
            assert not os.WCOREDUMP(_status_after_abort(agent.process.pid))
            agent.process.returncode = -signal.SIGABRT  # it was waited for here
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


def _status_after_abort(pid: int) -> int:
    os.kill(pid, signal.SIGABRT)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGABRT
    return status


def test_a_confined_agent_tells_systemd_and_the_watchdog(directory: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{directory}/notify.sock")
        manager.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", f"{directory}/notify.sock")
        monkeypatch.setenv("WATCHDOG_USEC", "300000")
        with AgentProcess(directory) as agent:
            said = [manager.recv(4096).decode() for _ in range(4)]
            assert said[0].startswith("READY=1") and said[1:] == ["WATCHDOG=1"] * 3
            agent.process.terminate()
            while not manager.recv(4096).startswith(b"STOPPING=1"):
                pass
            assert agent.process.wait(20) == 0


def test_a_confined_agent_serves_metrics(directory: pathlib.Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with AgentProcess(directory, "--metrics", f"127.0.0.1:{port}"):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            assert b"tsc_agent_" in answer.read()


def test_a_confined_agent_reads_users_names_anew(directory: pathlib.Path) -> None:
    """For which glibc may load libraries, and ask other processes."""
    with AgentProcess(directory, "--attach", "on", config=f"attach-user: {SYSTEM_USERS[0]}\n") as agent:
        for user in SYSTEM_USERS[1:]:
            agent.config.write_text(f"attach-user: {user}\n")
            assert agent.tscctl("reload").json["needs_restart"] == [f"attach-user: {user}"]


def test_a_confined_agent_watches_a_clock_that_comes_and_goes(directory: pathlib.Path) -> None:
    """chronyd's own socket, in a directory of its own, which is not there."""
    with AgentProcess(directory, "--clock", f"chrony:{directory}/chronyd.sock") as agent:
        wait_for(lambda: "trusted" in agent.tscctl("host").json["host"]["clock"], "the clock's status")
        clock = agent.tscctl("host").json["host"]["clock"]
        assert not clock["trusted"]


def test_a_confined_agent_lives_with_a_damaged_journal(directory: pathlib.Path) -> None:
    journal = directory / "journal/journal.db"
    journal.parent.mkdir()
    journal.write_bytes(b"no database" * 400)
    with AgentProcess(directory) as agent:
        assert agent.tscctl("host").status == 0
        agent.process.terminate()
        assert agent.process.wait(20) == 0
