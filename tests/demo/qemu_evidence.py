"""What live migrations of a stock QEMU's guest left as evidence, plain and with the handoff: what must hold of it, and
how it is shown. Pure: no I/O."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .evidence import Step


@dataclass(frozen=True)
class Run:
    """One migration."""

    phase_error_ticks: int      # largest change of the difference between two vCPUs, by KVM's own offsets
    time_error_us: float        # guest TSC minus what it would have been, had the VM stayed: of the vCPU with most
    bound_us: float | None      # what the agent stated; None where nobody did
    guest_warps: int
    warp_largest_ticks: int
    guest_backward_steps: int
    became_unstable: bool       # the guest's kernel took its TSC for stable before, and not after
    downtime_ms: float
    added_downtime_ms: float    # of it, from the moment when both QEMUs were done to the `cont`
    held: bool                  # nothing wrote to the TSCs after the agent


@dataclass(frozen=True)
class Case:
    """The same guest migrated both ways, some times each."""

    vcpus: int
    phases: tuple[tuple[int, int], ...]  # (vCPU, ticks that it was put ahead); none: all TSCs equal
    plain: tuple[Run, ...]
    handoff: tuple[Run, ...]

    @property
    def title(self) -> str:
        moved = ", ".join(f"vCPU {vcpu} put {_grouped(ticks)} ticks ahead" for vcpu, ticks in self.phases)
        return f"{self.vcpus} vCPUs, {moved or 'TSCs in phase'}"


@dataclass(frozen=True)
class QemuEvidence:
    qemu: str              # its version
    clocksource: str       # the guest's
    truth_error_us: float  # how well the true distance of the hosts' TSCs is known
    cases: list[Case]
    steps: list[Step]

    def as_json(self) -> dict[str, Any]:
        """The report's JSON: both columns over all runs, and each case with its runs."""
        cases = [{"vcpus": case.vcpus, "phases": [list(phase) for phase in case.phases],
                  "plain": _column(case.plain), "handoff": _column(case.handoff)} for case in self.cases]
        return {
            "kvm": "real", "qemu": self.qemu, "clocksource": self.clocksource, "truth_error_us": self.truth_error_us,
            "plain": _column([run for case in self.cases for run in case.plain]),
            "handoff": _column([run for case in self.cases for run in case.handoff]),
            "cases": cases, "steps": {step.name: round(step.seconds, 3) for step in self.steps},
            "failures": qemu_failures(self)}


def _column(runs: Sequence[Run]) -> dict[str, Any]:
    bounds = [run.bound_us for run in runs if run.bound_us is not None]
    return {
        "migrations": len(runs),
        "phase_error_ticks_max": max(run.phase_error_ticks for run in runs),
        "time_error_us": max((run.time_error_us for run in runs), key=abs),
        "stated_bound_us": max(bounds) if bounds else None,
        "guest_warps": sum(run.guest_warps for run in runs),
        "warp_largest_ticks": max(run.warp_largest_ticks for run in runs),
        "guest_backward_steps": sum(run.guest_backward_steps for run in runs),
        "clocksource_unstable": any(run.became_unstable for run in runs),
        "downtime_ms": statistics.median(run.downtime_ms for run in runs),
        "added_downtime_ms": statistics.median(run.added_downtime_ms for run in runs),
        "runs": [dataclasses.asdict(run) for run in runs],
    }


def _handoff_failures(case: Case, run: Run) -> list[str]:
    found = []
    if run.phase_error_ticks:
        found.append(f"the phase between vCPUs changed by {run.phase_error_ticks} ticks")
    if run.bound_us is None:
        found.append("the agent stated no error bound")
    elif abs(run.time_error_us) > run.bound_us:
        found.append(f"guest time is wrong by {run.time_error_us:.1f} us, more than the stated {run.bound_us:.1f} us")
    if run.guest_warps:
        found.append(f"the guest saw {run.guest_warps} warps")
    if run.guest_backward_steps:
        found.append(f"the guest saw its TSC go back {run.guest_backward_steps} times")
    if run.became_unstable:
        found.append("the guest's kernel marked its TSC unstable")
    if not run.held:
        found.append("something wrote to the TSCs after the agent")
    return [f"{case.title}, handoff: {what}" for what in found]


