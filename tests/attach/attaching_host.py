"""A node whose agent attaches to the stock QEMUs there. Not thread-safe."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..cluster import Node
from ..demo.lab import AGENT, Agent, TscctlResult, tscctl
from ..programs import binary
from .node_qemu import NodeQemu

MORTAL_AGENT = "server/agent/tsc-agent-with-failpoints"
METRICS_PORT = 9464
OPTIONS = ["--clock", "fixed:50us", "--metrics", f"10.0.2.15:{METRICS_PORT}", "--observe-every", "300ms"]
MOVE_TICKS = 260_000


class Host:
    """A node and its agent, which a test may start anew with other options."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.agent = Agent(node, [*OPTIONS, "--attach", "on"])
        self.agent.wait_serving()
        self._metrics = f"http://127.0.0.1:{node.forward(METRICS_PORT)}/metrics"

    def ctl(self, *arguments: object) -> TscctlResult:
        return tscctl("--agent", self.agent.address, "-o", "json", *map(str, arguments))

    def vms(self) -> dict[str, dict[str, Any]]:
        return {vm["vm_id"]: vm for vm in self.ctl("vms").json["vms"]}

    def refusal(self, *arguments: object) -> str:
        """With which reason a call is refused."""
        result = self.ctl(*arguments)
        assert result.status == 1, result
        return str(result.error["error"]["reason"])

    def wait_port(self, vm_id: str, port: str = "PORT_ATTACHED", vcpus: int = 2) -> dict[str, Any]:
        """Until all vCPUs have been found, which QEMU makes one by one."""
        found: dict[str, Any] = {}

        def is_there() -> bool:
            nonlocal found
            found = self.vms().get(vm_id, {})
            return found.get("port") == port and found["vcpu_count"] == vcpus

        wait_for(is_there, f"{vm_id} by {port}")
        return found

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(self._metrics, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(name + " ")))

    def attached_for(self, vm_id: str) -> list[str]:
        """On whose behalf the agents of this node have attached to the VM."""
        return re.findall(rf'attaching vm={vm_id} .*qemu-system-x86_64 for="?([^"\n]*)"?$', self.agent.process.log(),
                          re.MULTILINE)

    @contextmanager
    def with_options(self, *options: str, attach: str = "on") -> Iterator[None]:
        """Another agent with the same journal; the first one's options again afterwards."""
        before = self.agent.arguments
        self._start_anew([*OPTIONS, "--attach", attach, *options])
        try:
            yield
        finally:
            self._start_anew(before)

    def start_mortal(self, failpoint: str) -> None:
        """In its place one that dies there."""
        self.agent.stop()
        self.restart_mortal(failpoint)
        self.agent.wait_serving()

    def restart_mortal(self, failpoint: str) -> None:
        """After a death, another one that dies there. Does not wait."""
        self.agent.program = MORTAL_AGENT
        self.agent.restart(environment={"TSC_HANDOFF_FAILPOINT": failpoint})

    def wait_killed(self) -> None:
        wait_for(lambda: self.agent.process.poll() is not None, "the agent's death")
        assert self.agent.process.wait() == -signal.SIGKILL, self.agent.process.log_tail()

    def start_again(self) -> None:
        """The delivered one, after the death of the mortal one."""
        self.wait_killed()
        self.agent.program = AGENT
        self.agent.restart()
        self.agent.wait_serving()

    def _start_anew(self, arguments: list[str]) -> None:
        self.agent.stop()
        self.agent.arguments = arguments
        self.agent.restart()
        self.agent.wait_serving()


def wait_for(condition: Callable[[], bool], what: str, timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        pause.wait(0.1)


def move_vcpu(qemu: NodeQemu, vcpu: int, ticks: int) -> None:
    """Moves one vCPU's TSC behind the agent's back."""
    done = qemu.node.run([binary("tests/attach/attach_probe"), str(qemu.pid), "move", str(ticks), str(vcpu)])
    assert "after" in json.loads(done.stdout), done
