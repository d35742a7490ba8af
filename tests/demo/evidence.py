"""What a handoff left as evidence, what must hold of it, and how it is shown. Pure: no I/O."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """One step of the demo and how long it took."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Vcpu:
    """One vCPU; ticks modulo 2^64 but for the signed adjust and errors."""

    vcpu_id: int
    guest_tsc_before_ticks: int
    guest_tsc_after_ticks: int
    offset_source_ticks: int
    offset_destination_ticks: int
    tsc_adjust_before_ticks: int
    tsc_adjust_after_ticks: int
    phase_error_ticks: int   # change of the difference to the first vCPU, by KVM's own offsets
    guest_rounds: int        # how often the guest looked at its TSC
    guest_backward_steps: int


@dataclass(frozen=True)
class Probe:
    """What the destination's agent measured of the source's clock: its own minus the source's is offset_ns +-
    offset_error_ns, whatever the two claim."""

    offset_ns: int
    offset_error_ns: int
    round_trip_ns: int
    rounds: int
    duration_ns: int

    @classmethod
    def of(cls, reply: dict[str, Any]) -> Probe | None:
        """From tscctl's JSON; None where nothing was probed."""
        probe = reply["probe"]
        return probe and cls(**{field.name: int(probe[field.name]) for field in dataclasses.fields(cls)})


@dataclass(frozen=True)
class Evidence:
    """Figures of one handoff. Errors are signed: what the guest has minus what it would have had."""

    kvm: str                       # "real" or "simulated"
    vcpus: list[Vcpu]
    guest_khz: int
    phase_error_ticks_max: int
    phase_spread_ticks: int
    guest_backward_steps: int
    guest_warps: int
    elapsed_ns: int
    elapsed_basis: str             # by what it was reckoned; a key of _BASES
    commit_wait_ns: int            # waited until it was certain that time had passed
    probe: Probe | None
    blackout_ms: float             # from the last instruction on the source to leave to run on the destination
    error_bound_ns: int
    error_bound: dict[str, int]
    true_error_ns: int
    true_error_uncertainty_ns: int
    kvmclock_true_error_ns: int
    kvmclock_uncertainty_ns: int
    kvmclock_stated_error_ns: int  # what the agent read back, against what it wanted
    master_clock: bool
    get_rpc_us: float
    set_rpc_us: float
    handoff_ms: float
    warnings: list[str]
    steps: list[Step]

    def as_json(self) -> dict[str, Any]:
        """The report's JSON. TSC values are decimal strings: most readers of JSON round above 2^53."""
        report = dataclasses.asdict(self)
        report["vcpu_details"] = [{key: str(value) if key.endswith("_ticks") else value for key, value in vcpu.items()}
                                  for vcpu in report["vcpus"]]
        report["vcpus"] = len(self.vcpus)
        report["steps"] = {step.name: round(step.seconds, 3) for step in self.steps}
        report["failures"] = failures(self)
        return report


_BASES = {
    "ELAPSED_BASIS_CLOCKS": "the two hosts' clocks",
    "ELAPSED_BASIS_CLOCKS_AND_PROBE": "the two hosts' clocks and the probe",
    "ELAPSED_BASIS_SAME_HOST_TSC": "the host's own TSC",
}


def failures(evidence: Evidence) -> list[str]:
    """What does not hold and must; empty when all is well."""
    found = []
    if evidence.phase_error_ticks_max != 0:
        found.append(f"the phase between vCPUs changed by up to {evidence.phase_error_ticks_max} ticks")
    for vcpu in evidence.vcpus:
        if (vcpu.guest_tsc_after_ticks - vcpu.guest_tsc_before_ticks) % (1 << 64) >> 63:
            found.append(f"vCPU {vcpu.vcpu_id}: its TSC is lower than when it was captured")
        if vcpu.tsc_adjust_before_ticks != vcpu.tsc_adjust_after_ticks:
            found.append(f"vCPU {vcpu.vcpu_id}: TSC_ADJUST was {vcpu.tsc_adjust_before_ticks}, "
                         f"is {vcpu.tsc_adjust_after_ticks}")
        if vcpu.guest_rounds == 0:
            found.append(f"vCPU {vcpu.vcpu_id} did not run after the handoff")
    if evidence.guest_backward_steps:
        found.append(f"the guest saw its TSC go back {evidence.guest_backward_steps} times")
    if evidence.guest_warps:
        found.append(f"the guest saw {evidence.guest_warps} warps between vCPUs")
    if evidence.probe is None:
        found.append("nobody probed the source's clock: the bound rests on the hosts' own word")
    if abs(evidence.true_error_ns) > evidence.error_bound_ns:
        found.append(f"guest time is wrong by {evidence.true_error_ns} ns, more than the stated "
                     f"{evidence.error_bound_ns} ns")
    if abs(evidence.kvmclock_true_error_ns) > evidence.error_bound_ns + evidence.kvmclock_uncertainty_ns:
        found.append(f"kvmclock is wrong by {evidence.kvmclock_true_error_ns} ns, more than the stated "
                     f"{evidence.error_bound_ns} ns")
    return found


