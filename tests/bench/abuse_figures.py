"""What abuse.py measured, judged against the target and put into words. Pure: no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MAX_RATIO = 3.0
PERCENTILES = ("p50", "p99")


@dataclass(frozen=True)
class Abuse:
    """handoff_bench's reports: from before and after the abuse, and from amid it."""

    quiet: list[dict[str, Any]]
    abused: dict[str, Any]
    attempts: int  # of the attackers


def quiet_ns(abuse: Abuse, series: str, percentile: str) -> int:
    """The longer of the two: what the machine does by itself is no abuse."""
    return max(int(report["series"][series][f"{percentile}_ns"]) for report in abuse.quiet)


def abused_ns(abuse: Abuse, series: str, percentile: str) -> int:
    return int(abuse.abused["series"][series][f"{percentile}_ns"])


def ratio(abuse: Abuse, series: str, percentile: str) -> float:
    return abused_ns(abuse, series, percentile) / max(quiet_ns(abuse, series, percentile), 1)


def targets(abuse: Abuse) -> list[tuple[str, str, float, float]]:
    """(what, percentile, value, limit)"""
    return [("a handoff under abuse / undisturbed", "p99", round(ratio(abuse, "handoff", "p99"), 2), MAX_RATIO)]


def as_lines(abuse: Abuse) -> list[str]:
    def row(series: str, percentile: str) -> str:
        return (f"{quiet_ns(abuse, series, percentile) / 1e6:,.1f} ms undisturbed, "
                f"{abused_ns(abuse, series, percentile) / 1e6:,.1f} ms under abuse "
                f"({ratio(abuse, series, percentile):.2f} times)")

    failed = abuse.abused["failed_rounds"] + sum(report["failed_rounds"] for report in abuse.quiet)
    return [f"under abuse, {abuse.attempts:,} attempts by three attackers on the same cores: "
            f"{abuse.abused['rounds']:,} handoffs, {failed} failed",
            *(f"  {what} {percentile}: {row(series, percentile)}" for what, series in
              (("a handoff", "handoff"), ("its floor, on the same cores and disk", "floor")) for percentile in PERCENTILES)]


def as_json(abuse: Abuse) -> dict[str, Any]:
    return {"quiet": abuse.quiet, "abused": abuse.abused, "attempts": abuse.attempts,
            "ratio": {series: {percentile: round(ratio(abuse, series, percentile), 3) for percentile in PERCENTILES}
                      for series in ("handoff", "floor")}}
