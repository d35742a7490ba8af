"""A client in another language, which has no generated code, lists VMs and hands one over, by reflection alone."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

grpc = pytest.importorskip("grpc", reason="python3-grpcio is not installed: ./run deps test")

from .reflection_client import ReflectionClient, ReflectionError  # noqa: E402

_PROJECT = pathlib.Path(__file__).resolve().parents[2]
_AGENT = "tschandoff.v1.TscAgent"


class SimAgent:
    """sim_agent as a process; the protocol stands in tests/sim_agent/control.h."""

    def __init__(self, *arguments: str) -> None:
        root = pathlib.Path(os.environ.get("TSC_BAZEL_BIN", _PROJECT / "bazel-bin"))
        binary = root / "tests/sim_agent/sim_agent"
        if not binary.exists():
            pytest.fail(f"{binary} is not built: start this with ./run test, or build //tests/sim_agent first")
        self._process = subprocess.Popen(
            [binary, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.addresses = [host["address"] for host in self._read()["hosts"]]

    def command(self, **command: Any) -> dict[str, Any]:
        """Carries a command out and returns its answer."""
        assert self._process.stdin is not None
        print(json.dumps(command), file=self._process.stdin, flush=True)
        answer = self._read()
        assert answer["ok"], answer
        return answer

    def close(self) -> None:
        """Ends the process as the end of its stdin does."""
        self._process.communicate(timeout=20)
        assert self._process.returncode == 0

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"sim_agent ended with status {self._process.wait(timeout=20)}"
        return json.loads(line)


@pytest.fixture(name="sim")
def _sim() -> Iterator[SimAgent]:
    sim = SimAgent("--host", "vmx:2100000:scaling", "--host", "svm:3500000:scaling")
    sim.command(cmd="create_vm", host=0, vm="vm-b", vcpus=2, phases=[0, 700])
    sim.command(cmd="create_vm", host=0, vm="vm-a", ids=[0, 4, 9])
    sim.command(cmd="create_vm", host=1, vm="vm-b", vcpus=2)
    yield sim
    sim.close()


def test_services_and_methods_are_listed(sim: SimAgent) -> None:
    with ReflectionClient(sim.addresses[0]) as client:
        services = client.services()
        assert {_AGENT, "grpc.health.v1.Health"} <= set(services)
        assert {"GetHostInfo", "ListVms", "GetVm", "GetTscState", "SetTscState"} <= set(client.methods(_AGENT))


def test_vms_are_listed(sim: SimAgent) -> None:
    with ReflectionClient(sim.addresses[0]) as client:
        vms = client.call(_AGENT, "ListVms", {})["vms"]
    assert [(vm["vm_id"], vm["vcpu_count"]) for vm in vms] == [("vm-a", 3), ("vm-b", 2)]
    assert vms[0]["port"] == "PORT_IN_PROCESS"


def test_vm_is_handed_over(sim: SimAgent) -> None:
    with ReflectionClient(sim.addresses[0]) as source, ReflectionClient(sim.addresses[1]) as destination:
        captured = source.call(_AGENT, "GetTscState", {"vm_id": "vm-b"})
        request = {"vm_id": "vm-b", "state": captured["state"], "mode": "APPLY_MODE_ELAPSED"}
        applied = destination.call(_AGENT, "SetTscState", request)
    assert "phase_error_ticks" not in applied  # 0
    assert [vcpu.get("vcpu_id", 0) for vcpu in applied["vcpus"]] == [0, 1]
    truth = sim.command(cmd="truth", vm="vm-b")["vms"]
    errors = {d["guest_tsc_ticks"] - s["guest_tsc_ticks"] for s, d in zip(truth[0]["vcpus"], truth[1]["vcpus"])}
    assert len(errors) == 1, "phase"
    assert abs(errors.pop()) / 2.1 <= int(applied["error_bound"]["total_ns"])


def test_errors_are_grpcs(sim: SimAgent) -> None:
    with ReflectionClient(sim.addresses[0]) as client:
        with pytest.raises(grpc.RpcError) as refusal:
            client.call(_AGENT, "GetVm", {"vm_id": "nobody"})
        assert refusal.value.code() == grpc.StatusCode.NOT_FOUND
        assert "tscctl vms" in refusal.value.details()
        with pytest.raises(ReflectionError, match="no method"):
            client.call(_AGENT, "NoSuchMethod", {})


def test_command_line(sim: SimAgent) -> None:
    program = [sys.executable, str(pathlib.Path(__file__).with_name("reflection_client.py")), sim.addresses[0]]
    services = subprocess.run(program, check=True, capture_output=True, text=True, timeout=60).stdout
    assert f"{_AGENT} GetHostInfo ListVms" in services
    vms = subprocess.run(
        [*program, f"{_AGENT}/ListVms", '{"page_size": 1}'], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    assert json.loads(vms)["next_page_token"] == "vm-a"
