"""Two agents on simulated hosts, between which VMs are handed over. Not thread-safe."""

from __future__ import annotations

import types

from ..demo.lab import TscctlResult, tscctl
from ..programs import SimAgent

HOSTS = ("vmx:2100000:scaling:wall_error_ns=-9000", "svm:3500000:scaling:wall_error_ns=15000")
VMS = 5


class FleetOfTwo:
    """`words` are added to both hosts' descriptions; see sim_agent --help."""

    def __init__(self, words: str = "") -> None:
        self._hosts = [f"{host}:{words}" if words else host for host in HOSTS]

    def __enter__(self) -> FleetOfTwo:
        self.agent = SimAgent("--metrics", *(argument for host in self._hosts for argument in ("--host", host)))
        for host in range(2):
            for number in range(VMS):
                self.agent.request("create_vm", host=host, vm=f"stays-{host}-{number}", vcpus=2)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: types.TracebackType | None) -> None:
        self.agent.__exit__(kind, error, trace)

    @property
    def metrics_ports(self) -> list[int]:
        return [host["metrics_port"] for host in self.agent.ready["hosts"]]

    @property
    def metrics_urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}/metrics" for port in self.metrics_ports]

    def _handoff(self, vm: str, *options: str) -> TscctlResult:
        source, destination = self.agent.addresses
        return tscctl("handoff", vm, "--from", source, "--to", destination, "--source-agent", source, *options)

    def hand_over(self, vm: str) -> None:
        self.agent.request("create_vm", host=0, vm=vm, vcpus=4, phases=[0, 1000, -5])
        self.agent.request("create_vm", host=1, vm=vm, vcpus=4, awaits_handoff=True)
        result = self._handoff(vm)
        assert result.status == 0, result.stderr

    def be_refused(self, vm: str) -> None:
        """The destination's VM has other vCPUs."""
        self.agent.request("create_vm", host=0, vm=vm, vcpus=2)
        self.agent.request("create_vm", host=1, vm=vm, vcpus=1, awaits_handoff=True)
        assert "VCPU_SET_MISMATCH" in self._handoff(vm).stderr
