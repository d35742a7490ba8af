"""All attackers at once against two agents that hand VMs over meanwhile.

The agents are real and run as they are meant to: mutual TLS on this machine's loopback, a policy, an audit, limits, --seccomp
kill. Their hosts are simulated, so that the handoffs can be many. Three processes attack the first agent, and the second one
where it takes two: one goes over the limits of the callers' API, one is hostile VMMs with an accomplice who asks for their VMs,
one is another host's agent and an orchestrator gone bad and whoever reaches the port. How fast they are is bounded by their
number alone. How much longer handoffs take meanwhile says ./run bench --only abuse.
"""

from __future__ import annotations

import os
import re
import threading
import time

import pytest

from ..e2e.support import wait_for
from ..security.agent import tscctl
from .arena import HELPLESS, VMS, Arena
from .bystander import Bystander
from .resources import Resources
from .tally import as_lines

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="attackers are users of their own, which takes root")

# Each attacker makes every one of its attacks meanwhile.
ABUSE_S = 30.0
QUIET_S = 2.0
# The allocator's, and gRPC's, which ends its threads when they have long had nothing to do.
MORE_KIB, MORE_THREADS = 16 << 10, 8
SETTLED_WITHIN_S = 25.0

# What each attack must have been told at least once, and may not have been told, as regular expressions.
TOLD: dict[str, tuple[list[str], list[str]]] = {
    "too_big_messages": (["RESOURCE_EXHAUSTED"], ["served"]),
    "too_much_metadata": (["an error in the trailers|RST_STREAM|GOAWAY"], []),
    "too_many_streams": (["RST_STREAM"], []),
    "too_many_connections": (["closed at once", "served"], []),
    "too_many_requests": (["LIMIT_EXCEEDED", "served"], []),
    "half_open_handshakes": (["left open"], []),
    "wrong_descriptors": (["HELLO must carry one descriptor", '"/dev/null", not a', "does not belong to the VM",
                           "VCPUS message of 2 vCPUs with 0 descriptors", "with 200 descriptors", r"socket:\[\d+\]"],
                          ["^registered$"]),
    "thousands_of_descriptors": (["/dev/null"], ["^registered$"]),
    "lying_counts": (["a VM of 0 vCPUs", "a VM of 4294967295 vCPUs", "VCPUS message of 3 vCPUs with 2",
                      "not above the one before", "vCPU id 4294967295 is above"], ["^registered$"]),
    "torn_frames": (["impossible length", "HELLO of the wrong length", "VCPUS message of the wrong length", "not the protocol"],
                    ["^registered$"]),
    "frames_repeated_and_out_of_order": (["out of order"], ["^registered$"]),
    "frames_without_end": (["VMM_GONE"], ["served"]),
    "names_of_others": (["may not register the VM id vm-0-0", "a VM id has 1 to 128 characters"], ["^registered$"]),
    "lying_answers": (["VMM_GONE"], ["served"]),
    # GetVm may find that somebody else asks already, and then tells what was seen last.
    "vmms_that_stop_reading": (["VMM_GONE"], []),
    "deaths_at_each_step": (["died connected", "died unwelcomed", "died registered", "VMM_GONE"], ["served"]),
    "half_registrations": (["too many VMMs are registering at once; try again", "kept waiting"], ["^registered$"]),
    "too_many_vms": (["this agent serves at most"], []),
    "damaged_states": (["STATE_CORRUPT", "STATE_VERSION_UNSUPPORTED"], []),
    "absurd_states": (["STATE_CORRUPT", "TSC_KHZ_UNSUPPORTED", "ELAPSED_OUT_OF_RANGE", "CLOCK_BOUND_EXCEEDED"], []),
    "replayed_and_foreign_states": (["STATE_CORRUPT", "HANDOFF_DECIDED", "HANDOFF_ID_REUSED", "NOT_AUTHORIZED"], []),
    "handoffs_of_others": (["HANDOFF_NOT_FOUND", "HANDOFF_ID_REUSED", "NOT_AUTHORIZED"], ["served"]),
    "strangers": (["TLS: |closed", "NOT_AUTHORIZED"], ["served"]),
    "no_http2": (["GOAWAY"], []),
    "slow_readers": (["left waiting|ended by the agent"], []),
    "lying_clocks": (["PEER_UNREACHABLE", "CLOCKS_DISAGREE", "REQUEST_INVALID"], ["VERDICT_AGREE"]),
}


def check_told(tallies: dict[str, dict[str, dict[str, int]]]) -> None:
    told = {name: outcomes for kind in tallies.values() for name, outcomes in kind.items()}
    assert told.keys() == TOLD.keys()
    for name, (must, must_not) in TOLD.items():
        words = [outcome for outcome, count in told[name].items() if count > 0]
        for pattern in must:
            assert any(re.search(pattern, word) for word in words), f"{name}: nobody was told \"{pattern}\": {told[name]}"
        for pattern in must_not:
            assert not any(re.search(pattern, word) for word in words), f"{name}: somebody was told \"{pattern}\": {told[name]}"


def settled(arena: Arena, limits: list[Resources]) -> list[Resources]:
    """What the agents hold as soon as it is as little as that, or what they still hold when they have had time enough."""
    deadline = time.monotonic() + SETTLED_WITHIN_S
    pause = threading.Event()
    while True:
        now = arena.resources()
        if time.monotonic() > deadline or all(held.within(limit) for held, limit in zip(now, limits, strict=True)):
            return now
        pause.wait(0.5)


def with_margin(held: Resources) -> Resources:
    return Resources(held.rss_kib + MORE_KIB, held.descriptors, held.threads + MORE_THREADS)


def test_no_handoff_fails_and_nothing_is_left_of_the_abuse(capfd: pytest.CaptureFixture[str]) -> None:
    with Arena() as arena:
        arena.add_helpless_vms()
        target = arena.target(arena.remembered_handoff())
        quiet = arena.start_handoffs(QUIET_S).result()
        assert quiet["failed_rounds"] == 0, quiet["failure"]
        before = arena.resources()

        with Bystander(target, "bystander") as bystander, arena.start_attackers(target) as attackers:
            handoffs = arena.start_handoffs(ABUSE_S).result()
        for kind, tallies in attackers.tallies.items():
            print("\n".join(as_lines(kind, tallies)))
        print(f"{handoffs['rounds']} handoffs; the bystander was served {bystander.served} times, "
              f"within {bystander.longest_s:.2f} s")

        assert handoffs["failed_rounds"] == 0, handoffs["failure"]
        assert handoffs["rounds"] > 10
        assert bystander.failures == [] and bystander.served > 10
        check_told(attackers.tallies)

        after = settled(arena, [with_margin(held) for held in before])
        for held, now, limit in zip(before, after, [with_margin(held) for held in before], strict=True):
            print(f"before: {held}; after: {now}")
            assert now.within(limit), (held, now)
        # The attackers' VMs are gone, the others are all there.
        for number in (0, 1):
            wait_for(lambda number=number: arena.vm_count(number) == VMS + HELPLESS, "the rest is there")  # type: ignore[misc]
        again = arena.start_handoffs(QUIET_S).result()
        assert again["failed_rounds"] == 0, again["failure"]
        audit = (arena.directory(0) / "audit.log").read_text()
        assert '"spiffe://lab.example.org/accomplice"' in audit and "NOT_AUTHORIZED" in audit
        assert tscctl("--agent", f"unix:{arena.directory(0)}/agent.sock", "host").status == 0
    said, log = capfd.readouterr()
    print(said)
    # Whatever a library writes goes through the agent's log, which is limited.
    assert "libprotobuf" not in log and "Handshake failed" not in log, log
