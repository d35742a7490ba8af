"""A Linux guest in a stock QEMU migrates between two nodes: its TSCs arrive as if it had stayed, and whatever fails, it
runs on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..demo.lab import Lab, tscctl
from ..demo.qemu import CLOCK_BOUND_NS, PHASES, VCPUS, Comparison
from ..demo.qemu_evidence import QemuEvidence, qemu_failures
from ..guest.pair import MIGRATION_TIMEOUT_S, MigratingGuest


def failures_of(comparison: Comparison, guest: MigratingGuest, vcpus: int, times: int,
                phases: tuple[tuple[int, int], ...]) -> list[str]:
    case = comparison.case(guest, vcpus, times, phases)
    return qemu_failures(QemuEvidence("", "", comparison.truth_error_us, [case], []))


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Iterator[MigratingGuest]:
    with MigratingGuest(lab, "short", 2) as guest:
        yield guest


def test_the_handoff_mends_what_a_plain_migration_breaks(comparison: Comparison, guest: MigratingGuest) -> None:
    """Out of phase, because that shows all of it: the lost downtime, the lost phase, the warps."""
    assert failures_of(comparison, guest, 2, 1, PHASES) == []


def test_a_refused_handoff_leaves_the_guest_running_where_it_was(lab: Lab, guest: MigratingGuest) -> None:
    """No clock is right to within a nanosecond, so the destination refuses the state after QEMU has moved the guest."""
    lab.wait_clock_trusted(CLOCK_BOUND_NS)
    destination = guest.destination()
    before = guest.guest.offsets()
    refused = tscctl(*guest.command(destination, "--max-error", "1ns"), timeout=MIGRATION_TIMEOUT_S)
    assert refused.status == 1, refused
    error = refused.error["error"]
    assert error["reason"] == "CLOCK_BOUND_EXCEEDED", error
    assert "runs on the source again" in error["situation"]
    assert guest.guest.qmp("query-status")["status"] == "running"
    assert guest.guest.offsets() == before
    assert destination.ended(), "its copy of the guest must not be left to anybody"
    guest.guest.ask("reset")
    assert guest.guest.wait_rounds(1000).backward_steps == 0


def test_what_is_not_fit_is_refused_before_anything_moves(lab: Lab, guest: MigratingGuest) -> None:
    destination = guest.destination()
    stranger = tscctl(*guest.command(destination, vm="nobody"))
    assert stranger.status == 1 and stranger.error["error"]["reason"] == "QEMU_NOT_FIT", stranger
    assert "its VM is not nobody but has the name" in stranger.error["error"]["message"]
    lab.agents[1 - guest.at].stop()
    silent = tscctl(*guest.command(destination))
    assert silent.status == 3 and silent.error["error"]["reason"] == "AGENT_UNREACHABLE", silent
    lab.agents[1 - guest.at].restart()
    lab.agents[1 - guest.at].wait_serving()
    assert guest.guest.qmp("query-status")["status"] == "running"
    assert destination.qmp("query-status")["status"] == "inmigrate"
    destination.__exit__(None, None, None)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("vcpus", VCPUS)
def test_ten_migrations_of_each_kind(lab: Lab, comparison: Comparison, vcpus: int) -> None:
    with MigratingGuest(lab, f"long{vcpus}", vcpus) as guest:
        for phases in ((), PHASES):
            assert failures_of(comparison, guest, vcpus, 10, phases) == []
