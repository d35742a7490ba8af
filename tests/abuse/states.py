"""States of VMs as an orchestrator has them, changed and sealed again; the seal is tsc_state.proto's."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable
from typing import Any

from ..e2e.reflection_client import ReflectionClient

PAYLOAD = "tschandoff.v1.TscStatePayload"
MAX_UINT64, MAX_UINT32 = (1 << 64) - 1, (1 << 32) - 1
YEAR_2262_NS = (1 << 63) - 1


def seal(payload: bytes, version: int = 1) -> dict[str, Any]:
    """In JSON."""
    crc = zlib.crc32(struct.pack("<I", version) + payload)
    return {"format_version": version, "crc32": crc, "payload": base64.b64encode(payload).decode()}


def changed(client: ReflectionClient, state: dict[str, Any], change: Callable[[Any], None]) -> dict[str, Any]:
    payload = client.message_class(PAYLOAD).FromString(base64.b64decode(state["payload"]))
    change(payload)
    return seal(payload.SerializeToString())


def _set(path: str, value: int) -> Callable[[Any], None]:
    def change(payload: Any) -> None:
        *parts, field = path.split(".")
        for part in parts:
            payload = getattr(payload, part)
        if isinstance(value, int) and hasattr(getattr(payload, field), "append"):
            getattr(payload, field)[0] = value
        else:
            setattr(payload, field, value)
    return change


def _captured_later(by_s: int) -> Callable[[Any], None]:
    def change(payload: Any) -> None:
        payload.reference.realtime_ns += by_s * 10**9
    return change


def _drop_vcpu(payload: Any) -> None:
    del payload.guest_tsc_ticks[-1]


# Times, frequencies and counts that no host has; each but the last in a state that is sealed well.
ABSURD: dict[str, Callable[[Any], None]] = {
    "captured in 1970": _set("reference.realtime_ns", 0),
    "captured in 2262": _set("reference.realtime_ns", YEAR_2262_NS),
    "captured before 1970": _set("reference.realtime_ns", MAX_UINT64),
    "captured a year ago": _captured_later(-365 * 86_400),
    "captured in an hour": _captured_later(3600),
    "a guest of 0 kHz": _set("guest_tsc_khz", 0),
    "a guest of 2^32-1 kHz": _set("guest_tsc_khz", MAX_UINT32),
    "a host of 0 kHz": _set("reference.host_tsc_khz", 0),
    "a host of 2^32-1 kHz": _set("reference.host_tsc_khz", MAX_UINT32),
    "a host's TSC that wraps": _set("reference.host_tsc_ticks", MAX_UINT64),
    "a guest's TSC that wraps": _set("guest_tsc_ticks", MAX_UINT64),
    "an unbounded reading": _set("reference.read_error_ns", MAX_UINT64),
    "an unbounded clock": _set("reference.clock_error_ns", MAX_UINT64),
    "a TAI offset of 2^32-1": _set("reference.tai_offset_s", MAX_UINT32),
    "2^32-1 vCPUs": _set("vcpu_count", MAX_UINT32),
    "no vCPU": _set("vcpu_count", 0),
    "a vCPU too few": _drop_vcpu,
}
