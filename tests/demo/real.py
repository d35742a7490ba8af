"""One handoff of the witness VM between two nodes with real KVM."""

from __future__ import annotations

import time

from .evidence import Evidence, Probe, Vcpu
from .lab import Lab, Truth, find_truth, patiently, signed, tscctl
from .steps import Steps

# The guest shall have looked this often at its TSC, on every vCPU, before and after the handoff.
ROUNDS = 200
# Between nodes whose network and clocks are emulated on a busy machine; the product's default is 1 ms.
MAX_ERROR = "5ms"
CLOCK_BOUND_NS = 2_000_000


def phases(vcpus: int) -> list[int]:
    """Deliberately unequal, in both directions, from ns to a tenth of a second."""
    return [0] + [(-1) ** i * (i * 7919 + (i % 5) ** 9 * 131) for i in range(1, vcpus)]


def adjusts(vcpus: int) -> list[int]:
    """Non-zero on every second vCPU."""
    return [0 if i % 2 == 0 else -(i * 1_000_003) for i in range(vcpus)]


def witness_arguments(vcpus: int) -> list[str]:
    # "=" because a list may start with a minus sign.
    return ["--phase-ticks=" + ",".join(map(str, phases(vcpus))), "--tsc-adjust=" + ",".join(map(str, adjusts(vcpus)))]


def run(vcpus: int) -> Evidence:
    steps = Steps()
    lab = Lab(agent_arguments=["--max-error", MAX_ERROR])
    with steps.step("boot", "booting two nodes with real KVM (QEMU TCG), an agent in each"):
        lab.__enter__()
    try:
        return _handoff(lab, vcpus, steps)
    finally:
        lab.__exit__(None, None, None)


def _handoff(lab: Lab, vcpus: int, steps: Steps) -> Evidence:
    with steps.step("witness", f"starting the witness VM, {vcpus} vCPUs with unequal TSCs, on node1; an empty one on node2"):
        source = lab.witness(0, "witness", vcpus, ["--paused", *witness_arguments(vcpus)])
        destination = lab.witness(1, "witness", vcpus, ["--incoming"])
    with steps.step("compare", "waiting until the two hosts' clocks agree, by what one measures of the other"):
        lab.wait_clock_trusted(CLOCK_BOUND_NS)
        lab.compare_clocks().json  # noqa: B018 - raises unless they agree
    with steps.step("run", "letting it run on node1"):
        source.resume()
        source.wait_rounds(ROUNDS)
    with steps.step("clock", "waiting until node2's clock is known well enough"):
        lab.wait_clock_trusted(CLOCK_BOUND_NS)
    with steps.step("handoff", "pausing it, moving its memory, handing its TSCs over"):
        source.pause()
        paused_at = time.monotonic()
        source.save("/exchange/witness.snapshot")
        destination.load("/exchange/witness.snapshot")
        before = source.verdict()
        result = patiently(lambda: tscctl("-o", "json", "handoff", "witness", "--from", lab.agents[0].address,
                                          "--to", lab.agents[1].address)).json
        offsets_source, offsets_destination = source.offsets(), destination.offsets()
        destination.resume()
        blackout_ms = (time.monotonic() - paused_at) * 1000
    with steps.step("run on", "letting it run on node2"):
        destination.wait_rounds(ROUNDS)
        destination.pause()
        after = destination.verdict()
        seen = {vcpu["id"]: vcpu for vcpu in destination.status()["vcpus"]}
    with steps.step("truth", "measuring the distance of the two hosts' TSCs: the ground truth"):
        distance = lab.cluster.tsc_distance()
    truth = find_truth(offsets_source, offsets_destination, distance.distance_ticks, distance.error_ticks,
                       lab.cluster.nodes[0].tsc_khz())
    rounds_before = {vcpu["id"]: vcpu["iterations"] for vcpu in before.vcpus}
    details = []
    for i, row in enumerate(result["vcpus"]):
        vcpu_id = row["vcpu_id"]
        details.append(Vcpu(
            vcpu_id=vcpu_id,
            guest_tsc_before_ticks=int(row["guest_tsc_before_ticks"]),
            guest_tsc_after_ticks=int(row["guest_tsc_after_ticks"]),
            offset_source_ticks=offsets_source["vcpus"][i]["tsc_offset_ticks"],
            offset_destination_ticks=offsets_destination["vcpus"][i]["tsc_offset_ticks"],
            tsc_adjust_before_ticks=adjusts(vcpus)[i],
            tsc_adjust_after_ticks=signed(seen[vcpu_id]["tsc_adjust_ticks"]),  # as the guest reads it
            phase_error_ticks=truth.tsc_error_ticks[i] - truth.tsc_error_ticks[0],
            guest_rounds=seen[vcpu_id]["iterations"] - rounds_before[vcpu_id],
            guest_backward_steps=seen[vcpu_id]["backward_steps"]))
    return _evidence(result, truth, details, after.backward_steps, after.warps, blackout_ms, steps)


def _evidence(result: dict, truth: Truth, details: list[Vcpu], backward_steps: int, warps: int, blackout_ms: float,
              steps: Steps) -> Evidence:
    guest = [vcpu.guest_tsc_before_ticks - details[0].guest_tsc_before_ticks for vcpu in details]
    spread = [signed(ticks) for ticks in guest]
    return Evidence(
        kvm="real", vcpus=details, guest_khz=result["guest_tsc_khz"],
        phase_error_ticks_max=max(truth.phase_error_ticks_max, int(result["phase_error_ticks"])),
        phase_spread_ticks=max(spread) - min(spread),
        guest_backward_steps=backward_steps, guest_warps=warps,
        elapsed_ns=result["elapsed_ns"], elapsed_basis=result["elapsed_basis"], commit_wait_ns=result["commit_wait_ns"],
        probe=Probe.of(result), blackout_ms=round(blackout_ms, 3),
        error_bound_ns=result["error_bound_ns"], error_bound=result["error_bound"],
        true_error_ns=truth.tsc_error_ns, true_error_uncertainty_ns=truth.distance_error_ns,
        kvmclock_true_error_ns=truth.kvmclock_error_ns, kvmclock_uncertainty_ns=truth.kvmclock_uncertainty_ns,
        kvmclock_stated_error_ns=result["kvmclock"]["error_ns"], master_clock=result["kvmclock"]["master_clock"],
        get_rpc_us=result["get_rpc_us"], set_rpc_us=result["set_rpc_us"], handoff_ms=result["handoff_ms"],
        warnings=list(dict.fromkeys(warning["message"] for warning in result["warnings"])), steps=steps.done)
