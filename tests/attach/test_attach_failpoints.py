"""The agent is killed at every failpoint of an attach, while it writes a stock QEMU's TSCs: QEMU goes on, its TSCs are
written as a whole or not at all, and the next agent finds nothing in its way. test_failpoints.py in tests/e2e knows that
these failpoints are here."""

from __future__ import annotations

import pathlib
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from ..cluster import Cluster, Node
from ..demo.lab import Agent, TscctlResult, tscctl
from ..e2e.support import wait_for
from .node_qemu import NodeQemu
from .steps import EACH_STEP, writes_all

AGENT = "server/agent/tsc-agent-with-failpoints"
VARIABLE = "TSC_HANDOFF_FAILPOINT"
VM = "survivor"
# Whether a job is looked at while it runs is chance.
ATTEMPTS = 20


class MortalHost:
    """A node with a paused QEMU and an agent that dies where it is told to."""

    def __init__(self, node: Node, directory: pathlib.Path) -> None:
        self.qemu = NodeQemu(node, name=VM, vcpus=2)
        self.qemu.qmp("stop")
        self.agent = Agent(node, ["--clock", "fixed:50us", "--attach", "on", "--metrics", ""], AGENT)
        self.agent.wait_serving()
        self._wait_attached()
        self.file = directory / "survivor.tsc"
        assert self.ctl("get", VM, "--out", self.file).status == 0

    def ctl(self, *arguments: object) -> TscctlResult:
        return tscctl("--agent", self.agent.address, "-o", "json", *map(str, arguments))

    def write(self) -> TscctlResult:
        """The guest's TSCs to what they were at the beginning, which moves all offsets alike."""
        return self.ctl("set", VM, "--in", self.file, "--mode", "exact")

    def begin(self, armed: str = "") -> None:
        """Another agent, on the same journal."""
        if self.agent.process.poll() is None:
            self.agent.process.kill()
            self.agent.process.wait()
        self.agent.restart(environment={VARIABLE: armed} if armed else None)
        self.agent.wait_serving()
        self._wait_attached()

    def _wait_attached(self) -> None:
        def listed() -> dict[str, Any]:
            return {vm["vm_id"]: vm["port"] for vm in self.ctl("vms").json["vms"]}

        wait_for(lambda: listed().get(VM) == "PORT_ATTACHED", "the agent can attach to the QEMU")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MortalHost]:
    with Cluster(nodes=1) as cluster:
        yield MortalHost(cluster.nodes[0], tmp_path_factory.mktemp("state"))


@pytest.mark.parametrize("step", EACH_STEP)
def test_an_agent_dies(host: MortalHost, step: str) -> None:
    before = host.qemu.fingerprint(calls=True)
    host.begin(f"attach.{step}")
    process = host.agent.process
    for _ in range(ATTEMPTS):
        seen = host.qemu.offsets()
        result = host.write()
        if result.status != 0:
            break
        assert step == "running", result
    assert process.wait() == -signal.SIGKILL, process.log_tail()
    host.qemu.check_that_it_answers()
    after = host.qemu.offsets()
    assert len(set(after)) == 1, "all vCPUs or none"
    assert (after != seen) == writes_all(step)
    host.qemu.check_unchanged(before, vdso=False)
    host.begin()
    assert host.write().status == 0
    assert host.qemu.offsets() not in (seen, after)
    host.qemu.check_that_it_answers()


def test_a_qemu_that_survived_all_of_that_runs(host: MortalHost) -> None:
    host.qemu.qmp("cont")
    host.qemu.check_that_it_answers("running")
