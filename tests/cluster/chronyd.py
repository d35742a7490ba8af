"""chronyd in a node: who gives a cluster its common clock, and what can happen to him.

Node 1 *is* the cluster's time, node 2 follows it. Not thread-safe.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

from .node import Node, NodeError, NodeProcess

# Disciplines nothing (chronyd -x) and says that it is right.
SERVER_CONFIG = """\
local stratum 1
allow 10.77.0.0/24
bindacqaddress 10.77.0.1
pidfile /run/chrony/chronyd.pid
"""
# Polls at the shortest interval that chronyd has until the clock is near, then every second at most.
CLIENT_CONFIG = """\
server 10.77.0.1 iburst minpoll -6 maxpoll 0 xleave
makestep 0.001 8
rtcsync
pidfile /run/chrony/chronyd.pid
"""
_CALM_PPM = 500.0
_CONFIG_PATH = "/run/tsc-node/chrony.conf"


@dataclass(frozen=True)
class ClockBound:
    """chronyd's view of a node's clock; |error| <= bound_ns where it is synchronised."""

    synchronised: bool
    offset_ns: int
    root_delay_ns: int
    root_dispersion_ns: int

    @property
    def bound_ns(self) -> int:
        return abs(self.offset_ns) + self.root_dispersion_ns + (self.root_delay_ns + 1) // 2


class Chronyd:
    """The daemon of one node. Construction starts nothing."""

    def __init__(self, node: Node, config: str, flags: Sequence[str] = ()) -> None:
        self._node = node
        self._config = config
        self._flags = list(flags)
        self._process: NodeProcess | None = None

    def start(self) -> None:
        """Starts it, again after it has ended. Its log goes on in the same file."""
        if self._process is not None and self._process.poll() is None:
            raise NodeError(f"{self._node.name}: chronyd runs already")
        self._node.run(["install", "-d", "-m", "0750", "/run/chrony", "/run/tsc-node"])
        # One that was killed leaves its file, whose process id may be another's by now.
        self._node.run(["rm", "-f", "/run/chrony/chronyd.pid"])
        self._node.write_file(_CONFIG_PATH, self._config)
        self._process = self._node.start(
            [program("chronyd"), "-u", "root", "-d", *self._flags, "-f", _CONFIG_PATH], name="chronyd")

    def poll(self) -> int | None:
        """The exit status, None while it runs (or is frozen)."""
        return self._started().poll()

    def kill(self) -> None:
        """It dies without a farewell: the kernel keeps its last word, and the rate that it had set."""
        self._started().kill()
        self._started().wait()

    def freeze(self, timeout: float = 30.0) -> None:
        """It is there, but neither answers nor disciplines, until thaw(). It corrects a clock by letting it run fast or
        slow for a while, by up to 8 %, and frozen meanwhile would leave it so; waits for a moment in between."""
        deadline = time.monotonic() + timeout
        while True:
            self._started().send_signal(signal.SIGSTOP)
            if abs(self._node.clock_rate_ppm()) < _CALM_PPM:
                return
            self.thaw()
            if time.monotonic() > deadline:
                raise NodeError(f"{self._node.name}: chronyd is busy correcting the clock for {timeout:.0f} s now")

    def thaw(self) -> None:
        self._started().send_signal(signal.SIGCONT)

    def log_tail(self, lines: int = 20) -> str:
        return self._started().log_tail(lines)

    def _started(self) -> NodeProcess:
        assert self._process is not None, "start first"
        return self._process


def clock_bound(node: Node) -> ClockBound | None:
    """What chronyd says of a node; None while it does not answer."""
    done = node.run([program("chronyc"), "-c", "-n", "tracking"], check=False)
    fields = done.stdout.strip().split(",")
    if done.returncode != 0 or len(fields) != 14:
        return None

    def ns(field: str) -> int:
        return round(float(field) * 1e9)

    return ClockBound(fields[0] != "00000000" and fields[13] == "Normal", ns(fields[4]), ns(fields[10]),
                      ns(fields[11]))


def program(name: str) -> str:
    """Where this machine has it, and so the node: ./run unpacks chrony somewhere on its PATH."""
    return shutil.which(name) or name
