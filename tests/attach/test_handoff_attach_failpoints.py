"""The agent is killed inside an attach during a handoff from one stock QEMU to another: while it captures the source, reads
the destination, writes it, or undoes what it had written. Another agent and a fresh tscctl finish the handoff or undo it,
and both QEMUs go on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from ..cluster import Cluster
from ..demo.lab import TscctlResult
from .attaching_host import MOVE_TICKS, Host, move_vcpu
from .node_qemu import NodeQemu
from .steps import writes_all

# The injections of a handoff whose two VMs are one agent's, in their order.
INJECTIONS = ("capture", "look", "write")
_numbers = itertools.count(1)


class Death(NamedTuple):
    """Where the agent dies, and then, if at all, the next one while it undoes."""

    injection: str
    step: str
    goal: str
    undoing: str = ""

    @property
    def failpoint(self) -> str:
        return f"attach.{self.step}:{INJECTIONS.index(self.injection) + 1}"

    def __str__(self) -> str:
        return "-".join(filter(None, self))


DEATHS = (
    Death("write", "payload_written", "abort"),
    Death("write", "ran", "resume"),
)
MORE_DEATHS = (
    Death("capture", "mapped", "abort"),
    Death("look", "redirected", "abort"),
    Death("write", "ran", "abort", "mapped"),
    Death("capture", "prepared", "resume"),
    Death("capture", "ran", "resume"),
    Death("capture", "stub_cleared", "abort"),
    Death("look", "stub_cleared", "resume"),
    Death("write", "prepared", "resume"),
    Death("write", "told_to_go", "resume"),
    Death("write", "ran", "abort"),
    Death("write", "registers_restored", "resume"),
    Death("write", "stub_cleared", "abort"),
    Death("write", "ran", "resume", "told_to_go"),
)


class Shared:
    """One guest's two homes on one host. The owner is the one that may run it."""

    def __init__(self, host: Host, qemus: dict[str, NodeQemu]) -> None:
        self.host = host
        self.qemus = qemus
        self.owner, self.other = qemus
        for vm_id, qemu in qemus.items():
            host.wait_port(vm_id)
            qemu.qmp("stop")
        assert self.hand_over("first").status == 0  # before it two VMs of their own, which both may run
        self.swap()
        self.fingerprints = {vm_id: qemu.fingerprint(calls=True) for vm_id, qemu in qemus.items()}

    def hand_over(self, handoff_id: str) -> TscctlResult:
        return self.host.ctl("handoff", self.owner, *self.ways, "--to-vm", self.other, "--no-probe", "--id", handoff_id)

    def finish(self, handoff_id: str, goal: str) -> TscctlResult:
        """What a fresh orchestrator does that knows the handoff's id and no more."""
        result = self.host.ctl(goal, handoff_id, *self.ways, *(["--no-probe"] if goal == "resume" else []))
        if goal == "resume" and "HANDOFF_NOT_FOUND" in result.stderr:
            return self.hand_over(handoff_id)
        return result

    @property
    def ways(self) -> list[str]:
        return ["--from", self.host.agent.address, "--to", self.host.agent.address]

    def swap(self) -> None:
        self.owner, self.other = self.other, self.owner

    def offsets(self) -> tuple[list[int], list[int]]:
        return self.qemus[self.owner].offsets(), self.qemus[self.other].offsets()

    def may_run(self) -> set[str]:
        vms = self.host.vms()
        return {vm_id for vm_id in self.qemus if vms[vm_id]["may_run"]}

    def wait_ports(self) -> None:
        for vm_id in self.qemus:
            self.host.wait_port(vm_id)

    def check_that_the_qemus_live(self) -> None:
        for vm_id, qemu in self.qemus.items():
            qemu.check_that_it_answers()
            qemu.check_unchanged(self.fingerprints[vm_id], vdso=False)


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    with Cluster(nodes=1) as cluster:
        node = cluster.nodes[0]
        with NodeQemu(node, name="one", vcpus=2) as one, NodeQemu(node, name="two", vcpus=2) as two:
            yield Shared(Host(node), {"one": one, "two": two})


@pytest.mark.parametrize("death", [*DEATHS, *(pytest.param(death, marks=pytest.mark.slow) for death in MORE_DEATHS)],
                         ids=str)
def test_an_agent_dies_in_a_handoff(shared: Shared, death: Death) -> None:
    host, handoff_id = shared.host, f"died-{next(_numbers)}"
    move_vcpu(shared.qemus[shared.owner], 1, MOVE_TICKS)
    before = shared.offsets()
    assert before[0] != before[1]
    host.start_mortal(death.failpoint)
    shared.wait_ports()
    assert shared.hand_over(handoff_id).status != 0
    host.wait_killed()
    written = death.injection == "write" and writes_all(death.step)
    assert shared.offsets() == (before[0], before[0] if written else before[1])
    shared.check_that_the_qemus_live()
    if death.undoing:
        # It finds the handoff and begins to undo it by itself: looks, then writes.
        host.restart_mortal(f"attach.{death.undoing}:2")
        host.wait_killed()
        undone = writes_all(death.undoing)
        assert shared.offsets() == (before[0], before[1] if undone else before[0])
        shared.check_that_the_qemus_live()
    host.start_again()
    shared.wait_ports()
    assert shared.may_run() <= {shared.owner}
    ended = shared.finish(handoff_id, death.goal)
    begun = death.injection != "capture"
    assert ended.status == 0 or (death.goal == "abort" and not begun and "HANDOFF_NOT_FOUND" in ended.stderr), ended
    moved = death.goal == "resume"
    assert shared.offsets() == (before[0], before[0] if moved else before[1])
    assert host.ctl("handoffs", "--pending").json.get("handoffs", []) == []
    if moved:
        shared.swap()
    assert shared.may_run() == {shared.owner}
    shared.check_that_the_qemus_live()


def test_the_qemus_that_survived_all_of_that_run(shared: Shared) -> None:
    qemu = shared.qemus[shared.owner]
    seen = qemu.offsets()
    qemu.qmp("cont")
    qemu.check_that_it_answers("running")
    assert qemu.offsets() == seen
