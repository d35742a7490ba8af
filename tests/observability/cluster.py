"""The two-node cluster with everything that operators see of it: real agents, real handoffs, the real Prometheus."""

from __future__ import annotations

import contextlib
import types

from ..demo.lab import Lab, patiently, tscctl
from ..e2e.reflection_client import ReflectionClient
from ..programs.lab_tls import open_channel
from .prometheus import Prometheus, wait_for

SERVICE = "tschandoff.v1.TscAgent"
METRICS_PORT = 9464
VM = "vm"
# The address at which this machine's port forward reaches a node.
_METRICS = ["--metrics", f"10.0.2.15:{METRICS_PORT}", "--metrics-per-vm", "3"]
# An emulated node on a busy machine may take longer than a second to answer, and each scrape that fails is a gap.
_SCRAPE_INTERVAL = "5s"
_ARGUMENTS = ["--max-error", "20ms", "--undecided-after", "3s", *_METRICS]


def reflection_client(address: str) -> ReflectionClient:
    return ReflectionClient(address, open_channel(address))


class WatchedCluster:
    """Node 1 is scraped as "node1", node 2 as "node2". Not thread-safe."""

    def __init__(self) -> None:
        self._lab = Lab(agent_arguments=_ARGUMENTS)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> WatchedCluster:
        with contextlib.ExitStack() as stack:
            self.lab = stack.enter_context(self._lab)
            self.targets = {node.name: f"127.0.0.1:{node.forward(METRICS_PORT)}" for node in self.lab.cluster.nodes}
            self.prometheus = stack.enter_context(Prometheus(self.targets, interval=_SCRAPE_INTERVAL))
            self.lab.wait_clock_trusted(5_000_000)
            # What is counted before the first sample is no increase.
            wait_for(lambda: len(self.prometheus.query("tsc_agent_build_info")) == len(self.targets), "both are scraped")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: types.TracebackType | None) -> None:
        self._stack.__exit__(kind, error, trace)

    def hand_back_and_forth(self, times: int) -> None:
        """A VM of two vCPUs with unequal TSCs, which does not run; an even number brings it back to node 1. Each agent probes
        the other one once: a busy machine's nodes often do not answer in time."""
        self.lab.witness(0, VM, 2, ["--paused", "--phase-ticks=0,4711"])
        self.lab.witness(1, VM, 2, ["--incoming"])
        for number in range(times):
            source, destination = (self.lab.agents if number % 2 == 0 else self.lab.agents[::-1])
            probe = [] if number < 2 else ["--no-probe"]
            call = ["-o", "json", "handoff", VM, "--from", source.address, "--to", destination.address, *probe]
            result = patiently(lambda: tscctl(*call), timeout=120)
            assert result.status == 0, result

    def be_refused(self) -> None:
        """Node 2's other VM has another number of vCPUs, and the handoff is aborted."""
        self.lab.witness(1, "other", 1, ["--incoming"])
        source, destination = self.lab.agents
        result = tscctl("handoff", VM, "--to-vm", "other", "--no-probe", "--from", source.address, "--to", destination.address)
        assert "VCPU_SET_MISMATCH" in result.stderr, result

    def leave_undecided(self, handoff_id: str) -> None:
        """Begins a handoff from node 1, as an orchestrator does that dies after the capture."""
        with reflection_client(self.lab.agents[1].address) as destination:
            agent_id = destination.call(SERVICE, "GetHostInfo", {})["host"]["agent_id"]
        with reflection_client(self.lab.agents[0].address) as source:
            source.call(SERVICE, "GetTscState", {"vm_id": VM, "handoff_id": handoff_id, "destination_agent_id": agent_id,
                                                 "destination_vm_id": VM})
