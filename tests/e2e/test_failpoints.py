"""Nothing is lost: agents killed at every failpoint, and VMMs at every write, on two nodes with real KVM.

After each death both the orchestrator and the agent are others: a new tscctl goes on, or gives up, by what the new
agent finds in its journal. At the end of each handoff both agents agree, one host may run the VM, and KVM's own offsets
are exactly what they must be.
"""

from __future__ import annotations

import pathlib
import re
import signal
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from ..attach.steps import FAILPOINTS as ATTACH_FAILPOINTS
from ..demo.lab import AGENT as DELIVERED_AGENT
from ..programs import binary
from .mortal import AGENT, VARIABLE, Ground, Ordeal

SERVER = pathlib.Path(__file__).resolve().parents[2] / "server"
LEAST_POINTS = 40
# Two offsets, two pairs of MSRs, kvmclock.
WRITES = 5


class Story(NamedTuple):
    """A handoff, and where the agents of its source and destination die, one time after the other. "NAME:N" is the N-th
    time: a VM's registration sends the first permit, tscctl's look at it the first request, and an agent's first commit
    compacts its journal."""

    name: str
    goal: str
    source: tuple[str, ...] = ()
    destination: tuple[str, ...] = ()


STORIES = (
    Story("up_to_the_capture_and_late", "resume",
          source=("rpc.get_tsc_state.received", "capture.begun", "port.request.sending:2", "port.request.sent:2",
                  "capture.read", "journal.write.waiting", "commit.source.journaled"),
          destination=("rpc.set_tsc_state.received", "apply.begun", "commit.destination.journaled")),
    Story("nothing_recorded_and_given_up", "abort",
          source=("port.request.answered:2", "capture.sealed", "journal.commit.written:2")),
    Story("captured_and_given_up", "abort",
          source=("refusal.explained", "rpc.abort_handoff.received", "abort.source.journaled")),
    Story("applied_three_times", "resume",
          source=("journal.write.done", "refusal.explained"),
          destination=("apply.planned", "apply.intent_journaled", "recover.undone", "apply.written",
                       "recover.journaled", "rpc.set_tsc_state.answering", "commit.destination.permit_sent")),
    Story("applied_and_given_up", "abort",
          source=("commit.source.decided", "abort.source.decided", "abort.source.permit_sent"),
          destination=("abort.destination.decided", "abort.destination.journaled", "abort.destination.restored")),
    Story("at_registrations_on_the_way", "resume",
          source=("capture.journaled", "rpc.get_tsc_state.answering", "listener.welcome.sending", "port.permit.sending",
                  "rpc.commit_handoff.received"),
          destination=("apply.journaled", "listener.welcome.sent", "port.permit.sent", "listener.permit.sent",
                       "commit.destination.decided", "rpc.commit_handoff.answering")),
    Story("given_up_twice", "abort",
          source=("journal.commit.synced:3",),
          destination=("refusal.explained", "abort.destination.permit_sent", "rpc.abort_handoff.answering")),
    # The second request to the VMM is the write that restores.
    Story("while_undoing", "abort", destination=("apply.written", "port.request.sent:2")),
)


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with Ground() as ground:
        yield ground


def failpoints() -> set[str]:
    """Those of the source that are in the agent, too. A call may choose between several."""
    calls = [call for file in SERVER.rglob("*.cc") for call in re.findall(r"\bFailpoint\(([^;]*)\);", file.read_text())]
    program = binary(AGENT).read_bytes()
    return {name for call in calls for name in re.findall(r'"([^"]+)"', call) if name.encode() in program}


def test_every_failpoint_is_in_a_story() -> None:
    found = failpoints()
    assert len(found) >= LEAST_POINTS
    in_stories = {point.partition(":")[0] for story in STORIES for point in (*story.source, *story.destination)}
    assert found == in_stories | set(ATTACH_FAILPOINTS)  # of those tests/attach/test_attach_failpoints.py tells


def test_the_delivered_agent_has_no_failpoints() -> None:
    assert VARIABLE.encode() in binary(AGENT).read_bytes()
    assert VARIABLE.encode() not in binary(DELIVERED_AGENT).read_bytes()


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_agents_die(ground: Ground, story: Story) -> None:
    Ordeal(ground.pair(), story.goal, story.source, story.destination).run()


def test_an_agent_dies_while_its_vmm_writes(ground: Ground) -> None:
    # A VM that may not run is looked after once a second, by a request. This one may, until it is captured, and so may
    # the other one on the same host. The third request is the write: after tscctl's look, and the reading of what is
    # there.
    with ground.other_pair(1 - ground.pair().at, []) as pair:
        destination = pair.agents[1]
        ordeal = Ordeal(pair, "resume", destination=["port.request.sent:3"])
        ordeal.run()
        assert destination.events(ordeal.handoff_id) == ["Begin", "Undone", "Begin", "Done", "Commit"]


def test_vmms_die_at_every_write(ground: Ground) -> None:
    ground.pair()  # the agents are well
    with ground.other_pair(0, ["--awaits-handoff", "--die-at-write", "1"]) as pair:
        ordeal = Ordeal(pair, "resume")
        for write in range(2, WRITES + 2):
            vmm = pair.processes[1].process
            ordeal.go_on_until(lambda process=vmm: process.poll() is not None, "the destination's VMM dies")
            assert vmm.wait() == -signal.SIGKILL, vmm.log_tail()
            assert pair.may_run() == [False, False]
            pair.replace_destination(*(["--die-at-write", str(write)] if write <= WRITES else []))
        pair.load_guest()
        ordeal.end()
