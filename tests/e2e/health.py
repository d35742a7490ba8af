"""Asks grpc.health.v1, whose two messages have one field each and so need no generated code."""

from __future__ import annotations

from ..programs.lab_tls import open_channel

AGENT_SERVICE = "tschandoff.v1.TscAgent"
SERVING, NOT_SERVING = 1, 2
_TIMEOUT_S = 20.0


def health(address: str, service: str) -> int:
    """HealthCheckResponse.status of a service, "" for the whole server. Raises grpc.RpcError."""
    name = service.encode()
    assert len(name) < 128, "its length takes one byte"
    with open_channel(address) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        answer = check(b"\x0a" + bytes([len(name)]) + name, timeout=_TIMEOUT_S)  # field 1, a string
    return int(answer[1]) if answer else 0  # field 1, an enumeration; absent when it is 0
