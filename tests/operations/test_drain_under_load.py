"""An agent is asked to stop while an orchestrator hands over many VMs at once: it says at once that it does not serve, begins
nothing, brings to its end what is open, and ends; and whatever it has answered stands in its journal."""

from __future__ import annotations

import contextlib
import pathlib
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from ..durable.hosts import VMS_OF_GROUP, Host
from ..e2e import health
from ..e2e.reflection_client import ReflectionClient
from ..e2e.support import wait_for

SERVICE = health.AGENT_SERVICE
SOURCE, DESTINATION = "SIDE_SOURCE", "SIDE_DESTINATION"
WORKERS = 6
# Handoffs that are over when the agent is asked to stop.
BEFORE = 10
STOPPED_WITHIN_S = 25.0
# At once, on a machine that is busy with the handoffs.
SAID_WITHIN_S = 5.0
# How gRPC says that a server ends, or has ended: a call that comes meanwhile is cancelled.
GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
# What may have become of a side whose step was acknowledged.
LATER = {
    "STATE_CAPTURED": {"STATE_CAPTURED", "STATE_RELEASED", "STATE_ABORTED"},
    "STATE_RELEASED": {"STATE_RELEASED"},
    "STATE_APPLIED": {"STATE_APPLIED", "STATE_ACTIVE", "STATE_ABORTED"},
    "STATE_ACTIVE": {"STATE_ACTIVE"},
    "STATE_ABORTED": {"STATE_ABORTED"},
}
HOST_A = "vmx:2600000:scaling"
HOST_B = "svm:2600000:scaling:wall_error_ns=7000"


class Orchestrator:
    """Makes the calls of handoffs one by one, and keeps what was answered. Thread-safe."""

    def __init__(self, source: Host, destination: Host) -> None:
        self._addresses = (source.address, destination.address)
        self._agent_id = destination.ask("host")["host"]["agent_id"]
        self._lock = threading.Lock()
        self._own = threading.local()
        self.acknowledged: dict[tuple[str, str], str] = {}  # (handoff, side) -> state
        self.refused: list[str] = []  # handoffs that were not begun, as the agent drained
        self.over = 0

    def call(self, end: int, method: str, **request: Any) -> dict[str, Any]:
        if not hasattr(self._own, "clients"):
            self._own.clients = [ReflectionClient(address) for address in self._addresses]
        return self._own.clients[end].call(SERVICE, method, request)

    def _acknowledge(self, handoff: str, side: str, state: str) -> None:
        with self._lock:
            self.acknowledged[handoff, side] = state

    def capture(self, vm: str, handoff: str) -> dict[str, Any]:
        captured = self.call(0, "GetTscState", vm_id=vm, handoff_id=handoff, destination_agent_id=self._agent_id,
                              destination_vm_id=vm)
        self._acknowledge(handoff, SOURCE, "STATE_CAPTURED")
        return captured["state"]

    def go_on(self, vm: str, handoff: str, state: dict[str, Any]) -> None:
        """From the capture to the end, or back again where the destination drains."""
        try:
            self.call(1, "SetTscState", vm_id=vm, state=state, mode="APPLY_MODE_ELAPSED")
        except grpc.RpcError as error:
            self._give_up(handoff, error)
            return
        self._acknowledge(handoff, DESTINATION, "STATE_APPLIED")
        released = self.call(0, "CommitHandoff", handoff_id=handoff, side=SOURCE)["handoff"]
        self._acknowledge(handoff, SOURCE, released["state"])
        active = self.call(1, "CommitHandoff", handoff_id=handoff, side=DESTINATION,
                            release_proof=released["release_proof"])["handoff"]
        self._acknowledge(handoff, DESTINATION, active["state"])
        with self._lock:
            self.over += 1

    def _give_up(self, handoff: str, error: grpc.RpcError) -> None:
        """The destination has not begun it: it drains."""
        assert is_draining(error) or error.code() in GONE, error
        self.abort(handoff)
        with self._lock:
            self.refused.append(handoff)

    def abort(self, handoff: str) -> None:
        aborted = self.call(0, "AbortHandoff", handoff_id=handoff, side=SOURCE)["handoff"]
        self._acknowledge(handoff, SOURCE, aborted["state"])

    def hand_over(self, vm: str, handoff: str) -> None:
        try:
            state = self.capture(vm, handoff)
        except grpc.RpcError as error:
            assert is_draining(error) or error.code() in GONE, error
            with self._lock:
                self.refused.append(handoff)
            return
        self.go_on(vm, handoff, state)


