"""Death in the middle of an attach, on real KVM with a stock QEMU: of the process that attaches, at every step, and of
the QEMU, at every step and at any moment. //server/attach:injection_death_test does the same with processes that wait
in other ways."""

from __future__ import annotations

import json
import os
import pathlib
import random
import re
import signal
from collections.abc import Iterator

import pytest

from ..cluster import Cluster, CommandResult, Node
from ..programs import binary
from .node_qemu import NodeQemu
from .steps import EACH_STEP, FAILPOINTS, writes_all

PROBE = "tests/attach/attach_probe"
INJECTION = pathlib.Path(__file__).resolve().parents[2] / "server/attach/injection.cc"
MOVE_TICKS = 260_000
RANDOM_DEATHS = (3, pytest.param(20, marks=pytest.mark.slow))

@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Cluster(nodes=1) as cluster:
        yield cluster.nodes[0]


@pytest.fixture(scope="module")
def qemu(node: Node) -> Iterator[NodeQemu]:
    with NodeQemu(node, name="survivor", vcpus=2) as running:
        running.qmp("stop")
        yield running


def probe(qemu: NodeQemu, *arguments: object, at: str = "", run: str = "") -> CommandResult:
    """`run`, a shell command, runs at the failpoint; $PPID is the probe there. In a move it does so at the apply, which
    comes after a capture."""
    env = {"AT": f"attach.{at}", "PASS": "2" if arguments[0] == "move" else "1", "RUN": run} if at else {}
    return qemu.node.run([binary(PROBE), str(qemu.pid), *map(str, arguments)], check=False, env=env)


def test_all_steps_are_known() -> None:
    assert set(re.findall(r'Failpoint\("(attach\.\w+)"\)', INJECTION.read_text())) == set(FAILPOINTS)


@pytest.mark.parametrize("step", EACH_STEP)
def test_an_attaching_process_dies(qemu: NodeQemu, step: str) -> None:
    before, seen = qemu.fingerprint(calls=True), qemu.offsets()
    for _ in range(20):
        died = probe(qemu, "move", MOVE_TICKS, at=step, run="kill -9 $PPID")
        if died.returncode == -signal.SIGKILL:
            break
        # Whether it looks at the job while that runs is chance.
        assert step == "running" and died.returncode == 0, died
        seen = qemu.offsets()
    else:
        pytest.fail(f"never came to {step}")
    qemu.check_that_it_answers()
    moved = moved_by(MOVE_TICKS, seen) if writes_all(step) else seen
    assert qemu.offsets() == moved, "all or nothing, and which of both is known"
    qemu.check_unchanged(before, vdso=False)
    # The next one finds nothing in its way.
    again = json.loads(probe(qemu, "move", MOVE_TICKS).stdout)
    assert [vcpu["offset_ticks"] for vcpu in again["vcpus"]] == qemu.offsets() == moved_by(MOVE_TICKS, moved)
    qemu.check_that_it_answers()


def moved_by(ticks: int, offsets: list[int]) -> list[int]:
    return [(offset + ticks) % 2**64 for offset in offsets]


def test_a_qemu_that_survived_all_of_that_runs(qemu: NodeQemu) -> None:
    qemu.qmp("cont")
    qemu.check_that_it_answers("running")


@pytest.mark.parametrize("step", EACH_STEP)
def test_a_qemu_dies_at_a_step(node: Node, step: str) -> None:
    with NodeQemu(node, name="mortal", vcpus=2) as qemu:
        qemu.qmp("stop")
        done = probe(qemu, "move", MOVE_TICKS, at=step, run=f"kill -9 {qemu.pid}")
        answer = json.loads(done.stdout)
        # Killed at the end, it may have come through; the capture after the move then finds it gone.
        assert answer.get("reason") == "VMM_GONE" or (step == "running" and "after" in answer), answer


@pytest.mark.parametrize("times", RANDOM_DEATHS)
def test_a_qemu_dies_at_any_moment(node: Node, times: int) -> None:
    seed = int(os.environ.get("TSC_ATTACH_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"TSC_ATTACH_SEED={seed}")
    chance = random.Random(seed)
    for _ in range(times):
        with NodeQemu(node, name="mortal", vcpus=2) as qemu:
            qemu.qmp("stop")
            # The delay begins when the probe has attached for the first time.
            kill = f"(sleep {chance.uniform(0, 0.3):.4f}; kill -9 {qemu.pid}) > /dev/null 2>&1 &"
            answer = json.loads(probe(qemu, "read", 100_000, at="prepared", run=kill).stdout)
            assert answer["reason"] == "VMM_GONE", answer
