"""An attacker as a process: makes the attacks of one kind in turn, at least once each, until its stdin ends; then prints
what they were told, as JSON.

    python3 -m tests.abuse.attacker limits|vmm|peer TARGET.json
"""

from __future__ import annotations

import json
import os
import pathlib
import resource
import sys
import threading

from . import limits, peer, vmm
from .tally import Tally, as_json
from .target import HOSTILE_USER, Attack, Round, Target

KINDS: dict[str, list[Attack]] = {"limits": limits.ATTACKS, "vmm": vmm.ATTACKS, "peer": peer.ATTACKS}


def become_hostile_user() -> None:
    os.setgroups([])
    os.setgid(HOSTILE_USER)
    os.setuid(HOSTILE_USER)


def attack(attacks: list[Attack], target: Target, stop: threading.Event) -> dict[str, Tally]:
    tallies = {one.__name__: Tally() for one in attacks}
    while True:
        for one in attacks:
            tally = tallies[one.__name__]
            if tally.attempts == 0 or not stop.is_set():
                one(Round(target, tally, stop))
        if stop.is_set():
            return tallies


def main(arguments: list[str]) -> int:
    kind, path = arguments
    target = Target.read(pathlib.Path(path))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    become_hostile_user()
    stop = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    print(json.dumps(as_json(attack(KINDS[kind], target, stop))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
