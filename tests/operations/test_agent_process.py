"""tsc-agent as a process: its configuration, log, draining and end. Runs natively; what it needs no KVM for."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import pytest

from ..demo.lab import CONFINED, TscctlResult, tscctl
from ..e2e import health
from ..e2e.support import error_of, wait_for
from ..programs import binary

AGENT = "server/agent/tsc-agent"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
BURST, CALLS = 50, 400
TSCCTL = "client/tscctl/tscctl"
SHIPPED = pathlib.Path(__file__).resolve().parents[2] / "deploy/config"


def _unless_given(arguments: Sequence[str]) -> list[str]:
    """What is set for every agent here, but for flags that a test gives."""
    flags = [("--metrics", ""), ("--clock", "fixed:1us"), CONFINED]
    return [word for flag in flags if flag[0] not in arguments for word in flag]


class AgentProcess:
    """Ends with the `with` block."""

    def __init__(self, directory: pathlib.Path, *arguments: str, config: str = "") -> None:
        self.config = directory / "agent.yaml"
        self.config.write_text(config)
        self.address = f"unix:{directory}/agent.sock"
        self._log = directory / "log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [binary(AGENT), "--config", str(self.config), "--listen", self.address, "--vmm-socket", f"{directory}/vmm.sock",
                 "--journal", f"{directory}/journal/journal.db", *_unless_given(arguments), *arguments],
                stderr=log)

    def __enter__(self) -> AgentProcess:
        wait_for(lambda: self.process.poll() is not None or self.tscctl("host").status == 0, "the agent serves")
        assert self.process.poll() is None, self.log()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def log(self) -> str:
        return self._log.read_text()

    def tscctl(self, *arguments: str) -> TscctlResult:
        return tscctl("--agent", self.address, "-o", "json", *arguments)

    def ask_for_nothing(self, times: int = 1) -> None:
        """Calls that are refused: there is no VM "none", which is what the request says: field 1, a string."""
        with grpc.insecure_channel(self.address) as channel:
            get_vm = channel.unary_unary("/tschandoff.v1.TscAgent/GetVm")
            for _ in range(times):
                with pytest.raises(grpc.RpcError):
                    get_vm(b"\x0a\x04none", timeout=20, metadata=[("traceparent", TRACEPARENT)])


@pytest.fixture
def directory() -> Iterator[pathlib.Path]:
    with tempfile.TemporaryDirectory(prefix="agent") as name:
        yield pathlib.Path(name)


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(("config", "said"), [
    ("max-error: 1ms\nmax-elapsd: 1m\n", r"agent\.yaml:2: max-elapsd: no such setting"),
    ("max-error: soon\n", r"agent\.yaml:1: max-error: \"soon\" is no duration"),
    ("log-level: loud\n", r"agent\.yaml:1: log-level: "),
    ("- a\n", r"agent\.yaml:1: lines of KEY: VALUE were expected"),
])
def test_a_faulty_configuration_stops_the_start_and_is_said_with_its_line(
        directory: pathlib.Path, config: str, said: str) -> None:
    agent = AgentProcess(directory, config=config)
    assert agent.process.wait(20) == 2
    assert re.search(said, agent.log()), agent.log()


@pytest.mark.parametrize("how", ["SIGHUP", "tscctl"])
def test_a_changed_configuration_takes_effect_and_a_faulty_one_does_not(directory: pathlib.Path, how: str) -> None:
    with AgentProcess(directory, config="log-level: warn\n") as agent:
        def reload() -> TscctlResult | None:
            if how == "tscctl":
                return agent.tscctl("reload")
            agent.process.send_signal(signal.SIGHUP)
            return None

        agent.config.write_text("log-level: info\nmax-vms: 7\n")
        result = reload()
        wait_for(lambda: "a setting has changed setting=\"log-level: info\"" in agent.log(), "the level changes")
        wait_for(lambda: "takes effect at the next start setting=\"max-vms: 7\"" in agent.log(), "the rest is named")
        if result is not None:
            assert result.json == {"changed": ["log-level: info"], "needs_restart": ["max-vms: 7"]}
        agent.config.write_text("log-level: info\nmax-vms: none\n")
        result = reload()
        wait_for(lambda: "agent.yaml:2: max-vms: " in agent.log(), "the fault is said")
        if result is not None:
            error = error_of(result)
            assert error["reason"] == "CONFIG_INVALID" and "agent.yaml:2: max-vms: " in error["message"]
        assert agent.tscctl("host").status == 0


def test_a_faulty_policy_stops_the_start_and_is_said_with_its_line(directory: pathlib.Path) -> None:
    policy = directory / "policy.yaml"
    policy.write_text("bindings:\n  - role: admin\n    users: no-such-user-here\n")
    agent = AgentProcess(directory, "--policy", str(policy))
    assert agent.process.wait(20) == 2
    assert "policy.yaml:3: users: \"no-such-user-here\" is no user of this host" in agent.log()


def test_a_changed_policy_takes_effect_and_a_faulty_one_does_not(directory: pathlib.Path) -> None:
    policy = directory / "policy.yaml"
    policy.write_text(f"bindings:\n  - role: admin\n    users: {os.getuid()}\n")
    with AgentProcess(directory, "--policy", str(policy)) as agent:
        policy.write_text("bindings:\n  - role: boss\n")
        error = error_of(agent.tscctl("reload"))
        assert error["reason"] == "CONFIG_INVALID" and "policy.yaml:2: role: one of" in error["message"]
        assert agent.tscctl("vms").status == 0
        # By SIGHUP, since whoever takes his own role away gets no answer to the next question.
        policy.write_text(f"bindings:\n  - role: peer\n    users: {os.getuid()}\n")
        agent.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "a setting has changed setting=\"policy: " in agent.log(), "the policy changes")
        denied = error_of(agent.tscctl("vms"))
        assert denied["reason"] == "NOT_AUTHORIZED"
        assert f"uid {os.getuid()} " in denied["message"] and "the role viewer, and this caller has peer" in denied["message"]


def test_the_audits_file_is_opened_anew_for_logrotate(directory: pathlib.Path) -> None:
    audit = directory / "audit.log"
    with AgentProcess(directory, "--audit-log", str(audit)) as agent:
        assert agent.tscctl("drain").status == 0
        line = json.loads(audit.read_text())
        assert (line["who"], line["rpc"], line["result"]) == (f"uid {os.getuid()}", "Drain", "ok")
        audit.rename(directory / "audit.log.1")
        agent.process.send_signal(signal.SIGHUP)
        wait_for(audit.exists, "a new file is made")
        assert agent.tscctl("undrain").status == 0
        assert json.loads(audit.read_text())["rpc"] == "Drain"
        assert len((directory / "audit.log.1").read_text().splitlines()) == 1


def test_the_log_is_json_with_the_callers_trace_and_cannot_be_flooded(directory: pathlib.Path) -> None:
    with AgentProcess(directory, "--log-format", "json") as agent:
        agent.ask_for_nothing(CALLS)
        lines = json_lines(agent.log())
        refused = [line for line in lines if line["event"] == "refused"]
        assert BURST <= len(refused) < CALLS / 2
        assert refused[0]["level"] == "warn" and refused[0]["rpc"] == "GetVm" and refused[0]["vm"] == "none"
        assert refused[0]["reason"] == "VM_NOT_FOUND" and refused[0]["trace"] == TRACE
        assert [line["address"] for line in lines if line["event"] == "serving"] == [agent.address]
        # How many were left out is said with the next one, which is let through after a while.
        def said() -> int:
            agent.ask_for_nothing()
            return sum(line.get("lines_dropped_before", 0) for line in json_lines(agent.log()))
        wait_for(lambda: said() > 0, "the lines that were dropped are counted")


def test_the_log_is_text_for_people(directory: pathlib.Path) -> None:
    with AgentProcess(directory) as agent:
        agent.ask_for_nothing()
        assert re.search(rf"\[warning\] refused rpc=GetVm .*reason=VM_NOT_FOUND why=\".*\" trace={TRACE} vm=none$", agent.log(),
                         re.MULTILINE), agent.log()


def test_a_drained_agent_says_so_and_begins_again(directory: pathlib.Path) -> None:
    with AgentProcess(directory) as agent:
        def status() -> int:
            return health.health(agent.address, health.AGENT_SERVICE)
        wait_for(lambda: status() == health.SERVING, "the clock is trusted")
        assert agent.tscctl("drain").json == {"open_handoffs": 0}
        assert status() == health.NOT_SERVING and agent.tscctl("host").json["host"]["draining"]
        assert agent.tscctl("undrain").status == 0
        assert status() == health.SERVING and not agent.tscctl("host").json["host"].get("draining", False)


def test_its_program_asks_a_running_agent_for_its_health(directory: pathlib.Path) -> None:
    def status(what: str, address: str) -> int:
        return subprocess.run([binary(AGENT), "--health", what, "--listen", address], capture_output=True, timeout=30).returncode

    with AgentProcess(directory) as agent:
        assert status("agent", agent.address) == 0
        wait_for(lambda: status("handoffs", agent.address) == 0, "no handoff is undecided")
        agent.process.kill()
        agent.process.wait()
        assert status("agent", agent.address) == 1
    assert status("agent", "127.0.0.1:1") == 2  # where a certificate would be needed


def test_a_stop_with_nothing_open_is_quick_and_in_order(directory: pathlib.Path) -> None:
    with AgentProcess(directory) as agent:
        agent.process.terminate()
        assert agent.process.wait(10) == 0
        assert "draining: no handoff begins" in agent.log()


def test_the_shipped_contexts_are_the_printed_ones() -> None:
    printed = subprocess.run([binary(TSCCTL), "contexts", "--example"], capture_output=True, text=True, check=True).stdout
    assert (SHIPPED / "tscctl.yaml").read_text() == printed, "write them anew: tscctl contexts --example > tscctl.yaml"


def test_the_shipped_configuration_is_the_printed_one_and_sets_nothing(directory: pathlib.Path) -> None:
    printed = subprocess.run([binary(AGENT), "--print-config"], capture_output=True, text=True, check=True).stdout
    assert (SHIPPED / "agent.yaml").read_text() == printed, "write it anew: tsc-agent --print-config > agent.yaml"
    with AgentProcess(directory, config=printed) as agent:
        assert agent.tscctl("reload").json == {"changed": [], "needs_restart": []}