def is_draining(error: grpc.RpcError) -> bool:
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    return b"AGENT_DRAINING" in details


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Host, Host]]:
    with tempfile.TemporaryDirectory(prefix="drain") as name, contextlib.ExitStack() as stack:
        made = []
        for number, word in enumerate((HOST_A, HOST_B)):
            directory = pathlib.Path(name) / "ab"[number]
            directory.mkdir()
            made.append(Host(directory, word, awaits_handoff=number == 1))
            stack.callback(made[-1].close)
        for host in made:
            host.wait_registered()
        yield made[0], made[1]


def check_journal(host: Host, side: str, acknowledged: dict[tuple[str, str], str]) -> None:
    """All that it has answered is there, in that state or a later one."""
    known = {handoff["handoff_id"]: handoff["state"] for handoff in host.ask("handoffs").get("handoffs", [])
             if handoff["side"] == side}
    for (handoff, of_side), state in acknowledged.items():
        if of_side == side:
            assert known.get(handoff) in LATER[state], (handoff, side, state, known.get(handoff))


def check_that_nothing_begins(orchestrator: Orchestrator, who: int, vm: str, handoff: str) -> None:
    """Neither on a source that drains nor, with a state that was captured meanwhile, on a destination."""
    with pytest.raises(grpc.RpcError) as refused:
        state = orchestrator.capture(vm, handoff)
        assert who == 1, "the source drains"
        orchestrator.call(1, "SetTscState", vm_id=vm, state=state, mode="APPLY_MODE_ELAPSED")
    assert is_draining(refused.value), refused.value
    if who == 1:
        orchestrator.abort(handoff)


@pytest.mark.parametrize(("group", "who"), [(0, 0), (1, 1), (2, 0)], ids=["source", "destination", "source_again"])
def test_an_agent_that_is_asked_to_stop_loses_nothing(hosts: tuple[Host, Host], group: int, who: int) -> None:
    orchestrator = Orchestrator(*hosts)
    stopping = hosts[who]
    vms = [f"vm-{group}-{i}" for i in range(VMS_OF_GROUP)]
    wait_for(lambda: health.health(stopping.address, SERVICE) == health.SERVING, "it serves")
    # Stays open until all has been seen that is to be seen of a draining agent.
    held = f"held-{group}"
    held_state = orchestrator.capture(vms[0], held)
    if who == 1:
        orchestrator.call(1, "SetTscState", vm_id=vms[0], state=held_state, mode="APPLY_MODE_ELAPSED")
    with ThreadPoolExecutor(WORKERS) as pool:
        running = [pool.submit(orchestrator.hand_over, vm, f"round-{group}-{vm}") for vm in vms[2:]]
        wait_for(lambda: orchestrator.over >= BEFORE, "the first handoffs are over")
        asked_at = time.monotonic()
        stopping.agent.terminate()
        wait_for(lambda: health.health(stopping.address, SERVICE) == health.NOT_SERVING, "it says that it does not serve")
        said_within = time.monotonic() - asked_at
        check_that_nothing_begins(orchestrator, who, vms[1], f"late-{group}")
        assert not stopping.agent.ended, "what is open goes on"
        orchestrator.go_on(vms[0], held, held_state)
        for handoff in running:
            handoff.result(60)
    assert stopping.agent.wait(STOPPED_WITHIN_S) == 0
    took = time.monotonic() - asked_at
    assert took < STOPPED_WITHIN_S, f"{took:.1f} s"
    assert said_within < SAID_WITHIN_S, f"{said_within:.1f} s"
    stopping.agent.close()
    print(f"NOT_SERVING after {said_within * 1000:.0f} ms, ended after {took:.2f} s; {orchestrator.over} handed over, "
          f"{len(orchestrator.refused)} not begun")

    stopping.restart_agent()
    for host in hosts:
        host.wait_registered()
    check_journal(hosts[0], SOURCE, orchestrator.acknowledged)
    check_journal(hosts[1], DESTINATION, orchestrator.acknowledged)
    assert orchestrator.acknowledged[held, SOURCE] == "STATE_RELEASED"
    assert orchestrator.acknowledged[held, DESTINATION] == "STATE_ACTIVE"
    assert orchestrator.refused, "it was asked to stop when all was over"
    for handoff in orchestrator.refused:
        assert orchestrator.acknowledged.get((handoff, SOURCE)) in (None, "STATE_ABORTED")
    assert [word for host in hosts for word in host.pending()] == [], "nobody was left in the middle"
    permits = [host.permits() for host in hosts]
    for vm in vms:
        assert not (permits[0][vm].may_run and permits[1][vm].may_run), vm
