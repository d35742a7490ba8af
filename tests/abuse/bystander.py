"""Somebody who only looks on, and must be served whatever others do: over a connection that stands, and over new ones."""

from __future__ import annotations

import contextlib
import threading
import time

import grpc

from .tally import reason_of
from .target import SERVICE, Target

# A call that is answered later is not served.
PATIENCE_S = 20.0
_PAUSE_S = 0.2


class Bystander(contextlib.AbstractContextManager["Bystander"]):
    """Asks both agents, until the `with` block ends."""

    def __init__(self, target: Target, who: str) -> None:
        self._target, self._who = target, who
        self.served = 0
        self.longest_s = 0.0
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_on)

    def __enter__(self) -> Bystander:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look_on(self) -> None:
        with self._target.channel(self._who, 0) as one, self._target.channel(self._who, 1) as other:
            while not self._stop.wait(_PAUSE_S):
                self._ask(one, "a connection that stands")
                self._ask(other, "a connection that stands, the other agent")
                with self._target.channel(self._who, 0) as fresh:
                    self._ask(fresh, "a new connection")

    def _ask(self, channel: grpc.Channel, how: str) -> None:
        started = time.monotonic()
        try:
            channel.unary_unary(f"/{SERVICE}/GetHostInfo")(b"", timeout=PATIENCE_S)
            self.served += 1
        except grpc.RpcError as error:
            self.failures.append(f"{how}: {reason_of(error)}")
        self.longest_s = max(self.longest_s, time.monotonic() - started)
