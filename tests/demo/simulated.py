"""The demo's handoff on simulated hosts: real agents, tscctl and gRPC, a fake of KVM below them (tests/sim_agent).

A simulated guest executes nothing. Its "own view" is therefore its TSC at the instants at which this program looks.
"""

from __future__ import annotations

import time
from typing import Any

from ..programs import SimAgent
from .evidence import Evidence, Probe, Vcpu
from .lab import signed, tscctl
from .real import adjusts, phases
from .steps import Steps

# An Intel host and an AMD one of another frequency; their wall clocks are off by what the stated bound has to cover.
HOSTS = ("vmx:2100000:scaling:name=sim1:wall_error_ns=-9000:bound_ns=20000",
         "svm:3500000:scaling:name=sim2:wall_error_ns=15000:bound_ns=20000")
VM = "witness"
LOOKS = 100


def truth(agent: SimAgent, host: int) -> dict[str, Any]:
    return dict(next(vm for vm in agent.request("truth", vm=VM)["vms"] if vm["host"] == host))


class Watch:
    """Looks at the simulated guest's TSCs as a guest would, and counts the steps back."""

    def __init__(self, vcpus: int) -> None:
        self.looks = [0] * vcpus
        self.backward_steps = [0] * vcpus
        self._last: list[int | None] = [None] * vcpus

    def look(self, seen: dict[str, Any]) -> None:
        for i, vcpu in enumerate(seen["vcpus"]):
            now, last = vcpu["guest_tsc_ticks"], self._last[i]
            self.looks[i] += 1
            self.backward_steps[i] += last is not None and signed(now - last) < 0
            self._last[i] = now


def run(vcpus: int) -> Evidence:
    steps = Steps()
    with steps.step("start", "starting agents on two simulated hosts, Intel at 2.1 GHz and AMD at 3.5 GHz"):
        agent = SimAgent(*(word for host in HOSTS for word in ("--host", host)))
    with agent:
        return _handoff(agent, vcpus, steps)


def _handoff(agent: SimAgent, vcpus: int, steps: Steps) -> Evidence:
    watch = Watch(vcpus)
    with steps.step("run", f"making the VM, {vcpus} vCPUs with unequal TSCs, and letting it run"):
        agent.request("create_vm", host=0, vm=VM, vcpus=vcpus, phases=phases(vcpus), tsc_adjust=adjusts(vcpus))
        agent.request("create_vm", host=1, vm=VM, vcpus=vcpus)
        agent.request("resume", host=0, vm=VM)
        for _ in range(LOOKS):
            watch.look(truth(agent, 0))
    with steps.step("handoff", "pausing it and handing its TSCs over"):
        agent.request("pause", host=0, vm=VM)
        paused_at = time.monotonic()
        result = tscctl("-o", "json", "handoff", VM, "--from", agent.addresses[0], "--to",
                        agent.addresses[1]).json
        agent.request("resume", host=1, vm=VM)
        blackout_ms = (time.monotonic() - paused_at) * 1000
    with steps.step("run on", "letting it run on the other host"):
        for _ in range(LOOKS):
            watch.look(truth(agent, 1))
        agent.request("pause", host=1, vm=VM)
    both = {vm["host"]: vm for vm in agent.request("truth", vm=VM)["vms"]}  # at one instant of true time
    return _evidence(both[0], both[1], result, watch, blackout_ms, steps)


def _evidence(stayed: dict[str, Any], moved: dict[str, Any], result: dict[str, Any], watch: Watch, blackout_ms: float,
              steps: Steps) -> Evidence:
    errors = [signed(after["guest_tsc_ticks"] - before["guest_tsc_ticks"])
              for before, after in zip(stayed["vcpus"], moved["vcpus"], strict=True)]
    details = []
    for i, row in enumerate(result["vcpus"]):
        details.append(Vcpu(
            vcpu_id=row["vcpu_id"], guest_tsc_before_ticks=int(row["guest_tsc_before_ticks"]),
            guest_tsc_after_ticks=int(row["guest_tsc_after_ticks"]),
            offset_source_ticks=stayed["vcpus"][i]["offset_ticks"],
            offset_destination_ticks=moved["vcpus"][i]["offset_ticks"],
            tsc_adjust_before_ticks=adjusts(len(errors))[i], tsc_adjust_after_ticks=int(row["tsc_adjust_ticks"]),
            phase_error_ticks=errors[i] - errors[0], guest_rounds=watch.looks[i],
            guest_backward_steps=watch.backward_steps[i]))
    spread = phases(len(errors))
    khz = result["guest_tsc_khz"]
    return Evidence(
        kvm="simulated", vcpus=details, guest_khz=khz,
        phase_error_ticks_max=max(max(errors) - min(errors), int(result["phase_error_ticks"])),
        phase_spread_ticks=max(spread) - min(spread), guest_backward_steps=sum(watch.backward_steps),
        # One instant of true time for all vCPUs: a warp between them would be a phase error.
        guest_warps=int(max(errors) != min(errors)),
        elapsed_ns=result["elapsed_ns"], elapsed_basis=result["elapsed_basis"], commit_wait_ns=result["commit_wait_ns"],
        probe=Probe.of(result), blackout_ms=round(blackout_ms, 3), error_bound_ns=result["error_bound_ns"],
        error_bound=result["error_bound"], true_error_ns=round(max(errors, key=abs) * 1_000_000 / khz),
        true_error_uncertainty_ns=1, kvmclock_true_error_ns=moved["kvmclock_ns"] - stayed["kvmclock_ns"],
        kvmclock_uncertainty_ns=stayed["kvmclock_read_error_ns"] + moved["kvmclock_read_error_ns"],
        kvmclock_stated_error_ns=result["kvmclock"]["error_ns"], master_clock=result["kvmclock"]["master_clock"],
        get_rpc_us=result["get_rpc_us"], set_rpc_us=result["set_rpc_us"], handoff_ms=result["handoff_ms"],
        warnings=list(dict.fromkeys(warning["message"] for warning in result["warnings"])), steps=steps.done)