def _ns(value: float) -> str:
    """A duration in the unit that suits it, with its sign."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if abs(value) >= size:
            return f"{value / size:+.3f} {unit}"
    return f"{value:+.0f} ns"


def _reckoning(evidence: Evidence) -> list[str]:
    """By what elapsed time was reckoned, and what the probe found."""
    waited = f", after waiting for {_ns(evidence.commit_wait_ns).lstrip('+')}" if evidence.commit_wait_ns else ""
    by = _BASES.get(evidence.elapsed_basis, evidence.elapsed_basis)
    if evidence.probe is not None and evidence.elapsed_basis == "ELAPSED_BASIS_CLOCKS":
        by += ", which the probe bears out"
    lines = [f"reckoned by        {by}{waited}"]
    if evidence.probe is not None:
        probe = evidence.probe
        lines.append(f"probe              the destination's clock is {_ns(probe.offset_ns)} "
                     f"{_ns(probe.offset_error_ns).replace('+', '+-')} off the source's; {probe.rounds} rounds in "
                     f"{_ns(probe.duration_ns).lstrip('+')}, round trip {_ns(probe.round_trip_ns).lstrip('+')}")
    return lines


def _grouped(ticks: int) -> str:
    return f"{ticks:,}".replace(",", " ")


def _signed(ticks: int) -> int:
    return ticks - (1 << 64) if ticks >> 63 else ticks


def _table(evidence: Evidence, shown: int) -> list[str]:
    rows = [("vCPU", "guest TSC captured", "guest TSC applied", "offset on source", "offset on destination",
             "TSC_ADJUST", "phase error", "backward")]
    for vcpu in evidence.vcpus[:shown]:
        rows.append((str(vcpu.vcpu_id), _grouped(vcpu.guest_tsc_before_ticks), _grouped(vcpu.guest_tsc_after_ticks),
                     _grouped(_signed(vcpu.offset_source_ticks)), _grouped(_signed(vcpu.offset_destination_ticks)),
                     _grouped(vcpu.tsc_adjust_after_ticks), str(vcpu.phase_error_ticks),
                     str(vcpu.guest_backward_steps)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    if len(evidence.vcpus) > shown:
        lines.append(f"... and {len(evidence.vcpus) - shown} more (all of them in --report FILE)")
    return lines


def as_text(evidence: Evidence, shown: int = 16) -> str:
    """The report for a person."""
    problems = failures(evidence)
    rounds = sum(vcpu.guest_rounds for vcpu in evidence.vcpus)
    parts = ", ".join(f"{name.removesuffix('_ns').replace('_', ' ')} {_ns(value).lstrip('+')}"
                      for name, value in evidence.error_bound.items() if name != "total_ns" and value)
    lines = [
        "",
        f"Handoff of {len(evidence.vcpus)} vCPUs at {evidence.guest_khz / 1e6:.3f} GHz between two hosts, "
        f"{evidence.kvm} KVM",
        "",
        *_table(evidence, shown),
        "",
        f"phase error        {evidence.phase_error_ticks_max} ticks, of a phase spread of "
        f"{_grouped(evidence.phase_spread_ticks)} ticks (KVM's own offsets, read on both hosts)",
        f"guest's own view   {evidence.guest_backward_steps} backward steps, {evidence.guest_warps} warps between "
        f"vCPUs, in {_grouped(rounds)} looks at the TSC",
        f"elapsed time       {_ns(evidence.elapsed_ns)} from capture to apply; the VM stood for "
        f"{evidence.blackout_ms:.0f} ms in all",
        *_reckoning(evidence),
        f"stated error bound {_ns(evidence.error_bound_ns).replace('+', '+-')} ({parts})",
        f"true error, TSC    {_ns(evidence.true_error_ns)} (known to +-{evidence.true_error_uncertainty_ns} ns)",
        f"true error, clock  {_ns(evidence.kvmclock_true_error_ns)} kvmclock (known to "
        f"+-{evidence.kvmclock_uncertainty_ns} ns); master clock {'on' if evidence.master_clock else 'off'}",
        f"calls              GetTscState {evidence.get_rpc_us / 1000:.1f} ms, SetTscState "
        f"{evidence.set_rpc_us / 1000:.1f} ms, handoff {evidence.handoff_ms:.1f} ms",
        "steps              " + ", ".join(f"{step.name} {step.seconds:.1f} s" for step in evidence.steps),
        *(f"warning            {warning}" for warning in evidence.warnings),
        "",
    ]
    if problems:
        lines += ["FAILED:", *(f"  {problem}" for problem in problems)]
    else:
        lines.append("PASSED: phase exact, no step back, true error within the stated bound.")
    return "\n".join(lines)
