"""What scraping.py measured, judged against the targets and put into words. Pure: no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MAX_SECONDS = 0.05
MAX_BYTES = 200_000


@dataclass(frozen=True)
class Scrape:
    """Scrapes of an agent with so many VMs, of which `per_vm` have metrics of their own."""

    vms: int
    per_vm: int
    rounds: int
    p50_seconds: float
    p99_seconds: float
    bytes: int
    compressed_bytes: int  # as Prometheus asks for it
    samples: int


def targets(scrapes: list[Scrape]) -> list[tuple[str, str, float, float]]:
    """(what, percentile, value, limit): judged at full size, without metrics of VMs."""
    return [found for scrape in scrapes if scrape.vms == 1000 and scrape.per_vm == 0 for found in (
        ("a scrape with 1,000 VMs, in ms", "p50", round(scrape.p50_seconds * 1e3, 2), MAX_SECONDS * 1e3),
        ("a scrape with 1,000 VMs, in ms", "p99", round(scrape.p99_seconds * 1e3, 2), MAX_SECONDS * 1e3),
        ("size of a scrape with 1,000 VMs, in bytes", "", scrape.bytes, MAX_BYTES))]


def as_lines(scrapes: list[Scrape]) -> list[str]:
    return [f"a scrape of an agent with {scrape.vms:,} VMs, {scrape.per_vm or 'none'} with metrics of their own: "
            f"{scrape.p50_seconds * 1e3:.1f} ms p50, {scrape.p99_seconds * 1e3:.1f} ms p99; {scrape.samples:,} samples, "
            f"{scrape.bytes / 1e3:.0f} kB, {scrape.compressed_bytes / 1e3:.0f} kB compressed" for scrape in scrapes]


def as_json(scrapes: list[Scrape]) -> list[dict[str, Any]]:
    return [vars(scrape) for scrape in scrapes]
