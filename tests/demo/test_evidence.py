"""The demo fails when something that must hold does not: one row for each."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from .evidence import Evidence, Probe, Step, Vcpu, as_text, failures
from .lab import find_truth

VCPU = Vcpu(vcpu_id=0, guest_tsc_before_ticks=1000, guest_tsc_after_ticks=2000, offset_source_ticks=5,
            offset_destination_ticks=(1 << 64) - 5, tsc_adjust_before_ticks=-7, tsc_adjust_after_ticks=-7,
            phase_error_ticks=0, guest_rounds=10, guest_backward_steps=0)
PROBE = Probe(offset_ns=1500, offset_error_ns=300, round_trip_ns=650, rounds=8, duration_ns=20_000)
GOOD = Evidence(kvm="real", vcpus=[VCPU], guest_khz=2_600_000, phase_error_ticks_max=0, phase_spread_ticks=0,
                guest_backward_steps=0, guest_warps=0, elapsed_ns=1000,
                elapsed_basis="ELAPSED_BASIS_CLOCKS_AND_PROBE", commit_wait_ns=0, probe=PROBE, blackout_ms=1.0,
                error_bound_ns=500, error_bound={"total_ns": 500, "rate_ns": 500}, true_error_ns=-500, true_error_uncertainty_ns=1,
                kvmclock_true_error_ns=510, kvmclock_uncertainty_ns=10, kvmclock_stated_error_ns=0, master_clock=True,
                get_rpc_us=1.0, set_rpc_us=1.0, handoff_ms=1.0, warnings=[], steps=[Step("boot", 1.0)])


def vcpu(**changes: Any) -> dict[str, Any]:
    return {"vcpus": [dataclasses.replace(VCPU, **changes)]}


def test_good_evidence_passes() -> None:
    assert failures(GOOD) == []
    assert "PASSED" in as_text(GOOD)


@pytest.mark.parametrize("changes, words", [
    ({"phase_error_ticks_max": 1}, "phase"),
    ({"guest_backward_steps": 1}, "go back"),
    ({"guest_warps": 2}, "2 warps"),
    ({"probe": None}, "nobody probed"),
    ({"true_error_ns": 501}, "more than the stated"),
    ({"true_error_ns": -501}, "more than the stated"),
    ({"kvmclock_true_error_ns": -511}, "kvmclock"),
    (vcpu(guest_tsc_after_ticks=999), "lower than when it was captured"),
    (vcpu(tsc_adjust_after_ticks=0), "TSC_ADJUST"),
    (vcpu(guest_rounds=0), "did not run"),
])
def test_each_broken_promise_fails(changes: dict[str, Any], words: str) -> None:
    broken = dataclasses.replace(GOOD, **changes)
    assert any(words in failure for failure in failures(broken))
    assert "FAILED" in as_text(broken)


@pytest.mark.parametrize("changes, words", [
    ({}, "the two hosts' clocks and the probe"),
    ({}, "+1.500 us +-300 ns off the source's; 8 rounds in 20.000 us, round trip 650 ns"),
    ({"commit_wait_ns": 2_000_000}, "the probe, after waiting for 2.000 ms"),
    ({"elapsed_basis": "ELAPSED_BASIS_CLOCKS"}, "the two hosts' clocks, which the probe bears out\n"),
    ({"elapsed_basis": "ELAPSED_BASIS_CLOCKS", "probe": None}, "the two hosts' clocks\n"),
    ({"elapsed_basis": "SOMETHING_NEW"}, "SOMETHING_NEW"),
])
def test_the_report_says_how_time_was_reckoned(changes: dict[str, Any], words: str) -> None:
    assert words in as_text(dataclasses.replace(GOOD, **changes))


def test_the_probe_is_read_from_what_tscctl_says() -> None:
    said = {name: str(value) for name, value in dataclasses.asdict(PROBE).items()}  # 64-bit values may be strings
    assert Probe.of({"probe": said}) == PROBE
    assert Probe.of({"probe": None}) is None


def test_a_tsc_that_wraps_has_not_gone_back() -> None:
    wrapped = dataclasses.replace(GOOD, **vcpu(guest_tsc_before_ticks=(1 << 64) - 10, guest_tsc_after_ticks=10))
    assert failures(wrapped) == []


def test_the_json_report_has_what_is_promised() -> None:
    report = json.loads(json.dumps(GOOD.as_json()))
    assert report["kvm"] == "real" and report["vcpus"] == 1
    for name in ("phase_error_ticks_max", "guest_backward_steps", "guest_warps", "elapsed_ns", "error_bound_ns",
                 "true_error_ns", "get_rpc_us", "set_rpc_us", "handoff_ms"):
        assert isinstance(report[name], (int, float)), name


def test_truth_is_the_difference_to_a_vm_that_had_stayed() -> None:
    clock = {"host_tsc_ticks": 1000, "ns": 0, "tsc_before_ticks": 0, "tsc_after_ticks": 0}
    source = {"vcpus": [{"id": 0, "tsc_offset_ticks": 50}, {"id": 1, "tsc_offset_ticks": 60}], "kvmclock": clock}
    # Node 2's TSC is 30 ahead; vCPU 0 came 4 too early, vCPU 1 exactly. 2000 ticks of 1 GHz later kvmclock is 2 us on.
    destination = {"vcpus": [{"id": 0, "tsc_offset_ticks": 16}, {"id": 1, "tsc_offset_ticks": 30}],
                   "kvmclock": {**clock, "host_tsc_ticks": 3030, "ns": 2005}}
    truth = find_truth(source, destination, 30, 2, 1_000_000)
    assert truth.tsc_error_ticks == [-4, 0]
    assert truth.phase_error_ticks_max == 4
    assert truth.kvmclock_error_ns == 5
