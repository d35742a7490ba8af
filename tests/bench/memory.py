"""The agent's resident memory with many VMs, all of them simulated and in another process."""

from __future__ import annotations

import json
import os
import pathlib
import resource
import sys
import tempfile
import time

from ..cluster import Cluster
from ..programs import LabError, SimAgent, binary
from ..programs.sim_agent import PROGRAM
from .figures import Memory
from .places import say

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HOST = "svm:2600000"


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
        with SimAgent("--host", HOST, "--role", "agent", "--vmm-socket", socket) as agent:
            empty = agent.request("memory")
            started = time.monotonic()
            with SimAgent("--host", HOST, "--role", "vmms", "--vms", str(vms), "--vcpus", str(vcpus), "--vmm-socket",
                          socket):  # its first line comes when all are registered
                seconds = time.monotonic() - started
                full = agent.request("memory")
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
    binary(PROGRAM)
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
