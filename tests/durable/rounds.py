"""An evacuation of all VMs from one host to the other, what may die meanwhile, and what must hold afterwards."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from .hosts import DIED_WITH_ITS_VMM, MOST_ERROR_NS, Evacuation, Host, Permit, Tscs

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
    assert len(here) == len(there) == pair.source.vms
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
    assert pair.destination.run_all() == pair.source.vms
    return len(dead)


def kill_in_one_round(pair: Pair, kill: Kill, number: int) -> int:
    """The status of the evacuation that was disturbed. All VMs are on the other host then."""
    before = pair.source.truth()
    watch = Watch(pair)
    status, _, _ = evacuate(pair, watch, kill)
    runs = evacuate_until_done(pair, watch)
    dead = check_all(pair, watch, before, kill)
    print(f"round {number}: {kill}, evacuate's status {status}; {runs} more; {dead} VMs died with their VMM; "
          f"{watch.looks} looks")
    pair.swap()
    return status
