"""The agent and stock QEMUs on one node: finds them, says what is possible with each, reads, writes and hands over."""

from __future__ import annotations

import pathlib
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from ..cluster import Cluster
from ..demo.lab import VMM_SOCKET
from ..programs import binary
from ..witness import start_witness
from .attaching_host import MOVE_TICKS, Host, move_vcpu, wait_for
from .node_qemu import NodeQemu


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Cluster(nodes=1) as cluster:
        yield Host(cluster.nodes[0])


@pytest.fixture(scope="module")
def qemu(host: Host) -> Iterator[NodeQemu]:
    with NodeQemu(host.node, name="web1", vcpus=2) as running:
        host.wait_port("web1")
        yield running


def test_vms_are_found_listed_and_forgotten(host: Host, qemu: NodeQemu) -> None:
    name = f"uuid-{uuid.uuid4()}"
    with NodeQemu(host.node, name=name, vcpus=3) as other:
        found = host.wait_port(name, vcpus=3)
        assert found["vmm_pid"] == other.pid
        assert found["unreachable_reason"] == "" and found["may_run"]
        # QEMU writes the TSCs one by one as it starts; a look in between is put right by the next one.
        wait_for(lambda: (host.vms()[name]["observation"] or {}).get("offsets_equal"), "an observation")
        observation = host.vms()[name]["observation"]
        assert observation["offsets_equal"] and observation["phase_spread_ticks"] == "0" and not observation["scaled"]
        assert {"web1", name} == set(host.vms())
    wait_for(lambda: set(host.vms()) == {"web1"}, f"the end of {name}", timeout=5)


def test_a_running_vm_is_refused(host: Host, qemu: NodeQemu) -> None:
    qemu.qmp("cont")
    assert host.refusal("get", "web1") == "VM_RUNNING"
    assert host.vms()["web1"]["run_state"] == "RUN_STATE_RUNNING"
    assert qemu.qmp("query-status")["running"]


def test_a_state_is_read_and_written_back(host: Host, qemu: NodeQemu, tmp_path: pathlib.Path) -> None:
    qemu.qmp("stop")
    file = tmp_path / "web1.tsc"
    attached = len(host.attached_for("web1"))
    before, seen = qemu.fingerprint(), qemu.offsets()
    captured = host.ctl("get", "web1", "--out", file).json
    assert captured["summary"]["vcpu_count"] == 2 and captured["summary"]["offsets_equal"]
    # On the same host in the same boot time needs no clock: every offset comes out as it was.
    applied = host.ctl("set", "web1", "--in", file, "--mode", "elapsed").json
    assert int(applied["phase_error_ticks"]) == 0 and qemu.offsets() == seen
    host.ctl("set", "web1", "--in", file, "--mode", "exact").json
    assert len(set(qemu.offsets())) == 1 and qemu.offsets() != seen
    assert host.vms()["web1"]["run_state"] == "RUN_STATE_PAUSED"
    assert host.attached_for("web1")[attached:] == ["GetTscState", "SetTscState", "SetTscState"]
    assert qemu.fingerprint() == before
    offsets = qemu.offsets()
    qemu.qmp("cont")
    assert qemu.offsets() == offsets


def test_a_phase_that_changes_on_its_own_is_told_and_the_agents_own_writes_are_not(
        host: Host, qemu: NodeQemu, tmp_path: pathlib.Path) -> None:
    def observed() -> dict[str, Any]:
        return dict(host.vms()["web1"]["observation"])

    qemu.qmp("stop")
    file = tmp_path / "web1.tsc"
    counted, told = host.metric("tsc_agent_phase_changes_total"), int(observed()["changed_on_its_own"])
    host.ctl("get", "web1", "--out", file).json
    move_vcpu(qemu, 1, MOVE_TICKS)
    wait_for(lambda: observed()["phase_spread_ticks"] == str(MOVE_TICKS), "the spread")
    assert not observed()["offsets_equal"]
    assert int(observed()["changed_on_its_own"]) == told + 1
    assert host.metric("tsc_agent_phase_changes_total") == counted + 1
    assert re.search(rf"changed on its own.* vm=web1 .*spread_before_ticks=0 spread_after_ticks={MOVE_TICKS}",
                     host.agent.process.log())
    host.ctl("set", "web1", "--in", file, "--mode", "elapsed").json
    wait_for(lambda: observed()["offsets_equal"], "the spread is gone")
    assert int(observed()["changed_on_its_own"]) == told + 1
    assert host.metric("tsc_agent_phase_changes_total") == counted + 1


