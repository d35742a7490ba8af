"""Two nodes whose agents die where a test says, and a VM that is handed back and forth between them.

Ground boots the nodes; Pair is the VM, a witness on each node; Ordeal is one handoff in which agents die. Not
thread-safe.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import signal
import subprocess
import types
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

from ..cluster import Cluster, Node, NodeError
from ..demo.lab import VMM_SOCKET, Agent, signed, tscctl
from ..programs import binary
from ..programs.lab_tls import environment_for
from ..witness import WitnessControl, WitnessError, WitnessProcess, start_witness
from .support import wait_for

AGENT = "server/agent/tsc-agent-with-failpoints"
VARIABLE = "TSC_HANDOFF_FAILPOINT"
VCPUS = 2
PHASES = "0,-123456789"
# How wrong the nodes' clocks may be; they are set to within some microseconds and then run at one rate.
CLOCK_ERROR_NS = 200_000
_METRICS_PORT = 9464
_ARGUMENTS = ["--clock", f"fixed:{CLOCK_ERROR_NS}ns", "--max-error", "50ms", "--max-commit-wait", "1s", "--metrics",
              f"10.0.2.15:{_METRICS_PORT}"]
_pair_numbers = itertools.count(1)
_handoff_numbers = itertools.count(1)
_Result = TypeVar("_Result")


def on_both(function: Callable[[Any], _Result], one: Any, other: Any) -> list[_Result]:
    """At the same time, because each node has a processor of this machine to itself."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(function, (one, other)))


class MortalAgent(Agent):
    """An agent that dies at the failpoint `armed`: "NAME", or "NAME:N" for the N-th time; "" for never."""

    def __init__(self, node: Node) -> None:
        self.armed = ""
        self._log_start = 0
        super().__init__(node, _ARGUMENTS, AGENT)
        self._metrics_url = f"http://127.0.0.1:{node.forward(_METRICS_PORT)}/metrics"

    @property
    def dead(self) -> bool:
        return self.process.poll() is not None

    def begin(self, armed: str = "") -> None:
        """Starts it on the journal that it has, in place of the one that runs, if it does. Does not wait."""
        if not self.dead:
            self.process.kill()
            self.process.wait()
        self.armed = armed
        self._log_start = len(self.process.log())
        self.restart(environment={VARIABLE: armed} if armed else None)

    def serves(self, vm_id: str) -> bool:
        """Whether it has said since its start that it does: to ask it would take the processor that it starts on."""
        log = self.process.log()[self._log_start:]
        return " serving " in log and re.search(rf"VMM: registered vm={vm_id} ", log) is not None

    def has_compacted(self) -> bool:
        """Whether its journal has been compacted, which is an agent's first commit, one second after its start."""
        try:
            with urllib.request.urlopen(self._metrics_url, timeout=10) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return False
        return any(line.startswith("tsc_agent_journal_commit_seconds_count") and float(line.split()[-1]) > 0
                   for line in lines)

    def events(self, handoff_id: str) -> list[str]:
        """What the agents of this node have logged of a handoff: Capture, Begin, Done, Undone, ..."""
        return re.findall(rf" handoff={handoff_id} .* step=(\w+)", self.process.log())

    def handoffs(self, *options: str) -> list[dict[str, Any]]:
        return list(tscctl("--agent", self.address, "-o", "json", "handoffs", *options).json["handoffs"])


