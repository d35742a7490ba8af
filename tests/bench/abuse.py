"""What abuse adds to a handoff: the arena of tests/abuse, quiet and with all of its attackers at once, in the same run."""

from __future__ import annotations

import os

from ..abuse.arena import Arena
from ..programs import LabError
from .abuse_figures import Abuse
from .places import say


def measure(quick: bool) -> Abuse:
    if os.geteuid() != 0:
        raise LabError("abuse: attackers are users of their own, which takes root")
    seconds = 3.0 if quick else 30.0
    say("abuse: handoffs between two agents on this machine, quiet and while everything hostile is at them")
    with Arena() as arena:
        arena.add_helpless_vms()
        target = arena.target(arena.remembered_handoff())
        undisturbed = [arena.start_handoffs(seconds / 2).result()]
        with arena.start_attackers(target) as attackers:
            abused = arena.start_handoffs(seconds).result()
        # Before and after it, since the machine may have other things to do for a while.
        undisturbed.append(arena.start_handoffs(seconds / 2).result())
    attempts = sum(sum(outcomes.values()) for tallies in attackers.tallies.values() for outcomes in tallies.values())
    return Abuse(undisturbed, abused, attempts)
