"""Handoffs for long, while agents, VMMs and orchestrators are killed, settings and policies change, and certificates are
rotated: no VM is lost or doubled, and neither memory, descriptors, threads nor journals grow.

Two agents on simulated hosts, as in test_abuse.py, between which all VMs go to and fro (tests/durable/rounds.py). In the first
half only the second host's agent is killed, in the second half only the first one's, so that one process of each can be seen
over all that time. TSC_SOAK_SEED repeats the draws of a run.
"""

from __future__ import annotations

import os
import random
import time

import pytest

from ..durable.rounds import Kill, Pair, kill_in_one_round
from .arena import Arena
from .changes import Change, reload, rotate_certificates
from .lives import Lives

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the policy is one for root")

GROUPS, VMS_OF_GROUP = 2, 8
FAULTS = ("reload", "rotation", "tscctl", "agent", "VMM")
# About as long as an evacuation takes.
WITHIN_S = 0.5


# With its start and the last round it takes 3 minutes.
@pytest.mark.parametrize("seconds", [
    pytest.param(160, id="3 minutes"),
    pytest.param(3600, id="1 hour", marks=pytest.mark.slow),
])
def test_nothing_is_lost_and_nothing_grows(seconds: float) -> None:
    seed = int(os.environ.get("TSC_SOAK_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"TSC_SOAK_SEED={seed}")
    draw = random.Random(seed)
    started = time.monotonic()
    lives = Lives()
    counts = dict.fromkeys(FAULTS, 0)
    with Arena(groups=GROUPS, vms_of_group=VMS_OF_GROUP) as arena:
        pair = Pair(arena.hosts[0], arena.hosts[1], arena.directory(0))
        target = arena.target("")
        number = 0
        while time.monotonic() - started < seconds:
            fault = FAULTS[number % len(FAULTS)]
            after_s = draw.uniform(0, WITHIN_S)
            if fault == "reload":
                kill: Kill = Change(fault, after_s, lambda: reload(arena))
            elif fault == "rotation":
                kill = Change(fault, after_s, lambda: rotate_certificates(arena, target))
            else:
                mortal = arena.hosts[1 if time.monotonic() - started < seconds / 2 else 0]
                kill = Kill(fault, after_s, at_source=pair.source is mortal, group=draw.randrange(GROUPS))
            status = kill_in_one_round(pair, kill, number)
            assert status == 0 or not isinstance(kill, Change), f"{fault} disturbed an evacuation"
            counts[fault] += 1
            number += 1
            lives.look(arena)
        print(f"{number} evacuations of {pair.source.vms} VMs: {counts}")
        assert min(counts.values()) >= 2
        lives.check()
