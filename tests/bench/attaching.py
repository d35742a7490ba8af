"""How long an attached VMM's thread is stopped, beside the cooperative port and the bare loop of ioctls in the VMM.

On a node with real KVM, and natively on a simulated host whose ioctls take as long as on bare metal. There the payload that is
injected calls the fake in place of KVM: what is measured is the machine's own ptrace, and what is simulated is only what an
ioctl answers.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

from ..cluster import Cluster
from ..programs import LabError, binary
from .attach_figures import Attached
from .places import BARE_METAL_IOCTL_NS, say

VCPUS = (1, 8, 64, 255)
ATTACH_BENCH = "tests/bench/attach_bench"


def measure_all(name: str, description: str, measure: Callable[[int], str]) -> Attached:
    results: list[dict[str, Any]] = []
    for vcpus in VCPUS:
        started = time.monotonic()
        results.append(dict(json.loads(measure(vcpus))))
        say(f"attached, {name}: {vcpus} vCPUs: {results[-1]['rounds']} rounds in {time.monotonic() - started:.1f} s")
    return Attached(name, description, results)


def effort(quick: bool, seconds: float) -> list[str]:
    return ["--min-rounds", "5", "--max-rounds", "10", "--seconds", "0.5"] if quick else [
        "--min-rounds", "100", "--max-rounds", "2000", "--seconds", str(seconds)]


def simulated(quick: bool) -> Attached:
    def measure(vcpus: int) -> str:
        done = subprocess.run([binary(ATTACH_BENCH), "--kvm", "simulated", "--ioctl-ns", str(BARE_METAL_IOCTL_NS), "--vcpus",
                               str(vcpus), *effort(quick, 10)], capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            raise LabError(f"attach_bench with {vcpus} simulated vCPUs failed ({done.returncode}):\n{done.stderr}")
        return done.stdout

    return measure_all("simulated-1us", f"simulated host on this machine; each ioctl takes {BARE_METAL_IOCTL_NS} ns", measure)


def real(quick: bool) -> Attached:
    program = binary(ATTACH_BENCH)
    say("attached, real: booting a node with real KVM (QEMU TCG)")
    with Cluster(nodes=1) as cluster:
        node = cluster.nodes[0]

        def measure(vcpus: int) -> str:
            return node.run([program, "--vcpus", str(vcpus), *effort(quick, 20)], timeout=300).stdout

        return measure_all("real", "node with real KVM (kvm-amd), emulated by QEMU TCG", measure)


def measure(quick: bool) -> list[Attached]:
    return [real(quick), simulated(quick)]
