"""Handoffs in a row, and what they prove of the stated bound. Pure: no I/O."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sample:
    """One handoff. The error is signed: what the guest has minus what it would have had, had it stayed."""

    kind: str                  # samples of one kind make one distribution
    blackout_ns: int           # by which time at least had passed between capture and apply
    elapsed_ns: int            # what the agent reckoned
    bound_ns: int              # what it stated
    true_error_ns: int
    true_uncertainty_ns: int   # how well the truth is known

    @property
    def holds(self) -> bool:
        return abs(self.true_error_ns) <= self.bound_ns + self.true_uncertainty_ns


def percentile(values: Iterable[float], percent: float) -> float:
    """The least value that `percent` of all do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


@dataclass(frozen=True)
class Distribution:
    """Of the handoffs of one kind, in ns."""

    handoffs: int
    bound_p50_ns: float
    bound_p99_ns: float
    true_error_p50_ns: float
    true_error_p99_ns: float
    bound_to_true_error_p50: float  # the two p50s' ratio: how much larger than needed the bound is
    bound_to_true_error_p99: float
    largest_share_of_bound: float   # of any handoff's true error; above 1 the bound is broken

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Distribution:
        bounds = [sample.bound_ns for sample in samples]
        errors = [abs(sample.true_error_ns) for sample in samples]
        bound_p50, bound_p99 = percentile(bounds, 50), percentile(bounds, 99)
        error_p50, error_p99 = percentile(errors, 50), percentile(errors, 99)
        return cls(len(samples), bound_p50, bound_p99, error_p50, error_p99, bound_p50 / max(error_p50, 1),
                   bound_p99 / max(error_p99, 1),
                   max(error / bound for error, bound in zip(errors, bounds, strict=True)))

    def as_text(self) -> str:
        return (f"bound p50 {self.bound_p50_ns / 1000:.0f} us, p99 {self.bound_p99_ns / 1000:.0f} us; "
                f"true error p50 {self.true_error_p50_ns / 1000:.0f} us, p99 {self.true_error_p99_ns / 1000:.0f} us; "
                f"ratio p50 {self.bound_to_true_error_p50:.1f}, p99 {self.bound_to_true_error_p99:.1f}; "
                f"at most {100 * self.largest_share_of_bound:.0f} % of the bound")


@dataclass(frozen=True)
class Series:
    """All handoffs of a run, and how to repeat it."""

    seed: int
    samples: list[Sample]
    refusals: dict[str, int]  # by reason; none of these wrote anything

    def distributions(self) -> dict[str, Distribution]:
        kinds = dict.fromkeys(sample.kind for sample in self.samples)
        return {kind: Distribution.of([sample for sample in self.samples if sample.kind == kind]) for kind in kinds}

    def broken(self) -> list[Sample]:
        """Those whose true error exceeds the stated bound, or whose elapsed time is less than what passed."""
        return [sample for sample in self.samples
                if not sample.holds or sample.elapsed_ns < sample.blackout_ns - sample.bound_ns]

    def as_text(self) -> str:
        lines = [f"{len(self.samples)} handoffs, seed {self.seed}, refused on the way: {self.refusals or 'none'}"]
        lines += [f"  {kind}: {shown.handoffs} handoffs, {shown.as_text()}"
                  for kind, shown in self.distributions().items()]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        return {"seed": self.seed, "refusals": self.refusals,
                "kinds": {name: dataclasses.asdict(kind) for name, kind in self.distributions().items()},
                "handoffs": [dataclasses.asdict(sample) for sample in self.samples],
                "broken": [dataclasses.asdict(sample) for sample in self.broken()]}
