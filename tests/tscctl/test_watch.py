"""`tscctl watch` before a script: real handoffs, agents that die, and its own ends."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import tempfile
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..programs import LabError, SimAgent
from .agents import agent_id_hex, begin_handoff, port_of, run_tscctl, start_host, tscctl

PATIENCE_S = 60.0


class Watch:
    """`tscctl watch --json` of these agents, its lines read as they come. Not thread-safe."""

    def __init__(self, *addresses: str, more: tuple[str, ...] = ("--json",)) -> None:
        self._lines: queue.Queue[str] = queue.Queue()
        self.seen: list[str] = []
        self._passed: list[str] = []
        self.process = subprocess.Popen(
            [tscctl(), "watch", "--agent", ",".join(addresses), "--interval", "100ms", *more],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            # Whoever runs this in the background has it ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: types.TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None and self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()
        if kind is not None:
            print("the lines:\n" + "".join(self.seen))

    def line(self, what: str, wanted: Callable[[str], bool]) -> str:
        """The first line that is so of those that no call has returned: agents speak in no order."""
        for text in self._passed:
            if wanted(text):
                self._passed.remove(text)
                return text
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                text = self._lines.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise LabError(f"not within {PATIENCE_S:.0f} s: {what}; the lines:\n{''.join(self.seen)}") from None
            self.seen.append(text)
            if wanted(text):
                return text
            self._passed.append(text)

    def event(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The first event of that kind with these fields, of it, its handoff or its clock."""

        def wanted(text: str) -> bool:
            found = json.loads(text)
            values = {**found, **found.get("handoff", {}), **found.get("clock", {})}
            return found["event"] == kind and all(values.get(name) == value for name, value in fields.items())

        return dict(json.loads(self.line(f"{kind} {fields}", wanted)))

    def end(self) -> tuple[int, str]:
        """Status and stderr."""
        assert self.process.stderr is not None
        status = self.process.wait(PATIENCE_S)
        return status, self.process.stderr.read()


@pytest.fixture(scope="module")
def pair() -> Iterator[SimAgent]:
    with SimAgent("--host", "vmx:2100000:scaling:name=alpha:undecided_ms=300",
                  "--host", "svm:3500000:scaling:name=beta:undecided_ms=300") as agent:
        yield agent


@contextlib.contextmanager
def vm_on_both(pair: SimAgent, vm: str) -> Iterator[str]:
    pair.request("create_vm", host=0, vm=vm, vcpus=2)
    pair.request("create_vm", host=1, vm=vm, vcpus=2, awaits_handoff=True)
    yield vm
    for host in (0, 1):
        pair.request("destroy_vm", host=host, vm=vm)


def test_a_handoff_is_told_step_by_step_on_both_sides(pair: SimAgent) -> None:
    source, destination = pair.addresses
    with vm_on_both(pair, "vm1") as vm, Watch(source, destination) as watch:
        for address, name in ((source, "alpha"), (destination, "beta")):
            found = watch.event("agent_found", agent=address)
            assert found["host_name"] == name and found["initial"]
        run_tscctl("handoff", vm, "--from", source, "--to", destination, "--id", "h1")
        told = []
        while len(told) < 5:
            told.append(watch.event("handoff", handoff_id="h1"))
        steps = {side: [(event["before"], event["handoff"]["state"]) for event in told
                        if event["handoff"]["side"] == side] for side in ("SIDE_SOURCE", "SIDE_DESTINATION")}
        assert steps["SIDE_SOURCE"] == [(None, "STATE_CAPTURED"), ("STATE_CAPTURED", "STATE_RELEASED")]
        assert steps["SIDE_DESTINATION"][-1] == ("STATE_APPLIED", "STATE_ACTIVE")
        for event in told:
            handoff = event["handoff"]
            assert event["agent"] == (source if handoff["side"] == "SIDE_SOURCE" else destination)
            assert handoff["vm"] == vm and handoff["epoch"] == 1
            assert handoff["source_agent_id"] == agent_id_hex(source)
            assert handoff["destination_agent_id"] == agent_id_hex(destination)
        watch.process.send_signal(signal.SIGINT)
        assert watch.end() == (0, "")


def test_lines_for_people_and_scripts(pair: SimAgent) -> None:
    source, destination = pair.addresses
    with vm_on_both(pair, "vm2") as vm, Watch(source, more=()) as watch:
        watch.line("the agent", lambda line: re.fullmatch(
            rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z {re.escape(source)} agent_found host=alpha version=\S+ "
            r"vms=1 initial=yes\n", line) is not None)
        watch.line("the clock", lambda line: " clock host=alpha status=synchronised trusted=yes bound_ns=" in line)
        run_tscctl("handoff", vm, "--from", source, "--to", destination, "--id", "h2")
        watch.line("its end", lambda line: f" handoff host=alpha state=RELEASED before=CAPTURED vm={vm} side=source "
                   f"id=h2 epoch=1 peer_id={agent_id_hex(destination)}\n" in line)