def _plain_failures(case: Case, run: Run) -> list[str]:
    """The comparison says nothing where plain QEMU does not lose what it is known to lose."""
    found = []
    if -run.time_error_us < 500 * (run.downtime_ms - run.added_downtime_ms):
        found.append(f"lost {-run.time_error_us:.1f} us of a downtime of {run.downtime_ms:.1f} ms: QEMU counts it now?")
    if case.phases and not run.phase_error_ticks:
        found.append("kept the phase between vCPUs")
    if case.phases and not run.guest_warps:
        found.append("the guest saw no warp, though the phase changed")
    return [f"{case.title}, plain QEMU: {what}" for what in found]


def qemu_failures(evidence: QemuEvidence) -> list[str]:
    """What does not hold and must; empty when all is well."""
    found = []
    for case in evidence.cases:
        for run in case.handoff:
            found += _handoff_failures(case, run)
        for run in case.plain:
            found += _plain_failures(case, run)
    return list(dict.fromkeys(found))


def _grouped(number: float, digits: int = 0) -> str:
    return f"{number:,.{digits}f}".replace(",", " ")


def _cells(runs: Sequence[Run]) -> list[str]:
    column = _column(runs)
    warps = _grouped(column["guest_warps"])
    if column["guest_warps"]:
        warps += f", up to {_grouped(column['warp_largest_ticks'])} ticks"
    bound = column["stated_bound_us"]
    return [
        f"{_grouped(column['phase_error_ticks_max'])} ticks",
        f"{'+' if column['time_error_us'] > 0 else ''}{_grouped(column['time_error_us'], 1)} us",
        "none" if bound is None else f"+-{_grouped(bound, 1)} us",
        warps,
        str(column["guest_backward_steps"]),
        "yes" if column["clocksource_unstable"] else "no",
        f"{_grouped(column['downtime_ms'], 1)} ms",
        "-" if bound is None else f"{_grouped(column['added_downtime_ms'], 1)} ms",
    ]


_ROWS = ("phase error, largest", "guest TSC error, largest", "  bound stated by the agent", "warps the guest saw",
         "steps back the guest saw", "TSC marked unstable", "downtime, median", "  added by the handoff")


def _table(cases: Sequence[Case]) -> list[str]:
    plain = [_cells(case.plain) for case in cases]
    handoff = [_cells(case.handoff) for case in cases]
    name = max(map(len, _ROWS)) + 2
    left = max(len(cell) for cells in [*plain, ["plain QEMU"]] for cell in cells)
    right = max(len(cell) for cells in [*handoff, ["with the handoff"]] for cell in cells)
    lines = [f"{'':{name}}  {'plain QEMU':>{left}}   {'with the handoff':>{right}}"]
    for case, without, with_ in zip(cases, plain, handoff, strict=True):
        lines += ["", f"{case.title}, {len(case.plain)} + {len(case.handoff)} migrations"]
        lines += [f"  {row:{name}}{a:>{left}}   {b:>{right}}" for row, a, b in zip(_ROWS, without, with_, strict=True)]
    return lines


def qemu_as_text(evidence: QemuEvidence) -> str:
    """The report for a person."""
    problems = qemu_failures(evidence)
    lines = [
        "",
        f"Live migration of a Linux guest in a stock QEMU {evidence.qemu} between two hosts with real KVM",
        f"(the guest's clock source is {evidence.clocksource}; the truth is known to +-{evidence.truth_error_us:.1f} us)",
        "",
        *_table(evidence.cases),
        "",
        "steps   " + ", ".join(f"{step.name} {step.seconds:.0f} s" for step in evidence.steps),
        "",
    ]
    if problems:
        lines += ["FAILED:", *(f"  {problem}" for problem in problems)]
    else:
        lines.append("PASSED: with the handoff the phase is exact, the downtime is counted within the stated bound, and "
                     "the guest noticed nothing.")
    return "\n".join(lines)
