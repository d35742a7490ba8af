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
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from .hosts import (
    DIED_WITH_ITS_VMM,
    GROUPS,
    MOST_ERROR_NS,
    PHASE_TICKS,
    VMS,
    Evacuation,
    Host,
    Permit,
    Tscs,
    wait_until,
)
from .terminal import OnTerminal

HOST_A = "vmx:2100000:scaling:name=sim-a:wall_error_ns=-9000"
HOST_B = "svm:3500000:scaling:name=sim-b:wall_error_ns=15000"
VICTIMS = ("tscctl", "agent", "VMM")
ROUNDS = 20
# Of evacuate after a kill, each with all VMs registered again. What it cannot do in so many, it never will.
MOST_RUNS = 5
LONGEST_RUN_S = 60.0


@dataclass
class Pair:
    source: Host
    destination: Host
    directory: Path

    def swap(self) -> None:
        self.source, self.destination = self.destination, self.source

    def group_under_way(self, otherwise: int) -> int:
        """The destination's VMMs of which some have their VM and some wait for it."""
        arrived = [[permit.may_run for permit in group.values()] for group in self.destination.permits_by_group()]
        return next((i for i, group in enumerate(arrived) if any(group) and not all(group)), otherwise)


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


@dataclass
class Watch:
    """Looks at all permits whenever it is asked to, and keeps every VM that was seen with one on both hosts.

    The destination comes first: in one evacuation a permit never comes back to the source, so what is seen there
    afterwards was there before.
    """

    pair: Pair
    looks: int = 0
    doubled: set[str] = field(default_factory=set)

    def look(self) -> tuple[dict[str, Permit], dict[str, Permit]]:
        there, here = self.pair.destination.permits(), self.pair.source.permits()
        self.doubled |= {vm for vm, permit in here.items() if permit.may_run and vm in there and there[vm].may_run}
        self.looks += 1
        return here, there


@dataclass
class Kill:
    """What dies, how long after tscctl's start, and what then takes its place, as a supervisor would see to it."""

    victim: str
    after_s: float
    at_source: bool  # of an agent
    group: int       # of a VMM, where none is under way
    replaced: Future[None] | None = None

    def strike(self, pair: Pair, evacuation: Evacuation, supervisor: ThreadPoolExecutor) -> None:
        host = pair.source if self.at_source else pair.destination
        if self.victim == "tscctl":
            evacuation.process.kill()
        elif self.victim == "agent":
            host.agent.kill()
            self.replaced = supervisor.submit(host.restart_agent)
        else:
            self.group = pair.group_under_way(self.group)
            pair.destination.kill_group(self.group)
            self.replaced = supervisor.submit(pair.destination.start_group, self.group, awaits_handoff=True)

    def __str__(self) -> str:
        where = {"tscctl": "", "agent": " of the " + ("source" if self.at_source else "destination"),
                 "VMM": f" {self.group} of the destination"}[self.victim]
        return f"{self.victim}{where} killed after {self.after_s:.3f} s"


def evacuate(pair: Pair, watch: Watch, kill: Kill | None = None) -> tuple[int, str, str]:
    """Runs it to its end, and carries the kill out meanwhile. Status, stdout, stderr."""
    started = time.monotonic()
    evacuation = Evacuation(pair.source, pair.destination, pair.directory)
    pause = threading.Event()
    with ThreadPoolExecutor(1) as supervisor:
        try:
            struck = kill is None
            while evacuation.process.poll() is None or not struck:
                assert time.monotonic() - started < LONGEST_RUN_S, "evacuate does not end"
                if kill is not None and not struck and time.monotonic() - started >= kill.after_s:
                    kill.strike(pair, evacuation, supervisor)
                    struck = True
                watch.look()
                pause.wait(0.005)
            if kill is not None and kill.replaced is not None:
                kill.replaced.result()
        finally:
            result = evacuation.finish()
    return result


def evacuate_until_done(pair: Pair, watch: Watch) -> int:
    """How many runs it took."""
    said = ""
    for run in range(1, MOST_RUNS + 1):
        for host in (pair.source, pair.destination):
            host.wait_registered()
        status, out, err = evacuate(pair, watch)
        if status == 0:
            return run
        said += f"{out}{err}\n"
    pytest.fail(f"not done after {MOST_RUNS} runs of evacuate:\n{said}")


def check_times(pair: Pair, before: dict[str, Tscs], dead: set[str]) -> None:
    """The phase is what it was, to the tick, and time went on, however long the handoff was interrupted."""
    after = pair.destination.truth()
    assert before.keys() == after.keys()
    for vm in before.keys() - dead:
        assert after[vm].phases == before[vm].phases, vm
        assert abs(after[vm].error_ns(before[vm])) <= MOST_ERROR_NS, vm


def check_owners(pair: Pair, watch: Watch, kill: Kill | None) -> set[str]:
    """Each VM may run on the destination, and nowhere else. The VMs that died there with their VMM."""
    for host in (pair.source, pair.destination):
        assert host.pending() == []
    here, there = watch.look()
    assert not watch.doubled
    assert len(here) == len(there) == VMS
    assert not [vm for vm, permit in here.items() if permit.may_run]
    assert pair.source.run_all() == 0
    dead = {vm for vm, permit in there.items() if not permit.may_run}
    for vm in dead:
        its_vmm_died = kill is not None and kill.victim == "VMM" and vm.startswith(f"vm-{kill.group}-")
        assert its_vmm_died and DIED_WITH_ITS_VMM in there[vm].why, f"{vm} is lost: {there[vm].why}"
    return dead


def check_all(pair: Pair, watch: Watch, before: dict[str, Tscs], kill: Kill | None = None) -> int:
    """How many VMs died with their VMM; they are started anew."""
    dead = check_owners(pair, watch, kill)
    check_times(pair, before, dead)
    if dead and kill is not None:
        # They are this host's, so that their VMM starts as any VM's here does.
        pair.destination.kill_group(kill.group)
        pair.destination.start_group(kill.group, awaits_handoff=False)
    assert pair.destination.run_all() == VMS
    return len(dead)


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


def kill_in_one_round(pair: Pair, kill: Kill, number: int) -> None:
    before = pair.source.truth()
    watch = Watch(pair)
    status, _, _ = evacuate(pair, watch, kill)
    runs = evacuate_until_done(pair, watch)
    dead = check_all(pair, watch, before, kill)
    print(f"round {number}: {kill}, evacuate's status {status}; {runs} more; {dead} VMs died with their VMM; "
          f"{watch.looks} looks")
    pair.swap()


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
