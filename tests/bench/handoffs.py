"""Whole handoffs between two agents with journals on this machine's disk, and the start with a long journal.

Two agents on simulated hosts and their VMs, each agent in a process of its own. A handoff is capture, apply and two
commits. Its floor is what it cannot be faster than: 4 empty RPCs and 5 bare syncs, in the order in which a handoff makes
them, from one agent and file to the other. Back to back, with warm caches and cores that do not fall asleep, the same
take less; that is shown beside it.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import subprocess
import tempfile
import threading
import time
import urllib.request
from typing import Any

from ..programs import LabError, SimAgent, binary
from .handoff_figures import Handoffs
from .memory import raise_descriptor_limit
from .places import say

BENCH = "tests/bench/handoff_bench"
AGENT = "server/agent/tsc-agent"
TSCCTL = "client/tscctl/tscctl"
HOST = "svm:2600000"
PARALLEL = (1, 4, 16, 64)
# A VMM process serves so many VMs: with a descriptor for each vCPU and some for each VM, it stays below usual limits.
VMS_PER_PROCESS = 500
START_LIMIT_S = 30.0


def run_bench(*arguments: str) -> dict[str, Any]:
    done = subprocess.run([binary(BENCH), *arguments], capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise LabError(f"handoff_bench {arguments[0]} failed ({done.returncode}):\n{done.stderr}")
    return dict(json.loads(done.stdout))


def core_ticks() -> tuple[int, int]:
    """Of all cores since boot: busy, and in all. Waiting for disks is not busy, nor is what a hypervisor took away."""
    fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]]
    return sum(fields) - fields[3] - fields[4], sum(fields)


def commit_seconds(agent: SimAgent) -> tuple[float, int]:
    """What the agent's journal has spent on its commits so far, and how many they were."""
    port = agent.ready["hosts"][0]["metrics_port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = [re.search(rf"^tsc_agent_journal_commit_seconds_{name} (\S+)$", text, re.MULTILINE)
             for name in ("sum", "count")]
    if not found[0] or not found[1]:
        raise LabError("the agent's metrics do not tell of its journal")
    return float(found[0][1]), int(float(found[1][1]))


def evacuate(agents: list[SimAgent], source: int, parallel: int) -> dict[str, Any]:
    cores, before = core_ticks(), [commit_seconds(agent) for agent in agents]
    result = run_bench("evacuate", "--agent", *(agent.addresses[0] for agent in agents), "--from", str(source),
                       "--parallel", str(parallel))
    busy, ticks = (now - then for then, now in zip(cores, core_ticks(), strict=True))
    after = [commit_seconds(agent) for agent in agents]
    seconds = result["seconds"]
    shares = [(now[0] - then[0]) / seconds for then, now in zip(before, after, strict=True)]
    return {**result, "cores_busy": busy / max(ticks, 1), "journal_busy": max(shares),
            "commits_per_handoff": sum(now[1] - then[1] for then, now in zip(before, after, strict=True)) / result["vms"]}


def measure_start(directory: pathlib.Path, entries: int) -> float:
    """Seconds from the agent's start until it answers, with so many entries in its journal."""
    journal = directory / "long" / "journal.db"
    run_bench("fill", "--journal", str(journal), "--entries", str(entries))
    address = f"unix:{directory}/agent.sock"
    started = time.monotonic()
    process = subprocess.Popen([binary(AGENT), "--listen", address, "--vmm-socket", f"{directory}/vmm.sock", "--metrics", "",
                                "--clock", "kernel", "--journal", str(journal), "--log-level", "error"])
    try:
        pause = threading.Event()
        while True:
            host = subprocess.run([binary(TSCCTL), "--agent", address, "host"], capture_output=True, text=True, timeout=30)
            seconds = time.monotonic() - started
            if host.returncode == 0:
                return seconds
            if process.poll() is not None or seconds > START_LIMIT_S:
                raise LabError(f"the agent does not serve with {entries} journal entries: {host.stderr}")
            pause.wait(0.01)
    finally:
        process.terminate()
        process.wait(20)


def measure(vms: int = 1000, vcpus: int = 16, seconds: float = 10, entries: int = 10_000) -> Handoffs:
    say(f"handoffs: {vms:,} VMs of {vcpus} vCPUs on each of two agents")
    raise_descriptor_limit(vms * (vcpus + 4) + 1024)
    with tempfile.TemporaryDirectory(prefix="tsc-bench-") as name, contextlib.ExitStack() as stack:
        directory = pathlib.Path(name)
        agents = []
        for side in range(2):
            socket = str(directory / f"vmm-{side}.sock")
            journal = directory / f"journal-{side}" / "journal.db"
            agents.append(stack.enter_context(SimAgent("--role", "agent", "--host", f"{HOST}:journal={journal}", "--metrics",
                                                       "--vmm-socket", socket)))
            for first in range(0, vms, VMS_PER_PROCESS):
                stack.enter_context(SimAgent(
                    "--role", "vmms", "--host", HOST, "--vms", str(min(VMS_PER_PROCESS, vms - first)), "--vcpus", str(vcpus),
                    "--vm-prefix", f"vm-{first // VMS_PER_PROCESS}-", "--vmm-socket", socket,
                    *(["--awaits-handoff"] if side == 1 else [])))
        evacuations, source = [], 0
        for parallel in PARALLEL:
            evacuations.append(evacuate(agents, source, parallel))
            say(f"handoffs: {parallel} at a time: {evacuations[-1]['handoffs_per_second']:.0f} a second")
            source = 1 - source
        one = run_bench("one", "--agent", *(agent.addresses[0] for agent in agents), "--from", str(source), "--vm", "vm-0-0",
                        "--directory", str(directory), "--seconds", str(seconds))
    with tempfile.TemporaryDirectory(prefix="tsc-bench-") as name:
        start_seconds = measure_start(pathlib.Path(name), entries)
    return Handoffs(one, evacuations, vms, vcpus, os.cpu_count() or 1, entries, round(start_seconds, 3))
