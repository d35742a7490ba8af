"""What tls.py measured, put into words. Pure: no I/O. There is no target: between hosts there is no going without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TlsCost:
    """An empty RPC over a Unix socket and over loopback with mutual TLS; and a new connection with its first call."""

    rounds: int
    unix_p50_ns: int
    unix_p99_ns: int
    tls_p50_ns: int
    tls_p99_ns: int
    tls_connect_p50_ns: int
    tls_connect_p99_ns: int


def ratio(cost: TlsCost, percentile: str) -> float:
    """Of a call with TLS to one over the Unix socket."""
    return float(getattr(cost, f"tls_{percentile}_ns") / max(getattr(cost, f"unix_{percentile}_ns"), 1))


def as_lines(cost: TlsCost) -> list[str]:
    def us(value_ns: int) -> str:
        return f"{value_ns / 1000:,.0f} us"

    return [f"an empty RPC with mutual TLS over loopback: {us(cost.tls_p50_ns)} p50, {us(cost.tls_p99_ns)} p99; over the Unix "
            f"socket {us(cost.unix_p50_ns)} p50, {us(cost.unix_p99_ns)} p99: {ratio(cost, 'p50'):.2f} and "
            f"{ratio(cost, 'p99'):.2f} times as long; a new connection with its first call {us(cost.tls_connect_p50_ns)} p50, "
            f"{us(cost.tls_connect_p99_ns)} p99; {cost.rounds:,} rounds"]


def as_json(cost: TlsCost) -> dict[str, Any]:
    return {**vars(cost), "ratio_p50": round(ratio(cost, "p50"), 3), "ratio_p99": round(ratio(cost, "p99"), 3)}
