"""`tscctl evacuate` of 200 VMs while tscctl, an agent or a VMM dies by kill -9: no VM is lost, none may run twice.

A source's VMM is never killed: it takes the VM's memory with it, so its VM died, and nothing could hand it over. For
the same reason a VM that had already arrived dies with its VMM on the destination; it must then be that host's to start
anew.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .hosts import GROUPS, PHASE_TICKS, VMS, Evacuation, Host, wait_until
from .rounds import LONGEST_RUN_S, Kill, Pair, Watch, check_all, evacuate, evacuate_until_done, kill_in_one_round
from .terminal import OnTerminal

HOST_A = "vmx:2100000:scaling:name=sim-a:wall_error_ns=-9000"
HOST_B = "svm:3500000:scaling:name=sim-b:wall_error_ns=15000"
VICTIMS = ("tscctl", "agent", "VMM")
ROUNDS = 20


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    # In /tmp, since a socket's path is short.
    with tempfile.TemporaryDirectory(prefix="tsc-durable.", dir="/tmp") as name:
        directory = Path(name)
        hosts: list[Host] = []
        try:
            for number, word in enumerate((HOST_A, HOST_B)):
                own = directory / str(number)
                own.mkdir()
                hosts.append(Host(own, word, awaits_handoff=number == 1))
            yield Pair(*hosts, directory)
        finally:
            for host in hosts:
                host.close()


def undisturbed(pair: Pair) -> float:
    """How many seconds it takes; all VMs are on the other host then."""
    before = pair.source.truth()
    assert {tscs.phases for tscs in before.values()} == {(0, PHASE_TICKS)}
    watch = Watch(pair)
    started = time.monotonic()
    status, out, err = evacuate(pair, watch)
    took = time.monotonic() - started
    assert status == 0, out + err
    assert f"{VMS} moved, 0 aborted, 0 pending, 0 skipped" in out
    check_all(pair, watch, before)
    pair.swap()
    return took


# 20 in all, none twice.
@pytest.mark.parametrize("rounds", [
    pytest.param(range(3), id="the first 3"),
    pytest.param(range(3, ROUNDS), id=f"the other {ROUNDS - 3}", marks=pytest.mark.slow),
])
def test_whatever_dies_no_vm_is_lost_or_doubled(pair: Pair, rounds: range) -> None:
    seed = int(os.environ.get("TSC_DURABLE_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"TSC_DURABLE_SEED={seed}")
    took = undisturbed(pair)
    for number in rounds:
        draw = random.Random(f"{seed} {number}")
        kill_in_one_round(pair, Kill(VICTIMS[number % len(VICTIMS)], draw.uniform(0, took), draw.random() < 0.5,
                                     draw.randrange(GROUPS)), number)


def test_a_destination_that_stays_away_ends_it(pair: Pair) -> None:
    """Nobody waits for each of 200 VMs; what was begun stays decided or open, and is resumed once it is back."""
    before = pair.source.truth()
    watch = Watch(pair)
    evacuation = Evacuation(pair.source, pair.destination, pair.directory)
    started = time.monotonic()
    pause = threading.Event()
    alive = True
    while evacuation.process.poll() is None and time.monotonic() - started < LONGEST_RUN_S:
        here, there = watch.look()
        if alive and any(permit.may_run for permit in there.values()):
            pair.destination.agent.kill()
            alive = False
        pause.wait(0.005)
    took = time.monotonic() - started
    status, out, err = evacuation.finish()
    assert status == 1, out + err
    assert re.search(r"skipped +AGENT_UNREACHABLE", out), out
    assert took < 30, f"took {took:.0f} s"
    print(f"{took:.1f} s: {re.findall('.* moved, .*', out)}")
    pair.destination.restart_agent()
    evacuate_until_done(pair, watch)
    check_all(pair, watch, before)
    pair.swap()


@contextlib.contextmanager
def frozen(host: Host) -> Iterator[None]:
    """Its agent neither answers nor dies."""
    pid = host.agent.ready["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until("the agent stands still", lambda: ") T " in Path(f"/proc/{pid}/stat").read_text())
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_ctrl_c_ends_what_was_begun_and_says_what_is_left(pair: Pair) -> None:
    before = pair.source.truth()
    watch = Watch(pair)
    with OnTerminal(pair.source, pair.destination, "--parallel", "2") as terminal:
        terminal.wait_until_it_moves()
        with frozen(pair.destination):
            terminal.wait_until_it_stands_still()
            terminal.press_ctrl_c()
            terminal.wait_for("interrupted; ending those in progress, beginning no more")
        status, out, shown = terminal.finish()
    assert status == 1, out + shown
    assert f"] 0/{VMS}  moved 0" in shown
    assert "reason: INTERRUPTED" in shown
    assert not re.search(r"^moved  vm-", shown, re.MULTILINE), "a terminal has the bar"
    moved, left = (int(re.search(rf"(\d+) {what}", out)[1]) for what in ("moved", "not begun"))
    assert moved > 0 and left > 0 and moved + left == VMS, out
    for host in (pair.source, pair.destination):
        assert host.pending() == []

    status, out, err = evacuate(pair, watch)
    assert status == 0, out + err
    assert f"{left} moved, 0 aborted, 0 pending, 0 skipped" in out
    lines = err.splitlines()
    assert lines[0] == f"evacuate: {left} VMs to hand over, 16 at a time"
    assert len(lines) == left + 1 and all(line.startswith("moved  vm-") for line in lines[1:]), err
    assert "\r" not in err and "\x1b" not in err + out
    check_all(pair, watch, before)
    pair.swap()


def test_ctrl_c_twice_leaves_what_was_begun_to_be_resumed(pair: Pair) -> None:
    before = pair.source.truth()
    watch = Watch(pair)
    with OnTerminal(pair.source, pair.destination, "--parallel", "2", "--timeout", "1s") as terminal:
        terminal.wait_until_it_moves()
        with frozen(pair.destination):
            terminal.wait_until_it_stands_still()
            terminal.press_ctrl_c()
            terminal.wait_for("interrupted; ending those in progress")
            terminal.press_ctrl_c()
            status, out, shown = terminal.finish()
    assert status == 1, out + shown
    assert re.search("^INTERRUPTED.*: stopped as asked. Run the same command again.", out, re.MULTILINE), out
    assert "reason: INTERRUPTED" in shown
    evacuate_until_done(pair, watch)
    check_all(pair, watch, before)
    pair.swap()