@pytest.mark.parametrize("how", ["prelaunch", "incoming", "paused"])
def test_a_handoff_from_one_qemu_to_another(host: Host, how: str) -> None:
    options = {"prelaunch": ["-S"], "incoming": ["-S", "-incoming", "defer"], "paused": []}[how]
    source_id, destination_id = f"from-{how}", f"to-{how}"
    with (NodeQemu(host.node, name=source_id, vcpus=2) as source,
          NodeQemu(host.node, name=destination_id, vcpus=2, options=options) as destination):
        host.wait_port(source_id)
        host.wait_port(destination_id)
        source.qmp("stop")
        if how == "paused":
            destination.qmp("stop")
        move_vcpu(source, 1, MOVE_TICKS)
        assert source.offsets() != destination.offsets()
        report = host.ctl("handoff", source_id, "--from", host.agent.address, "--to", host.agent.address, "--to-vm",
                          destination_id, "--no-probe").json
        assert report["phase_error_ticks"] == 0 and report["situation"]
        assert destination.offsets() == source.offsets(), "the host's TSC has counted all along"
        assert any(whom.startswith("SetTscState of handoff ") for whom in host.attached_for(destination_id))
        listed = host.vms()
        assert not listed[source_id]["may_run"] and listed[destination_id]["may_run"]
        if how != "incoming":
            offsets = destination.offsets()
            destination.qmp("cont")
            assert destination.offsets() == offsets
        # Nobody can keep a stock QEMU from running a VM that was given away; it is noticed.
        violations = host.metric("tsc_agent_permit_violations_total")
        source.qmp("cont")
        wait_for(lambda: host.metric("tsc_agent_permit_violations_total") == violations + 1, "a violation")


def test_a_handoff_that_is_undone_leaves_both_as_they_were(host: Host) -> None:
    with (NodeQemu(host.node, name="undone-from", vcpus=2) as source,
          NodeQemu(host.node, name="undone-to", vcpus=2, options=["-S"]) as destination):
        host.wait_port("undone-from")
        host.wait_port("undone-to")
        source.qmp("stop")
        destination.qmp("cont")  # which nobody should have done
        before = destination.offsets()
        result = host.ctl("handoff", "undone-from", "--from", host.agent.address, "--to", host.agent.address, "--to-vm",
                          "undone-to", "--no-probe")
        assert result.status == 1 and result.error["error"]["reason"] == "VM_RUNNING", result
        assert destination.offsets() == before and destination.qmp("query-status")["running"]
        assert host.vms()["undone-from"]["may_run"]


@pytest.mark.parametrize("goal", ["resume", "abort"])
def test_an_agent_that_dies_with_the_state_written_is_followed_by_one_that_knows(host: Host, goal: str) -> None:
    """The next agent must take the QEMU that it finds for the one that was written to."""
    source_id, destination_id = f"mortal-from-{goal}", f"mortal-to-{goal}"
    with (NodeQemu(host.node, name=source_id, vcpus=2) as source,
          NodeQemu(host.node, name=destination_id, vcpus=2, options=["-S"]) as destination):
        host.wait_port(source_id)
        host.wait_port(destination_id)
        source.qmp("stop")
        before = destination.offsets()
        assert before != source.offsets()
        host.start_mortal("apply.written")
        ways = ["--from", host.agent.address, "--to", host.agent.address]
        handoff_id = f"died-{goal}"
        died = host.ctl("handoff", source_id, *ways, "--to-vm", destination_id, "--no-probe", "--id", handoff_id)
        assert died.status != 0
        assert destination.offsets() == source.offsets(), "it was written"
        host.start_again()
        host.wait_port(destination_id)
        ended = host.ctl(goal, handoff_id, *ways, *(["--no-probe"] if goal == "resume" else []))
        assert ended.status == 0, ended
        assert destination.offsets() == (source.offsets() if goal == "resume" else before)
        assert host.vms()[source_id]["may_run"] == (goal == "abort")
        assert host.vms()[destination_id]["may_run"] == (goal == "resume")


