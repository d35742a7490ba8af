"""The attach port against a stock QEMU on real KVM: nothing of the agent is linked into it, and it notices nothing."""

from __future__ import annotations

import json
import shlex
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ..cluster import Cluster, Node
from ..e2e.support import wait_for
from ..programs import binary
from .node_qemu import NodeQemu

PROBE = "tests/attach/attach_probe"
CONTRACT = "tests/attach/contract_attached_kvm"
KVM_RUN = "tests/attach/kvm_run_test"
MOVE_TICKS = 260_000
# What a debugger does first: PTRACE_SEIZE.
SEIZE = """\
import ctypes, signal, sys
if ctypes.CDLL(None, use_errno=True).ptrace(0x4206, int(sys.argv[1]), None, None) == 0:
    print('seized', flush=True)
signal.pause()
"""


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


@pytest.mark.parametrize("cycles", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_cycles_leave_nothing_behind(node: Node, cycles: int) -> None:
    """It has run, is paused, and its main thread has work all the time: a monitor, signals, a display's timer."""
    with NodeQemu(node, name="load", vcpus=2, options=["-vnc", "unix:/tmp/load.vnc", "-nic", "user"]) as qemu:
        qemu.qmp("stop")
        before, seen = qemu.fingerprint(calls=True), qemu.offsets()
        # QEMU takes both of these from a descriptor in its main loop.
        signals = node.start(["sh", "-c", f"while kill -ALRM {qemu.pid} && kill -IO {qemu.pid}; do sleep 0.02; done"],
                             name="signals")
        results: list[dict[str, Any]] = []
        worker = threading.Thread(target=lambda: results.append(probe(qemu, "read", cycles, timeout=20 + cycles / 10)))
        worker.start()
        answered = 0
        while worker.is_alive():
            assert qemu.qmp("query-status")["status"] == "paused"
            answered += 1
        worker.join()
        assert signals.poll() is None
        signals.kill()
        signals.wait()
        assert answered > 0 and results, "the probe has not come to its end"
        assert "error" not in results[0], results
        assert len(results[0]["stop_us"]) == cycles
        assert (results[0]["differing"], results[0]["leaked"]) == (0, 0)
        assert offsets(results[0]["vcpus"]) == seen == qemu.offsets()
        qemu.check_unchanged(before)
        qemu.qmp("cont")
        qemu.check_that_it_answers("running")


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


def test_a_qemu_in_a_debugger_is_refused_by_name(qemu: NodeQemu) -> None:
    """Whoever traces it first, keeps it: any of its threads is enough."""
    qemu.qmp("stop")
    before = qemu.fingerprint()
    debugger = qemu.node.start(["/usr/bin/python3", "-c", SEIZE, str(qemu.pid)], name="debugger")
    wait_for(lambda: "seized" in debugger.log(), "the debugger is attached")
    for operation in (["read"], ["move", MOVE_TICKS]):
        assert probe(qemu, *operation)["refusal"] == "traced"
    debugger.kill()
    debugger.wait()
    assert qemu.fingerprint() == before
    assert "vcpus" in probe(qemu, "read")
    qemu.check_that_it_answers()


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


def test_a_thread_in_kvm_run_notices_nothing(node: Node) -> None:
    """A VMM of one thread, which is in KVM_RUN and checks its registers and its signal mask by itself."""
    done = node.run([binary(KVM_RUN), "--gtest_brief=1"], check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "PASSED" in done.stdout
