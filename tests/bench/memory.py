"""The agent's resident memory with many VMs, all of them simulated and in another process."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import threading
import time
import types
from typing import Any

from ..cluster import Cluster
from ..demo.lab import LabError, binary
from .figures import Memory
from .places import say

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SIM_AGENT = "tests/sim_agent/sim_agent"
HOST = "svm:2600000"
ANSWER_TIMEOUT_S = 120.0


class SimProcess:
    """A sim_agent: one JSON object per line on stdin, answered by one on stdout. Ends with the `with` block."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen([binary(SIM_AGENT), "--host", HOST, *arguments], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, text=True, bufsize=1)

    def __enter__(self) -> SimProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: types.TracebackType | None) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # it ends at the end of its stdin
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        watchdog = threading.Timer(ANSWER_TIMEOUT_S, self._process.kill)
        watchdog.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watchdog.cancel()
        if not line:
            raise LabError(f"sim_agent ended or said nothing for {ANSWER_TIMEOUT_S:.0f} s; what it wrote stands above")
        return dict(json.loads(line))

    def memory(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write('{"cmd":"memory"}\n')
        self._process.stdin.flush()
        return self.answer()


def raise_descriptor_limit(needed: int) -> bool:
    """For the processes started from here on: the agent holds every vCPU's descriptor. False when it is not permitted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return True
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, max(hard, needed)))
    except (ValueError, PermissionError):
        return False
    return True


def measure_here(vms: int, vcpus: int) -> Memory:
    with tempfile.TemporaryDirectory(prefix="tsc-bench-") as directory:
        socket = str(pathlib.Path(directory) / "vmm.sock")
        with SimProcess("--role", "agent", "--vmm-socket", socket) as agent:
            agent.answer()  # ready
            empty = agent.memory()
            started = time.monotonic()
            with SimProcess("--role", "vmms", "--vms", str(vms), "--vcpus", str(vcpus), "--vmm-socket", socket) as vmms:
                vmms.answer()  # registered
                seconds = time.monotonic() - started
                full = agent.memory()
    return Memory(vms, vcpus, empty["rss_bytes"], full["rss_bytes"], full["rss_peak_bytes"], round(seconds, 2))


def measure_in_node(vms: int, vcpus: int) -> Memory:
    """The same processes in a node, where root may have as many descriptors as it wants."""
    say("memory: booting a node, because this user may not have enough descriptors here")
    # Each simulated vCPU is a file in memory: some KiB of the node's kernel.
    with Cluster(1) as cluster:
        done = cluster.nodes[0].run(
            ["/usr/bin/python3", "-B", "-m", "tests.bench.memory", str(vms), str(vcpus)], timeout=240, cwd=str(ROOT),
            env={"TSC_BAZEL_BIN": os.environ["TSC_BAZEL_BIN"]})
    return Memory(**json.loads(done.stdout))


def measure(vms: int = 1000, vcpus: int = 64) -> Memory:
    binary(SIM_AGENT)
    say(f"memory: registering {vms:,} VMs of {vcpus} vCPUs with one agent")
    permitted = raise_descriptor_limit(descriptors(vms, vcpus))
    return measure_here(vms, vcpus) if permitted else measure_in_node(vms, vcpus)


def descriptors(vms: int, vcpus: int) -> int:
    return vms * (vcpus + 8) + 1024


def main(arguments: list[str]) -> int:
    """In a node: VMS VCPUS; a Memory as JSON on stdout."""
    vms, vcpus = map(int, arguments)
    if not raise_descriptor_limit(descriptors(vms, vcpus)):
        raise LabError(f"the node's root may not have {descriptors(vms, vcpus)} descriptors")
    print(json.dumps(vars(measure_here(vms, vcpus))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
