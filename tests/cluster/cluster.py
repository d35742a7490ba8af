"""A cluster of one or two nodes on this machine, and what only a cluster can do: ground truth and a common clock.

`with Cluster() as cluster:` leaves nothing behind, however the block ends: no process, no file. (After SIGKILL the
kernel ends the nodes; only the work directory stays.) Not thread-safe, but its nodes are.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import types
from dataclasses import dataclass
from typing import Any

from . import chronyd
from .chronyd import Chronyd, ClockBound
from .node import Node, NodeConfig, NodeError

SHARED_BYTES = 1 << 20
_GROUNDTRUTH = pathlib.Path(__file__).resolve().parent.parent / "groundtruth"


class Terminated(SystemExit):
    """A signal asked this process to end while a cluster was up."""


@dataclass(frozen=True)
class TscDistance:
    """How far node 2's TSC is ahead of node 1's: |true - distance_ticks| <= error_ticks."""

    distance_ticks: int
    error_ticks: int


@dataclass(frozen=True)
class TrueClockOffset:
    """How far node 2's CLOCK_REALTIME is ahead of node 1's: |true - offset_ns| <= error_ns."""

    offset_ns: int
    error_ns: int


class Cluster:
    def __init__(self, nodes: int = 2, *, smp: int = 2, memory_mb: int = 2048,
                 boot_timeout: float = 90.0, tcg_thread: str = "single", extra_qemu_args: tuple[str, ...] = (),
                 extra_kernel_args: tuple[str, ...] = (), root: pathlib.Path = pathlib.Path("/"), init: str = "") -> None:
        if nodes not in (1, 2):
            raise ValueError("a cluster has one or two nodes: they are linked point to point")
        self._count = nodes
        self._boot_timeout = boot_timeout
        self._settings: dict[str, Any] = {
            "smp": smp, "memory_mb": memory_mb, "shared_bytes": SHARED_BYTES, "tcg_thread": tcg_thread,
            "extra_qemu_args": extra_qemu_args, "extra_kernel_args": extra_kernel_args,
            "root": root, "init": init,
        }  # fmt: skip
        self.nodes: list[Node] = []
        self._handlers: dict[int, Any] = {}
        self._work: pathlib.Path | None = None

    # Life

    def __enter__(self) -> Cluster:
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: types.TracebackType | None) -> None:
        self.close()

    def open(self) -> None:
        """Boots the nodes side by side and returns when all of them answer."""
        self._catch_signals()
        atexit.register(self.close)
        try:
            self._boot()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends the nodes and removes every file. May be called twice, or after a failed open."""
        atexit.unregister(self.close)
        # A second signal must not cut this short: it takes milliseconds.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM,
                                                            signal.SIGHUP})
        try:
            for node in self.nodes:
                node.close()
            if self._work is not None:
                if os.environ.get("TSC_HANDOFF_KEEP_LOGS"):
                    print(f"cluster: logs kept in {self._work}")
                else:
                    shutil.rmtree(self._work, ignore_errors=True)
                self._work = None
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            self._handlers = {}
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    @property
    def work_dir(self) -> pathlib.Path:
        assert self._work is not None, "the cluster is not open"
        return self._work

    @property
    def exchange(self) -> pathlib.Path:
        """The directory that the nodes see as /exchange."""
        return self.work_dir / "exchange"

    def _boot(self) -> None:
        self._work = pathlib.Path(tempfile.mkdtemp(prefix="tsc-cluster-"))
        self.exchange.mkdir()
        with contextlib.ExitStack() as stack:
            # An anonymous file and a socket pair: nothing to clean up and no port to lose to others.
            shared_fd = os.memfd_create("tsc-cluster")
            stack.callback(os.close, shared_fd)
            os.ftruncate(shared_fd, SHARED_BYTES)
            links: list[socket.socket | None] = [None]
            if self._count == 2:
                links = list(socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
            for number, link in enumerate(links, 1):
                if link is not None:
                    stack.enter_context(link)
                address = "-" if link is None else f"10.77.0.{number}/24"
                config = NodeConfig(f"node{number}", mac_suffix=number, peer_socket=link,
                                    peer_address=address, shared_fd=shared_fd, **self._settings)
                self.nodes.append(Node(config, self._work, self.exchange))
            for node in self.nodes:
                node.start_boot()
        for node in self.nodes:
            node.wait_ready(self._boot_timeout)

    def _catch_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread may; the nodes die with the process all the same

        def terminate(number: int, _frame: types.FrameType | None) -> None:
            raise Terminated(128 + number)

        for number in (signal.SIGTERM, signal.SIGHUP):
            self._handlers[number] = signal.signal(number, terminate)

    # Ground truth

    def tsc_distance(self, attempts: int = 6, rounds: int = 20_000,
                     good_enough_ticks: int = 320) -> TscDistance:
        """Measures the distance of the nodes' TSCs through shared memory, in both directions in
        turn, until one attempt is good enough. Each attempt is a proven interval that holds the
        truth, so the result is what they have in common; NodeError if they have nothing."""
        lowest, highest = -(1 << 63), 1 << 63
        for attempt in range(attempts):
            one = self.tsc_distance_once(reverse=attempt % 2 == 1, rounds=rounds)
            lowest = max(lowest, one.distance_ticks - one.error_ticks)
            highest = min(highest, one.distance_ticks + one.error_ticks)
            if lowest > highest:
                raise NodeError("two measurements of the TSC distance exclude each other: a node "
                                "was stopped in between, or this machine's TSCs are not in step")
            if highest - lowest <= 2 * good_enough_ticks:
                break
        return TscDistance((lowest + highest) // 2, (highest - lowest + 1) // 2)

    def tsc_distance_once(self, *, reverse: bool = False, rounds: int = 20_000) -> TscDistance:
        """One attempt. With `reverse`, node 2 asks and node 1 answers; the sign stays the same."""
        binary = tsc_distance_binary(self.work_dir)
        asker, answerer = reversed(self.nodes) if reverse else self.nodes
        session = time.monotonic_ns() & 0xFFFFFFFF  # tells this run's messages from what the page still holds
        common = [binary, f"--rounds={rounds}", f"--session={session}"]
        pong = answerer.start([*common, "--role=pong"], name="tsc_distance")
        try:
            done = asker.run([*common, "--role=ping"], timeout=60)
        except NodeError as error:
            raise NodeError(f"{error}\n{answerer.name} said: {pong.log_tail()}") from error
        if pong.wait(30) != 0:
            raise NodeError(f"{answerer.name}: tsc_distance failed: {pong.log_tail()}")
        result = json.loads(done.stdout)
        sign = -1 if reverse else 1
        return TscDistance(sign * result["distance_ticks"], result["error_ticks"])

    def true_clock_offset(self, distance: TscDistance | None = None) -> TrueClockOffset:
        """How far node 2's CLOCK_REALTIME really is ahead of node 1's, at this moment. Exact only
        after start_chronyd: then nothing steers node 1's clock, which so runs at the TSC's rate."""
        distance = distance or self.tsc_distance()
        binary = tsc_distance_binary(self.work_dir)
        first, second = (json.loads(node.run([binary, "--role=clock", "--rounds=2000"]).stdout)
                         for node in self.nodes)
        # Node 1's clock, carried on to the moment at which node 2 took its sample.
        ticks = second["tsc_ticks"] - distance.distance_ticks - first["tsc_ticks"]
        khz = self.nodes[0].tsc_khz()
        errors = first["error_ticks"] + second["error_ticks"] + distance.error_ticks
        return TrueClockOffset(
            second["realtime_ns"] - first["realtime_ns"] - ticks * 1_000_000 // khz,
            errors * 1_000_000 // khz + 2)

    # The common clock

    def start_chronyd(self) -> list[Chronyd]:
        """Makes node 1 the cluster's time and lets node 2 follow it. Returns the two daemons."""
        if self._count != 2:
            raise ValueError("a common clock takes two nodes")
        daemons = [Chronyd(self.nodes[0], chronyd.SERVER_CONFIG, ["-x"]),
                   Chronyd(self.nodes[1], chronyd.CLIENT_CONFIG)]
        for daemon in daemons:
            daemon.start()
        # Node 1's error against the cluster's time is nought.
        self.nodes[0].vouch_for_clock()
        return daemons

    def clock_bound(self, node: Node | None = None) -> ClockBound | None:
        """What chronyd says of a node (node 2 by default); None while it does not answer."""
        return chronyd.clock_bound(node or self.nodes[-1])

    def wait_clock(self, bound_ns: int, timeout: float = 60.0, node: Node | None = None) -> ClockBound:
        """Returns when node 2's clock is known to within `bound_ns`; NodeError when it never is."""
        node = node or self.nodes[-1]
        deadline = time.monotonic() + timeout
        pause = threading.Event()
        while True:
            bound = self.clock_bound(node)
            if bound is not None and bound.synchronised and bound.bound_ns < bound_ns:
                return bound
            if time.monotonic() > deadline:
                logs = "\n".join(path.read_text(errors="replace")[-1500:]
                                 for path in sorted(self.exchange.glob("*.chronyd.log")))
                raise NodeError(f"{node.name}: clock not within {bound_ns} ns after {timeout:.0f} s;"
                                f" last: {bound}; chronyd's logs:\n{logs}")
            pause.wait(0.2)


def tsc_distance_binary(work_dir: pathlib.Path) -> pathlib.Path:
    """What Bazel built, where ./run says so with $TSC_BAZEL_BIN; otherwise compiled here and now."""
    built = os.environ.get("TSC_BAZEL_BIN")
    if built and (pathlib.Path(built) / "tests/groundtruth/tsc_distance").is_file():
        return (pathlib.Path(built) / "tests/groundtruth/tsc_distance").resolve()
    binary = work_dir / "tsc_distance"
    if not binary.exists():
        subprocess.run(["g++", "-std=c++20", "-O2", "-Wall", "-Wextra", "-Werror", "-o", binary,
                        _GROUNDTRUTH / "tsc_distance.cc"], check=True)
    return binary
