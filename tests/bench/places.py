"""Where it is measured: a node with real KVM, and a simulated host in processes of this machine."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..demo.lab import VMM_SOCKET, Lab
from ..programs import LabError, binary
from .figures import Environment

VCPUS = (1, 8, 64, 256, 1024)
BENCH_VM = "tests/bench/bench_vm"
AGENT_SOCKET = "/run/tsc-handoff-bench.sock"
PROBE_ADDRESS = "127.0.0.1:50052"  # probes go over TCP
# What one of KVM's TSC ioctls costs on bare metal (986 ns published for an offset).
BARE_METAL_IOCTL_NS = 1000
# Every vCPU is a descriptor in the agent; a node's own limit is 4096.
NODE_DESCRIPTORS = 65536
# A node is emulated; a busy machine makes its brackets wide. The time stated is measured, not judged.
MAX_ERROR = "5ms"


@dataclass(frozen=True)
class Effort:
    """How long each number of vCPUs is measured."""

    min_rounds: int
    max_rounds: int
    seconds: float
    seconds_most_vcpus: float  # with 1,024, where a round takes long

    def arguments(self, vcpus: int) -> list[str]:
        seconds = self.seconds_most_vcpus if vcpus == max(VCPUS) else self.seconds
        return ["--vcpus", str(vcpus), "--min-rounds", str(self.min_rounds), "--max-rounds", str(self.max_rounds),
                "--seconds", str(seconds)]


REAL = Effort(min_rounds=30, max_rounds=1000, seconds=10, seconds_most_vcpus=40)
REAL_QUICK = Effort(min_rounds=5, max_rounds=20, seconds=1, seconds_most_vcpus=1)
SIMULATED = Effort(min_rounds=100, max_rounds=2000, seconds=4, seconds_most_vcpus=8)
SIMULATED_QUICK = Effort(min_rounds=5, max_rounds=50, seconds=0.2, seconds_most_vcpus=0.2)


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def load_average() -> str:
    return " ".join(pathlib.Path("/proc/loadavg").read_text().split()[:3])


def measure_all(name: str, description: str, measure: Callable[[int], str]) -> Environment:
    """`measure` runs bench_vm for one number of vCPUs and gives its output."""
    before = load_average()
    results: list[dict[str, Any]] = []
    for vcpus in VCPUS:
        started = time.monotonic()
        result = dict(json.loads(measure(vcpus)))
        results.append(result)
        say(f"{name}: {vcpus} vCPUs: {result['rounds']} rounds in {time.monotonic() - started:.1f} s")
    return Environment(name, description, results, before, load_average())


def simulated(quick: bool, ioctl_ns: int = 0) -> Environment:
    effort = SIMULATED_QUICK if quick else SIMULATED

    def measure(vcpus: int) -> str:
        command = [binary(BENCH_VM), "--kvm", "simulated", "--ioctl-ns", str(ioctl_ns), *effort.arguments(vcpus)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            raise LabError(f"bench_vm with {vcpus} simulated vCPUs failed ({done.returncode}):\n{done.stderr}")
        return done.stdout

    if ioctl_ns == 0:
        return measure_all("simulated", "simulated host on this machine; its ioctls cost next to nothing", measure)
    return measure_all(f"simulated-{ioctl_ns // 1000}us",
                       f"simulated host on this machine; each ioctl takes {ioctl_ns} ns, about as on bare metal", measure)


def real(quick: bool) -> Environment:
    effort = REAL_QUICK if quick else REAL
    program = binary(BENCH_VM)
    say("real: booting a node with real KVM (QEMU TCG)")
    # A log line per RPC would go through the node's emulated file system; elsewhere it does not.
    agent_arguments = ["--listen", f"unix:{AGENT_SOCKET}", "--listen", PROBE_ADDRESS, "--peer-address", PROBE_ADDRESS,
                       "--max-error", MAX_ERROR, "--log-level", "warn"]
    with Lab(nodes=1, clocks=False, agent_arguments=agent_arguments) as lab:
        agent, node = lab.agents[0], lab.cluster.nodes[0]
        node.run(["prlimit", f"--pid={agent.process.pid}", f"--nofile={NODE_DESCRIPTORS}:{NODE_DESCRIPTORS}"])

        def measure(vcpus: int) -> str:
            return node.run([program, "--kvm", "real", "--agent", f"unix:{AGENT_SOCKET}", "--vmm-socket", VMM_SOCKET,
                             *effort.arguments(vcpus)], timeout=300).stdout

        return measure_all("real", "node with real KVM (kvm-amd), emulated by QEMU TCG", measure)