class Ground:
    """Two nodes with one clock, and a mortal agent in each."""

    def __init__(self) -> None:
        binary(AGENT)
        self.cluster = Cluster()
        self.agents: list[MortalAgent] = []
        self._pair: Pair | None = None

    def __enter__(self) -> Ground:
        self.cluster.open()
        try:
            # The nodes' TSCs stand still to each other, and their clocks run at the TSC's rate: once is for ever.
            self.distance = self.cluster.tsc_distance()
            offset = self.cluster.true_clock_offset(self.distance)
            self.cluster.nodes[1].step_clock(-offset.offset_ns / 1e9)
            self.agents = [MortalAgent(node) for node in self.cluster.nodes]
            for agent in self.agents:
                agent.wait_serving()
        except BaseException:
            self.cluster.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: types.TracebackType | None) -> None:
        self.cluster.close()

    def pair(self) -> Pair:
        """The pair of the test before, or another where that one was left in the middle of something."""
        for agent in self.agents:
            if agent.dead or agent.armed:
                agent.begin()
                agent.wait_serving()
        if self._pair is None or not self._pair.settled:
            if self._pair is not None:
                self._pair.quit()
            self._pair = Pair(self, 0, ["--awaits-handoff"])
        return self._pair

    @contextlib.contextmanager
    def other_pair(self, at: int, destination_arguments: Sequence[str]) -> Iterator[Pair]:
        pair = Pair(self, at, destination_arguments)
        try:
            yield pair
        finally:
            pair.quit()

    def error_ns(self, source: int, offset: int, destination: int, offset_there: int) -> float:
        """How far ahead of the truth a TSC is that had `offset` on node `source` (from 0), and has `offset_there`."""
        ahead = {(0, 1): 1, (1, 0): -1}[source, destination] * self.distance.distance_ticks
        return signed(offset_there - offset + ahead) * 1e6 / self.cluster.nodes[0].tsc_khz()


class Pair:
    """A VM: a witness on each node, of which the one on node `at` (from 0) may run. Both have the same guest, each in a
    memory of its own, which so sees all of the TSCs that its VM ever had while it ran."""

    def __init__(self, ground: Ground, at: int, destination_arguments: Sequence[str]) -> None:
        self.ground = ground
        self.vm_id = f"vm-{next(_pair_numbers)}"
        self.at = at
        self.settled = True
        arguments = {at: ["--paused", f"--phase-ticks={PHASES}"], 1 - at: ["--incoming", *destination_arguments]}
        self.processes: list[WitnessProcess] = on_both(lambda i: self._start(i, arguments[i]), 0, 1)
        self.load_guest()

    def _start(self, number: int, arguments: Sequence[str]) -> WitnessProcess:
        node = self.ground.cluster.nodes[number]
        process = start_witness(node, self.vm_id, vcpus=VCPUS, agent_socket=VMM_SOCKET, timeout=60,
                                arguments=["--nice", "5", *arguments], binary=binary("tests/witness/witness")).process
        control_path = process.argv[process.argv.index("--control") + 1]

        def send(request: str) -> str:
            try:
                return node.ask_socket(control_path, request)
            except NodeError as error:
                raise WitnessError(f"{node.name}: {error}") from error

        return WitnessProcess(process, WitnessControl(send))

    def replace_destination(self, *arguments: str) -> None:
        """Starts another VMM in place of the destination's that has died."""
        number = 1 - self.at
        self.processes[number] = self._start(number, ["--incoming", "--awaits-handoff", *arguments])

    def load_guest(self) -> None:
        path = f"/exchange/{self.vm_id}.snapshot"
        self.witnesses[self.at].save(path)
        self.witnesses[1 - self.at].load(path)

    def quit(self) -> None:
        for process, witness in self.processes:
            with contextlib.suppress(WitnessError):
                witness.quit()
            if process.poll() is None:
                process.kill()

    @property
    def witnesses(self) -> list[WitnessControl]:
        return [witness.control for witness in self.processes]

    @property
    def agents(self) -> list[MortalAgent]:
        """The source's, the destination's."""
        return [self.ground.agents[self.at], self.ground.agents[1 - self.at]]

    def may_run(self) -> list[bool]:
        """On node 1 and on node 2, by their VMMs; False for one that is dead."""
        return on_both(lambda i: self.processes[i].process.poll() is None and
                       bool(self.witnesses[i].status()["may_run"]), 0, 1)

    def offsets(self) -> list[list[int]]:
        """KVM's own, by debugfs, on both nodes."""
        offsets = on_both(lambda witness: [vcpu["debugfs_offset_ticks"] for vcpu in witness.offsets()["vcpus"]],
                          *self.witnesses)
        assert all(ticks is not None for ticks in itertools.chain(*offsets)), "debugfs does not say"
        return offsets

    def check_that_it_runs(self, number: int) -> None:
        """The VM on node `number` can be resumed, and finds its time in order; the other cannot."""
        here, there = self.witnesses[number], self.witnesses[1 - number]
        here.wait_permit()
        with pytest.raises(WitnessError, match="may not run here"):
            there.resume()
        here.resume()
        here.wait_rounds(1)
        here.pause()
        verdict = here.verdict()
        assert verdict.content, verdict


