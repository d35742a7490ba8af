"""A client in another language, which has no generated code, lists VMs and hands one over, by reflection alone."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

grpc = pytest.importorskip("grpc", reason="python3-grpcio is not installed: ./run deps test")

from ..programs import SimAgent  # noqa: E402
from .reflection_client import ReflectionClient, ReflectionError  # noqa: E402

_AGENT = "tschandoff.v1.TscAgent"


@pytest.fixture(name="sim")
def _sim() -> Iterator[SimAgent]:
    with SimAgent("--host", "vmx:2100000:scaling", "--host", "svm:3500000:scaling") as sim:
        sim.request("create_vm", host=0, vm="vm-b", vcpus=2, phases=[0, 700])
        sim.request("create_vm", host=0, vm="vm-a", ids=[0, 4, 9])
        sim.request("create_vm", host=1, vm="vm-b", vcpus=2)
        yield sim


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
    truth = sim.request("truth", vm="vm-b")["vms"]
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
