"""What handoffs.py measured, judged against the targets and put into words. Pure: no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MAX_RATIO = 1.5
MAX_START_SECONDS = 2.0
# From here on it is full, and more at a time cannot make it faster.
FULL = 0.85
# Throughput that grows by less does not grow.
GROWTH = 1.05
STEPS = ("capture", "apply", "commit_source", "commit_destination")


@dataclass(frozen=True)
class Handoffs:
    """`one` is handoff_bench's; an evacuation says also what was busy meanwhile, as shares of all there is."""

    one: dict[str, Any]
    evacuations: list[dict[str, Any]]  # by ascending "parallel"
    vms: int
    vcpus: int
    cores: int
    journal_entries: int
    start_seconds: float

    @property
    def full_size(self) -> bool:
        return self.vms == 1000 and self.vcpus == 16 and self.journal_entries >= 10_000

    def ratio(self, percentile: str, floor: str = "floor") -> float:
        series = self.one["series"]
        return float(series["handoff"][f"{percentile}_ns"] / max(series[floor][f"{percentile}_ns"], 1))


def what_is_full(evacuation: dict[str, Any]) -> str:
    """Empty when nothing is."""
    full = [name for name, share in (("the cores", evacuation["cores_busy"]), ("a journal's disk", evacuation["journal_busy"]))
            if share >= FULL]
    return " and ".join(full)


def stalls(evacuations: list[dict[str, Any]]) -> list[int]:
    """The numbers of handoffs at a time at which throughput stopped growing though nothing was full before."""
    return [now["parallel"] for before, now in zip(evacuations, evacuations[1:])
            if now["handoffs_per_second"] < GROWTH * before["handoffs_per_second"]
            and not what_is_full(before) and not what_is_full(now)]


def us(value_ns: float) -> str:
    return f"{value_ns / 1000:,.0f}"


def as_lines(handoffs: Handoffs) -> list[str]:
    series = handoffs.one["series"]
    lines = [
        f"a whole handoff, {handoffs.vcpus} vCPUs, both agents' journals on this machine's disk: {handoffs.one['rounds']} rounds; us",
        f"{'':>4} {'4 empty RPCs':>13} {'5 bare syncs':>13} {'in its order':>13} {'handoff':>8} {'/':>5} | "
        + " ".join(f"{step.replace('_', ' '):>18}" for step in STEPS),
    ]
    for percentile in ("p50", "p99"):
        key = f"{percentile}_ns"
        lines.append(
            f"{percentile:>4} {us(series['empty_rpcs'][key]):>13} {us(series['syncs'][key]):>13} {us(series['floor'][key]):>13} "
            f"{us(series['handoff'][key]):>8} {handoffs.ratio(percentile):>5.2f} | "
            + " ".join(f"{us(series[step][key]):>18}" for step in STEPS))
    lines.append("of 4 empty RPCs and 5 bare syncs, each back to back: " + ", ".join(
        f"{percentile} {handoffs.ratio(percentile, 'floor_apart'):.2f}" for percentile in ("p50", "p99")))
    lines.append(f"evacuation of {handoffs.vms:,} VMs of {handoffs.vcpus} vCPUs, all processes on these {handoffs.cores} cores:")
    for evacuation in handoffs.evacuations:
        full = what_is_full(evacuation)
        lines.append(
            f"{evacuation['parallel']:>4} at a time: {evacuation['handoffs_per_second']:>6.0f} handoffs/s; cores "
            f"{evacuation['cores_busy']:.0%} busy, the busier journal {evacuation['journal_busy']:.0%}, "
            f"{evacuation['commits_per_handoff']:.1f} syncs a handoff{'; full: ' + full if full else ''}")
    lines.append(f"the agent answers {handoffs.start_seconds:.2f} s after its start with {handoffs.journal_entries:,} handoffs in "
                 "its journal")
    return lines


def targets(handoffs: Handoffs) -> list[tuple[str, str, float, float]]:
    """(what, percentile or empty, value, limit)"""
    found: list[tuple[str, str, float, float]] = [
        ("a handoff / (4 empty RPCs + 5 bare syncs)", percentile, round(handoffs.ratio(percentile), 3), MAX_RATIO)
        for percentile in ("p50", "p99")]
    if handoffs.full_size:
        found += [("evacuations that did not grow though nothing was full", "", len(stalls(handoffs.evacuations)), 0),
                  ("agent's start with 10,000 handoffs in its journal, in s", "", handoffs.start_seconds, MAX_START_SECONDS)]
    return found