def test_switched_off_vms_are_seen_and_not_touched(host: Host, qemu: NodeQemu) -> None:
    qemu.qmp("stop")
    with NodeQemu(host.node, name="other", vcpus=2, options=["-S"]), host.with_options(attach="off"):
        seen = host.wait_port("web1", "PORT_NONE")
        assert seen["unreachable"] == "ATTACH_DENIED" and "--attach" in seen["unreachable_reason"]
        assert seen["vcpu_count"] == 2 and seen["observation"]["offsets_equal"]
        attached = len(host.attached_for("web1"))
        assert host.refusal("get", "web1") == "ATTACH_DENIED"
        assert host.refusal("handoff", "web1", "--from", host.agent.address, "--to", host.agent.address, "--to-vm",
                            "other", "--no-probe") == "ATTACH_DENIED"
        assert len(host.attached_for("web1")) == attached
        with host.with_options("--observe", "off", attach="off"):
            assert host.vms() == {}
            assert host.refusal("get", "web1") == "VM_NOT_FOUND"


@pytest.mark.parametrize("rule", [("--attach-user", "nobody"), ("--attach-executable", "/opt/*"),
                                  ("--attach-cgroup", "/machine.slice")], ids=lambda rule: rule[0])
def test_what_the_operator_does_not_permit_is_denied(host: Host, qemu: NodeQemu, rule: tuple[str, str]) -> None:
    with host.with_options(*rule):
        seen = host.wait_port("web1", "PORT_NONE")
        assert seen["unreachable"] == "ATTACH_DENIED" and rule[0] in seen["unreachable_reason"]
        assert host.refusal("get", "web1") == "ATTACH_DENIED"


def test_what_the_operator_permits_is_attached_to(host: Host, qemu: NodeQemu) -> None:
    qemu.qmp("stop")
    with host.with_options("--attach-user", "nobody", "--attach-user", "root", "--attach-executable", "/usr/*/qemu-*"):
        host.wait_port("web1")
        assert host.ctl("get", "web1").status == 0


def test_a_sandboxed_qemu_is_refused_by_name(host: Host) -> None:
    with NodeQemu(host.node, name="sandboxed", vcpus=1, options=["-sandbox", "on"]) as qemu:
        seen = host.wait_port("sandboxed", "PORT_NONE", vcpus=1)
        assert seen["unreachable"] == "ATTACH_REFUSED" and "seccomp" in seen["unreachable_reason"]
        assert host.refusal("get", "sandboxed") == "ATTACH_REFUSED"
        qemu.qmp("stop")
        with host.with_options("--attach-allow-seccomp"):
            host.wait_port("sandboxed", vcpus=1)
            assert host.ctl("get", "sandboxed").status == 0


def test_two_vms_of_one_name_do_not_share_it(host: Host) -> None:
    with NodeQemu(host.node, name="twin", vcpus=1) as first:
        host.wait_port("twin", vcpus=1)
        with NodeQemu(host.node, name="twin", vcpus=1) as second:
            other = f"kvm-{second.pid}-"
            wait_for(lambda: any(vm_id.startswith(other) for vm_id in host.vms()), "the second")
            vm_id, seen = next(item for item in host.vms().items() if item[0].startswith(other))
            assert seen["unreachable"] == "VM_AMBIGUOUS" and f"process {first.pid}" in seen["unreachable_reason"]
            assert host.refusal("get", vm_id) == "VM_AMBIGUOUS"
            with host.with_options():  # the one that began first, whoever is asked
                assert host.wait_port("twin", vcpus=1)["vmm_pid"] == first.pid
            first.qmp("quit")
            wait_for(lambda: host.vms().get("twin", {}).get("vmm_pid") == second.pid, "the second has the name")


def test_a_rule_names_vms(host: Host, qemu: NodeQemu) -> None:
    with host.with_options("--vm-id-pattern", r"-name guest=web(\d+)"):
        assert host.wait_port("1")["vmm_pid"] == qemu.pid
        assert set(host.vms()) == {"1"}


def test_a_vmm_that_registers_speaks_for_itself(host: Host, qemu: NodeQemu) -> None:
    witness = pathlib.Path(binary("tests/witness/witness"))
    everything = ["--attach-executable", str(witness.resolve())]
    with host.with_options(*everything):
        process = start_witness(host.node, "speaks", vcpus=2, agent_socket=VMM_SOCKET, binary=witness, timeout=60.0)
        wait_for(lambda: host.vms().get("speaks", {}).get("port") == "PORT_COOPERATIVE", "the witness")
        wait_for(lambda: set(host.vms()) == {"speaks", "web1"}, "the witness is there once")
        assert host.vms()["web1"]["unreachable"] == "ATTACH_DENIED"
        wait_for(lambda: "observation" in host.vms()["speaks"], "it is observed like any other")
        process.control.quit()
        wait_for(lambda: set(host.vms()) == {"web1"}, "its end")
