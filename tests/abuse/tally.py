"""What an attack has tried, and what it was told. Plain values."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import grpc

_REASON = re.compile(rb"[A-Z][A-Z]+(?:_[A-Z]+)+")


class Tally:
    """Of one attack."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()

    @property
    def attempts(self) -> int:
        return self.outcomes.total()

    def note(self, outcome: str, count: int = 1) -> None:
        self.outcomes[outcome] += count

    def note_error(self, error: grpc.RpcError) -> None:
        self.note(reason_of(error))


def reason_of(error: grpc.RpcError) -> str:
    """The agent's reason (error_reason.proto), or gRPC's code where the agent was not asked."""
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    found = _REASON.search(details)
    return found[0].decode() if found else f"gRPC {error.code().name}"


def as_json(tallies: dict[str, Tally]) -> dict[str, dict[str, int]]:
    return {name: dict(tally.outcomes) for name, tally in tallies.items()}


def as_lines(kind: str, tallies: dict[str, dict[str, int]]) -> list[str]:
    """For people."""
    def told(outcomes: dict[str, Any]) -> str:
        return ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(outcomes.items(), key=lambda item: -item[1]))

    return [f"{kind:>6} {name}: {sum(outcomes.values()):,} attempts: {told(outcomes)}" for name, outcomes in tallies.items()]