class Ordeal:
    """One handoff of `pair`. The agents of its source and of its destination die at the points named, one time after
    the other, and the orchestrator dies with them. Each time another one goes on, with `goal`: to resume or to abort.
    When the last one does, both agents are without a point to die at."""

    def __init__(self, pair: Pair, goal: str, source: Sequence[str] = (), destination: Sequence[str] = ()) -> None:
        self.pair = pair
        self.goal = goal
        self.handoff_id = f"handoff-{next(_handoff_numbers)}"
        self._agents = pair.agents
        self._deaths = [list(source), list(destination)]
        self._source = pair.at
        self._before = pair.offsets()
        self._could_run = [False, False]
        pair.settled = False

    def run(self) -> None:
        on_both(self._begin_if_to_die, 0, 1)
        self._wait_for_all()
        while any(self._armed()):
            if not self._replace_the_dead():
                self._let_one_die()
            self._wait_for_all()
            self._check_permits()
        self.end()

    def go_on_until(self, condition: Callable[[], bool], what: str) -> None:
        """Goes on with the handoff, or begins it where nobody knows of it, in a process of its own. That is killed at
        once when what is waited for has come to pass."""
        said = ""
        for order in (self.goal, "handoff"):
            with self._orchestrator(order) as orchestrator:
                wait_for(lambda run=orchestrator: condition() or run.poll() is not None, f"{order} ends or {what}")
                if condition():
                    return
                said = "".join(orchestrator.communicate())
            if "HANDOFF_NOT_FOUND" not in said:
                break
        # Some things the agent itself does, once a second.
        wait_for(condition, f"{what}; {order} has said: {said}", 15)

    def end(self) -> None:
        """Brings the handoff to its end, with one more orchestrator, and looks at what has become of the VM."""
        result = tscctl(*self._order(self.goal))
        begun = "HANDOFF_NOT_FOUND" not in result.stderr
        if self.goal == "resume" and not begun:
            result = tscctl(*self._order("handoff"))
        assert result.status == 0 or (self.goal == "abort" and not begun), result
        # Who would have it otherwise comes too late.
        late = tscctl(*self._order("abort" if self.goal == "resume" else "resume"))
        assert self.goal == "abort" or "HANDOFF_DECIDED" in late.stderr, late
        self._check(moved=self.goal == "resume")
        self.pair.settled = True

    def _begin_if_to_die(self, side: int) -> None:
        if self._deaths[side]:
            self._agents[side].begin(self._deaths[side].pop(0))

    def _wait_for_all(self) -> None:
        wait_for(lambda: all(agent.dead or agent.serves(self.pair.vm_id) for agent in self._agents),
                 f"the VM registers again, or an agent dies at {self._armed()}")

    def _check_permits(self) -> None:
        """To be called when an agent has died, and when it is back and can be asked whether what was seen was right."""
        by_node = self.pair.may_run()
        assert not all(by_node), f"both may run; the agents were to die at {self._armed()}"
        permits = [by_node[self._source], by_node[1 - self._source]]
        self._could_run = [old or new for old, new in zip(self._could_run, permits, strict=True)]
        for side, agent in enumerate(self._agents):
            if self._could_run[side] and not agent.dead:
                states = [handoff["state"] for handoff in self._known(side)]
                assert states in ([], [("STATE_ABORTED", "STATE_ACTIVE")[side]]), f"it could run, and was in {states}"
                self._could_run[side] = False

    def _armed(self) -> list[str]:
        return [agent.armed for agent in self._agents]

    def _replace_the_dead(self) -> bool:
        """Starts them again, for their next death. False: all are alive."""
        dead = [side for side in (0, 1) if self._agents[side].dead]
        for side in dead:
            agent = self._agents[side]
            status = agent.process.wait()
            assert agent.armed and status == -signal.SIGKILL, f"status {status}: {agent.process.log_tail()}"
            agent.begin(self._deaths[side].pop(0) if self._deaths[side] else "")
        return bool(dead)

    def _let_one_die(self) -> None:
        for agent in self._agents:
            if agent.armed.startswith("journal.commit."):
                wait_for(agent.has_compacted, "the agent's journal has been compacted")
        self.go_on_until(lambda: any(agent.dead for agent in self._agents), f"an agent dies at {self._armed()}")

    def _order(self, order: str) -> list[str]:
        ends = ["--from", self._agents[0].address, "--to", self._agents[1].address]
        if order == "handoff":
            return ["-o", "json", "handoff", self.pair.vm_id, "--id", self.handoff_id, *ends, "--no-probe"]
        return ["-o", "json", order, self.handoff_id, *ends, *(["--no-probe"] if order == "resume" else [])]

    @contextlib.contextmanager
    def _orchestrator(self, order: str) -> Iterator[subprocess.Popen[str]]:
        """Killed at the end of the block if it still runs."""
        with subprocess.Popen([binary("client/tscctl/tscctl"), "--timeout", "30s", *self._order(order)], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=environment_for(self._order(order))) as process:
            try:
                yield process
            finally:
                process.kill()

    def _check(self, moved: bool) -> None:
        self._check_that_the_agents_agree(moved)
        place = 1 - self._source if moved else self._source
        self.pair.check_that_it_runs(place)
        after = self.pair.offsets()
        here, there = self._source, 1 - self._source
        assert after[here] == self._before[here], "the source's TSCs have changed"
        if moved:
            check_moved(self.pair, here, after)
            self.pair.at = place
        else:
            assert after[there] == self._before[there], "the destination does not have what it had"

    def _check_that_the_agents_agree(self, moved: bool) -> None:
        if not moved:
            # It is pending for nobody, and carried out as soon as the VMM is there.
            wait_for(lambda: all(handoff["restored"] for handoff in self._known(1)), "the abort is carried out")
        for agent in self._agents:
            assert agent.handoffs("--pending", "--vm", self.pair.vm_id) == []
        states = [[handoff["state"] for handoff in self._known(side)] for side in (0, 1)]
        assert states in ([[["STATE_RELEASED"], ["STATE_ACTIVE"]]] if moved else
                          [[["STATE_ABORTED"], ["STATE_ABORTED"]], [[], []]]), states

    def _known(self, side: int) -> list[dict[str, Any]]:
        return [handoff for handoff in self._agents[side].handoffs() if handoff["handoff_id"] == self.handoff_id]


def check_moved(pair: Pair, source: int, offsets: list[list[int]]) -> None:
    """The destination's phase is the source's, to the tick, and its time went on by what has really passed."""
    here, there = offsets[source], offsets[1 - source]
    assert [(ticks - here[0]) % (1 << 64) for ticks in here] == [(ticks - there[0]) % (1 << 64) for ticks in there]
    error_ns = pair.ground.error_ns(source, here[0], 1 - source, there[0])
    assert abs(error_ns) <= 2 * CLOCK_ERROR_NS, f"guest time is {error_ns:.0f} ns off"

