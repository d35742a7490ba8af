"""Another host's agent gone bad: answers ProbeClock with what cannot be, or not at all. Runs within this process."""

from __future__ import annotations

import itertools
import os
import threading
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from ..e2e.reflection_client import ReflectionClient
from ..programs.certificates import TlsFiles
from .states import MAX_UINT32, MAX_UINT64, YEAR_2262_NS
from .target import SERVICE

ANSWER = "tschandoff.v1.ProbeClockResponse"


def _fill(answer: Any, received_ns: int, sent_ns: int, khz: int = 2_600_000) -> None:
    answer.boot_id = b"b" * 16
    answer.host_tsc_khz = khz
    for reading, time_ns in ((answer.received, received_ns), (answer.sent, sent_ns)):
        reading.realtime_ns = time_ns
        reading.host_tsc_ticks = time_ns % MAX_UINT64


def _of_another_boot(answer: Any) -> None:
    _fill(answer, 10**18, 10**18)
    answer.boot_id = os.urandom(16)


def _unbounded(answer: Any) -> None:
    _fill(answer, 10**18, 10**18)
    answer.received.read_error_ns = MAX_UINT64
    answer.clock.error_bound_ns = YEAR_2262_NS


LIES: list[Callable[[Any], None]] = [
    lambda answer: None,
    lambda answer: _fill(answer, 0, 0),
    lambda answer: _fill(answer, -(1 << 63), YEAR_2262_NS),
    lambda answer: _fill(answer, YEAR_2262_NS, 1),
    lambda answer: _fill(answer, 10**18, 10**18, khz=MAX_UINT32),
    lambda answer: _fill(answer, 10**18, 10**18, khz=0),
    _of_another_boot,
    _unbounded,
]


class LyingAgent(grpc.GenericRpcHandler):
    """Ends with the `with` block; `address` is where it is."""

    def __init__(self, client: ReflectionClient, files: TlsFiles) -> None:
        self._answer = client.message_class(ANSWER)
        self._lies = itertools.cycle(LIES)
        self._ended = threading.Event()
        self.silent = False
        self._server = grpc.server(ThreadPoolExecutor(4), handlers=[self])
        own = (files.key.read_bytes(), files.cert.read_bytes())
        credentials = grpc.ssl_server_credentials([own], files.ca.read_bytes(), require_client_auth=True)
        self.address = f"127.0.0.1:{self._server.add_secure_port('127.0.0.1:0', credentials)}"

    def __enter__(self) -> LyingAgent:
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None) -> None:
        self._ended.set()
        self._server.stop(None).wait()

    def next_lie(self) -> Callable[[Any], None]:
        self._lie = next(self._lies)
        return self._lie

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if details.method != f"/{SERVICE}/ProbeClock":
            return None
        return grpc.unary_unary_rpc_method_handler(self._probe_clock)

    def _probe_clock(self, _request: bytes, _context: grpc.ServicerContext) -> bytes:
        if self.silent:
            self._ended.wait(3)
        answer = self._answer()
        self._lie(answer)
        return bytes(answer.SerializeToString())
