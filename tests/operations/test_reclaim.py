"""A VM that was handed over and comes back without a handoff: how it is refused, and an operator's way out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ..demo.lab import TscctlResult, tscctl
from ..e2e.support import error_of
from ..programs import LabError, SimAgent

HOSTS = ("vmx:2100000:scaling:wall_error_ns=-9000", "svm:3500000:scaling:wall_error_ns=15000")
VM = "db-7"


class Pair:
    """Two agents on simulated hosts, and a VM that was handed from the first to the second and has left that since."""

    def __init__(self, agent: SimAgent) -> None:
        self.agent = agent
        self.here, self.there = agent.addresses
        agent.request("create_vm", host=0, vm=VM, vcpus=2, phases=[0, 700])
        self.await_there()
        assert self.hand_over().status == 0
        agent.request("destroy_vm", host=1, vm=VM)

    def await_there(self) -> None:
        self.agent.request("create_vm", host=1, vm=VM, vcpus=2, awaits_handoff=True)

    def hand_over(self, *options: str) -> TscctlResult:
        return tscctl("-o", "json", "handoff", VM, "--from", self.here, "--to", self.there, "--no-probe", *options)

    def ctl(self, address: str, *arguments: str) -> TscctlResult:
        return tscctl("--agent", address, "-o", "json", *arguments)

    def vm(self, address: str) -> dict[str, Any]:
        return next(vm for vm in self.ctl(address, "vms").json["vms"] if vm["vm_id"] == VM)


@pytest.fixture
def pair() -> Iterator[Pair]:
    with SimAgent(*(word for host in HOSTS for word in ("--host", host))) as agent:
        yield Pair(agent)


def test_a_vm_that_came_back_is_barred_until_it_is_reclaimed_and_then_like_any_other(pair: Pair) -> None:
    barred = pair.vm(pair.here)
    assert not barred["may_run"] and "released to another host" in barred["may_not_run_reason"]
    pair.agent.request("create_vm", host=1, vm="another", vcpus=2, awaits_handoff=True)
    assert error_of(pair.hand_over("--to-vm", "another"))["reason"] == "HANDOFF_CONFLICT"
    with pytest.raises(LabError, match="released to another host"):
        pair.agent.request("resume", host=0, vm=VM)

    said = pair.ctl(pair.here, "reclaim", VM, "--from", pair.there).json
    assert (said["handoff_id"], said["repeated"], said["disowned_by"]) == (barred["handoff_id"], False, pair.there)
    assert pair.ctl(pair.here, "reclaim", VM, "--from", pair.there).json["repeated"]
    pair.agent.request("resume", host=0, vm=VM)
    pair.agent.request("pause", host=0, vm=VM)
    # Whoever begins it there again is told that it is not that host's.
    pair.await_there()
    with pytest.raises(LabError, match="disowned"):
        pair.agent.request("resume", host=1, vm=VM)
    assert pair.hand_over().json["phase_error_ticks"] == 0
    assert (pair.vm(pair.here)["may_run"], pair.vm(pair.there)["may_run"]) == (False, True)


def test_a_vm_that_is_still_there_is_not_reclaimed(pair: Pair) -> None:
    pair.await_there()
    assert error_of(pair.ctl(pair.here, "reclaim", VM, "--from", pair.there))["reason"] == "CLAIM_REFUSED"
    assert not pair.vm(pair.here)["may_run"]


def test_without_the_other_agent_it_takes_the_operators_word(pair: Pair) -> None:
    assert pair.ctl(pair.here, "reclaim", VM).status == 2
    assert not pair.vm(pair.here)["may_run"]
    assert pair.ctl(pair.here, "reclaim", VM, "--runs-nowhere-else", "--epoch-above", "9").json["epoch"] == 10
    assert pair.vm(pair.here)["may_run"]
    # The other host is back: before a VMM starts there, its agent is told.
    handoff = pair.vm(pair.here)["handoff_id"]
    assert not pair.ctl(pair.there, "disown", VM, "--handoff", handoff).json["repeated"]
    pair.await_there()
    assert pair.hand_over().status == 0
