"""What attaching.py measured, judged against the target and put into words. Pure: no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Stop of the VMM's thread over one call through the cooperative port, by number of vCPUs.
MAX_RATIO = {64: 3.0}
OPERATIONS = ("capture", "apply")
PERCENTILES = ("p50", "p99")


@dataclass(frozen=True)
class Attached:
    """One place where it was measured."""

    name: str                      # "real", "simulated-1us"
    description: str
    results: list[dict[str, Any]]  # attach_bench's, by ascending number of vCPUs


def ns(result: dict[str, Any], series: str, percentile: str) -> int:
    return int(result["series"][series][f"{percentile}_ns"])


def ratio(result: dict[str, Any], operation: str, percentile: str) -> float:
    return ns(result, f"attached_{operation}_stop", percentile) / max(ns(result, f"cooperative_{operation}", percentile), 1)


def targets(attached: list[Attached]) -> list[tuple[str, str, str, float, float]]:
    """(what, place, percentile, value, limit)"""
    return [(f"stop of an attached VMM's thread / cooperative port, {operation}, {result['vcpus']} vCPUs", place.name, percentile,
             round(ratio(result, operation, percentile), 2), MAX_RATIO[result["vcpus"]])
            for place in attached for result in place.results if result["vcpus"] in MAX_RATIO
            for operation in OPERATIONS for percentile in PERCENTILES]


def us(value_ns: float) -> str:
    value = value_ns / 1000
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def as_lines(place: Attached) -> list[str]:
    lines = [
        f"attached, {place.name}: {place.description}",
        "us; stop: how long the VMM's thread is kept from its work; all: the whole call; stop / coop: over the cooperative port's call",
        f"{'':>6} {'':>6} {'':>3} | " + " | ".join(
            f"{operation:<7} {'bare':>8} {'coop':>8} {'stop':>8} {'all':>8} {'stop / coop':>11}" for operation in OPERATIONS),
    ]
    for result in place.results:
        for percentile in PERCENTILES:
            first = percentile == PERCENTILES[0]
            cells = [f"{result['vcpus'] if first else '':>6} {result['rounds'] if first else '':>6} {percentile:>3}"]
            for operation in OPERATIONS:
                values = [us(ns(result, series, percentile)) for series in
                          (f"bare_{operation}", f"cooperative_{operation}", f"attached_{operation}_stop", f"attached_{operation}")]
                cells.append(f"{'':<7} " + " ".join(f"{value:>8}" for value in values)
                             + f" {ratio(result, operation, percentile):>11.2f}")
            lines.append(" | ".join(cells))
        if result["failed_rounds"]:
            lines.append(f"  {result['vcpus']} vCPUs: {result['failed_rounds']} more rounds failed, the last one with: "
                         f"{result['failure']}")
    lines.append(f"  where a stop of {place.results[-1]['vcpus']} vCPUs goes, p50: " + where_it_goes(place.results[-1]))
    return lines


def where_it_goes(result: dict[str, Any]) -> str:
    """The steps of a capture's stop, from one failpoint to the next; one that comes several times counts each time alone."""
    # "stopped" ends the wait for the stop, "stub_cleared" comes after it.
    steps = [(name.removeprefix("capture.attach."), values["p50_ns"]) for name, values in result["steps"].items()
             if name.startswith("capture.") and not name.endswith((".stopped", ".stub_cleared"))]
    return ", ".join(f"{name} {us(value)}" for name, value in sorted(steps, key=lambda step: -step[1])[:6])


def as_json(attached: list[Attached]) -> list[dict[str, Any]]:
    return [{"name": place.name, "description": place.description, "results": [
        {**result, "ratio": {operation: {percentile: round(ratio(result, operation, percentile), 3) for percentile in PERCENTILES}
                             for operation in OPERATIONS}} for result in place.results]} for place in attached]
