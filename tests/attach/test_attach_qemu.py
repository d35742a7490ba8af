"""The attach port against a stock QEMU on real KVM: nothing of the agent is linked into it, and it notices nothing."""

from __future__ import annotations

import json
import shlex
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ..cluster import Cluster, Node
from ..programs import binary
from .node_qemu import NodeQemu

PROBE = "tests/attach/attach_probe"
CONTRACT = "tests/attach/contract_attached_kvm"
MOVE_TICKS = 260_000


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Cluster(nodes=1) as cluster:
        yield cluster.nodes[0]


@pytest.fixture(scope="module")
def qemu(node: Node) -> Iterator[NodeQemu]:
    with NodeQemu(node, name="guest", vcpus=4) as running:
        yield running


def probe(qemu: NodeQemu, *arguments: object, timeout: float = 60.0, **env: str) -> dict[str, Any]:
    done = qemu.node.run([binary(PROBE), str(qemu.pid), *map(str, arguments)], check=False, env=env, timeout=timeout)
    assert done.stdout, done
    return dict(json.loads(done.stdout))


def offsets(states: list[dict[str, int]]) -> list[int]:
    return [state["offset_ticks"] for state in states]


def test_a_paused_vms_tscs_are_read_moved_and_read_back(qemu: NodeQemu) -> None:
    qemu.qmp("stop")
    before, seen = qemu.fingerprint(), qemu.offsets()
    assert len(seen) == 4
    assert probe(qemu, "paused") == {"paused": True}
    assert offsets(probe(qemu, "read")["vcpus"]) == seen
    moved = probe(qemu, "move", MOVE_TICKS)
    expected = [(offset + MOVE_TICKS) % 2**64 for offset in seen]
    assert offsets(moved["before"]) == seen
    assert offsets(moved["after"]) == offsets(moved["vcpus"]) == qemu.offsets() == expected
    assert qemu.fingerprint() == before
    qemu.qmp("cont")
    assert qemu.qmp("query-status")["running"]
    assert qemu.offsets() == expected


def test_a_running_vm_is_refused_and_runs_on(qemu: NodeQemu) -> None:
    qemu.qmp("cont")
    seen = qemu.offsets()
    assert probe(qemu, "paused") == {"paused": False}
    for operation in (["read"], ["move", MOVE_TICKS]):
        assert probe(qemu, *operation)["reason"] == "VM_RUNNING"
    assert qemu.qmp("query-status")["running"] and qemu.offsets() == seen


def test_five_hundred_cycles_leave_nothing_behind(qemu: NodeQemu) -> None:
    qemu.qmp("stop")
    before, seen = qemu.fingerprint(), qemu.offsets()
    results: list[dict[str, Any]] = []
    worker = threading.Thread(target=lambda: results.append(probe(qemu, "read", 500, timeout=120)))
    worker.start()
    answered = 0
    while worker.is_alive():  # its monitor, served by the very thread that is borrowed, answers meanwhile
        assert qemu.qmp("query-status")["running"] is False
        answered += 1
    worker.join()
    assert answered > 0 and len(results[0]["stop_us"]) == 500, results
    assert offsets(results[0]["vcpus"]) == seen == qemu.offsets()
    assert qemu.fingerprint() == before


def test_a_vm_that_is_resumed_meanwhile_is_moved_or_refused(qemu: NodeQemu) -> None:
    """Whoever drives QEMU may resume it at any moment; then a vCPU blocks the injected ioctl."""
    stopped = threading.Event()

    def toggle() -> None:
        while not stopped.is_set():
            qemu.qmp("stop")
            qemu.qmp("cont")

    toggler = threading.Thread(target=toggle)
    toggler.start()
    try:
        for _ in range(15):
            result = probe(qemu, "move", MOVE_TICKS)
            assert "after" in result or result["reason"] == "VM_RUNNING", result
    finally:
        stopped.set()
        toggler.join()
    assert qemu.alive and qemu.qmp("query-status")["running"]
    assert len(set(qemu.offsets())) == 1, "all vCPUs were moved alike, or none"


def test_a_vm_that_is_resumed_just_before_is_refused_and_unchanged(qemu: NodeQemu) -> None:
    """Its vCPUs execute then, and the first ioctl waits for one of them: they are taken out of KVM_RUN for a moment."""
    qemu.qmp("stop")
    before, seen = qemu.fingerprint(), qemu.offsets()
    resume = {"AT": "attach.prepared", "RUN": shlex.join(qemu.qmp_argv("cont")) + " >&2"}
    for operation in (["read"], ["move", MOVE_TICKS]):
        refused = probe(qemu, *operation, **resume)
        assert refused["reason"] == "VM_RUNNING" and "did not return in time" in refused["error"], refused
        assert qemu.qmp("query-status")["running"]
        qemu.qmp("stop")
        assert qemu.offsets() == seen
    assert qemu.fingerprint() == before
    assert offsets(probe(qemu, "read")["vcpus"]) == seen


@pytest.mark.parametrize("sandbox", ["on", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
                         ids=["on", "on_all_denied"])
def test_qemus_sandbox_is_refused_by_name_and_permits_it_when_allowed(node: Node, sandbox: str) -> None:
    with NodeQemu(node, name="sandboxed", vcpus=2, options=["-sandbox", sandbox]) as qemu:
        qemu.qmp("stop")
        seen = qemu.offsets()
        assert probe(qemu, "read")["refusal"] == "seccomp_filter"
        moved = probe(qemu, "move", MOVE_TICKS, ALLOW_SECCOMP_FILTER="1")
        assert "vcpus" in moved, moved
        assert offsets(moved["vcpus"]) == [(offset + MOVE_TICKS) % 2**64 for offset in seen] == qemu.offsets()
        qemu.qmp("cont")
        assert qemu.qmp("query-status")["running"]


def test_the_contract_holds_on_real_kvm(node: Node) -> None:
    done = node.run([binary(CONTRACT), "--gtest_brief=1"], check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "PASSED" in done.stdout
