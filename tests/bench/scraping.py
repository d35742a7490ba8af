"""Scrapes of an agent with many VMs, all of them simulated and in another process."""

from __future__ import annotations

import pathlib
import statistics
import tempfile
import time
import urllib.request

from ..programs import SimAgent
from .memory import raise_descriptor_limit
from .places import say
from .scrape_figures import Scrape

HOST = "svm:2600000"
VCPUS = 8


def scrape(port: int, encoding: str) -> bytes:
    """As Prometheus does it, on a connection of its own."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept-Encoding": encoding})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bytes(answer.read())


def measure_one(vms: int, per_vm: int, rounds: int) -> Scrape:
    with tempfile.TemporaryDirectory(prefix="tsc-bench-") as directory:
        socket = str(pathlib.Path(directory) / "vmm.sock")
        with SimAgent("--host", f"{HOST}:metrics_per_vm={per_vm}", "--role", "agent", "--metrics", "--vmm-socket", socket) as agent, \
                SimAgent("--host", HOST, "--role", "vmms", "--vms", str(vms), "--vcpus", str(VCPUS), "--vmm-socket", socket):
            port = agent.ready["hosts"][0]["metrics_port"]
            text = scrape(port, "identity")
            compressed = scrape(port, "gzip")
            times = []
            for _ in range(rounds):
                started = time.perf_counter()
                scrape(port, "gzip")
                times.append(time.perf_counter() - started)
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    samples = sum(1 for line in text.splitlines() if line and not line.startswith(b"#"))
    return Scrape(vms, per_vm, rounds, round(cuts[49], 6), round(cuts[98], 6), len(text), len(compressed), samples)


def measure(quick: bool) -> list[Scrape]:
    vms, rounds = (20, 20) if quick else (1000, 500)
    raise_descriptor_limit(vms * (VCPUS + 8) + 1024)
    say(f"scrape: an agent with {vms:,} VMs of {VCPUS} vCPUs")
    return [measure_one(vms, 0, rounds), measure_one(vms, vms, rounds)]