def test_an_undecided_handoff_is_told_once(pair: SimAgent) -> None:
    source, destination = pair.addresses
    with vm_on_both(pair, "vm3") as vm:
        begin_handoff("h3", vm, source, destination)
        with Watch(source) as watch:
            assert watch.event("handoff", handoff_id="h3")["initial"]
            undecided = watch.event("undecided", handoff_id="h3")
            assert undecided["handoff"]["silent_ns"] > 300_000_000
            run_tscctl("abort", "h3", "--from", source, "--to", destination)
            watch.event("handoff", handoff_id="h3", state="STATE_ABORTED")
            assert sum('"undecided"' in line and '"event":"undecided"' in line for line in watch.seen) == 1


def test_only_one_vms_handoffs(pair: SimAgent) -> None:
    source, destination = pair.addresses
    with vm_on_both(pair, "vm4"), vm_on_both(pair, "vm5"), \
            Watch(source, more=("--json", "--vm", "vm5")) as watch:
        watch.event("agent_found")
        for vm in ("vm4", "vm5"):
            run_tscctl("handoff", vm, "--from", source, "--to", destination, "--id", f"h-{vm}")
        watch.event("handoff", handoff_id="h-vm5", state="STATE_RELEASED")
        assert not any("h-vm4" in line for line in watch.seen)


def test_a_clocks_trust_is_told(pair: SimAgent) -> None:
    with Watch(pair.addresses[1]) as watch:
        assert watch.event("clock", trusted=True)["initial"]
        pair.request("clock", host=1, bound_ns=-1)
        try:
            lost = watch.event("clock", trusted=False)
            assert lost["clock"]["error_bound_ns"] is None and lost["clock"]["untrusted_reason"]
        finally:
            pair.request("clock", host=1, bound_ns=20_000)
        watch.event("clock", trusted=True, initial=False)


def test_an_agent_is_lost_and_found_and_what_it_did_meanwhile_is_told() -> None:
    with tempfile.TemporaryDirectory(prefix="tsc-watch.", dir="/tmp") as name, contextlib.ExitStack() as others:
        source = start_host(Path(name), "gamma")
        others.callback(source.kill)
        destination = start_host(Path(name), "delta")
        others.callback(destination.kill)
        source.request("create_vm", vm="vm1", vcpus=1)
        address, port = source.addresses[0], port_of(source)
        begin_handoff("h1", "vm1", address, destination.addresses[0])
        with Watch(address) as watch:
            watch.event("handoff", handoff_id="h1", state="STATE_CAPTURED")
            assert watch.event("agent_found")["initial"]
            source.kill()
            lost = watch.event("agent_lost")
            assert not lost["initial"] and lost["host_name"] == "gamma" and "cannot be reached" in lost["message"]
            again = start_host(Path(name), "gamma", port)
            others.callback(again.kill)
            assert not watch.event("agent_found")["initial"]
            run_tscctl("abort", "h1", "--from", address, "--to", destination.addresses[0])
            ended = watch.event("handoff", handoff_id="h1", state="STATE_ABORTED")
            assert ended["before"] == "STATE_CAPTURED"


def test_an_agent_that_is_away_from_the_start_is_awaited() -> None:
    with tempfile.TemporaryDirectory(prefix="tsc-watch.", dir="/tmp") as name:
        first = start_host(Path(name), "gamma")
        port = port_of(first)
        first.kill()
        with Watch(f"127.0.0.1:{port}") as watch:
            assert watch.event("agent_lost")["initial"]
            with start_host(Path(name), "gamma", port):
                watch.event("agent_found", host_name="gamma")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_it_well(pair: SimAgent, number: signal.Signals) -> None:
    with Watch(*pair.addresses) as watch:
        watch.event("agent_found")
        watch.process.send_signal(number)
        assert watch.end() == (0, "")


def test_it_ends_when_its_reader_has_gone_though_nothing_happens(pair: SimAgent) -> None:
    read_end, write_end = os.pipe()
    with subprocess.Popen([tscctl(), "watch", "--agent", pair.addresses[0]], stdout=write_end,
                          stderr=subprocess.PIPE, text=True) as process:
        os.close(write_end)
        with os.fdopen(read_end) as lines:
            assert "agent_found" in lines.readline()
        _, err = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, err) == (0, "")


def test_it_ends_in_a_shells_pipe(pair: SimAgent) -> None:
    done = subprocess.run(["bash", "-c", f"{tscctl()} watch --agent {pair.addresses[0]} | head -n 1; "
                           "echo ${PIPESTATUS[0]}"], capture_output=True, text=True, timeout=PATIENCE_S)
    lines = done.stdout.splitlines()
    assert "agent_found" in lines[0] and lines[1] == "0" and done.stderr == ""
