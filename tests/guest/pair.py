"""A guest that migrates back and forth between two nodes, by tscctl, and what became of its TSCs. Not thread-safe."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..cluster import Node, TscDistance
from ..demo.lab import Lab, signed, tscctl
from .guest import MIGRATION_PORT, Guest, GuestError, GuestReport

TRIES = 5
MIGRATION_TIMEOUT_S = 240.0  # it takes seconds, but minutes on a machine that has much else to do
# How often every vCPU shall have looked at its TSC, before and after.
ROUNDS = 150_000
# Between two bursts of looking: closely, and while it migrates, when two emulated hosts have enough to do.
REST_US = 1_000
REST_IN_MIGRATION_US = 20_000


@dataclass(frozen=True)
class Migration:
    """One migration: what tscctl says of it, what the guest saw, and the truth by KVM's own offsets."""

    said: dict[str, Any]         # tscctl's JSON
    before: GuestReport
    after: GuestReport
    tsc_error_ticks: list[int]   # per vCPU: guest TSC minus what it would have been, had the VM stayed
    held: bool                   # the offsets are, after `cont` and a while, what the agent has written

    @property
    def phase_error_ticks(self) -> int:
        """Largest change of the difference between two vCPUs."""
        return max(self.tsc_error_ticks) - min(self.tsc_error_ticks)


class MigratingGuest:
    """Boots on node 1; `migrate` takes it to the other node. Its QEMUs end with the `with` block."""

    def __init__(self, lab: Lab, name: str, vcpus: int) -> None:
        self._lab = lab
        self._base = name
        self._name = name
        self._vcpus = vcpus
        self._at = 0
        self._hops = 0
        self._guests: list[Guest] = []
        self.guest: Guest

    def __enter__(self) -> MigratingGuest:
        if self._guests:
            return self  # started before the `with` block
        self.guest = self._start(self._node(0), self._name, [])
        try:
            self.guest.wait_booted()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: types.TracebackType | None) -> None:
        with contextlib.ExitStack() as stack:
            for guest in self._guests:
                stack.push(guest.__exit__)

    @property
    def at(self) -> int:
        """On which node it is, from 0."""
        return self._at

    def make_phases(self, moves: Sequence[tuple[int, int]]) -> None:
        """Moves the TSCs of vCPUs against the others: (vCPU, ticks), by the guest's own IA32_TSC_ADJUST."""
        self.guest.ask("equal")
        for vcpu, ticks in moves:
            self.guest.ask(f"move {vcpu} {ticks}")

    def command(self, destination: Guest, *more: str, plain: bool = False, vm: str = "") -> list[str]:
        """tscctl's words that migrate the guest to `destination`, which waits on the other node."""
        agents = self._lab.agents[self._at], self._lab.agents[1 - self._at]
        who = ["--from", agents[0].address, "--to", agents[1].address, "--vm", vm or self._name,
               "--to-vm", destination.name]
        if plain:
            who = ["--plain"]
        address = destination.node.config.peer_address.partition("/")[0]
        return ["-o", "json", "migrate-qemu", *who, "--from-qmp", self.guest.qmp_address,
                "--to-qmp", destination.qmp_address, "--migrate-uri", f"tcp:{address}:{self._port}", *more]

    def destination(self, *, plain: bool = False) -> Guest:
        """A QEMU on the other node that waits for the guest. After a plain migration the agents know nothing of how the
        guest came there, and one that handed it away would not take it for its own again: so it gets another name."""
        self._hops += 1
        name = f"{self._base}-{self._hops}" if plain else self._name
        node = self._node(1 - self._at)
        address = node.config.peer_address.partition("/")[0]
        return self._start(node, name, ["-S", "-incoming", f"tcp:{address}:{self._port}"])

    def migrate(self, distance: TscDistance, *, plain: bool) -> Migration:
        """Takes it to the other node, and lets it look at its TSCs before and after."""
        self.guest.ask(f"rest {REST_US}")
        self.guest.ask("reset")
        before = self.guest.wait_rounds(ROUNDS)
        self.guest.ask(f"rest {REST_IN_MIGRATION_US}")
        offsets_before = self.guest.offsets()
        destination, said = self._go(plain)
        offsets_after = destination.offsets()
        self.guest.__exit__(None, None, None)
        self._at, self.guest, self._name = 1 - self._at, destination, destination.name
        destination.ask(f"rest {REST_US}")
        after = destination.wait_rounds(before.rounds_least + ROUNDS)
        # Node 2's TSC is node 1's plus the distance.
        ahead = distance.distance_ticks if self._at == 1 else -distance.distance_ticks
        errors = [signed(there - here + ahead) for here, there in zip(offsets_before, offsets_after, strict=True)]
        if len(errors) != self._vcpus:
            raise GuestError(f"debugfs shows {len(errors)} vCPUs of {self._vcpus}")
        written = [int(vcpu["offset_after_ticks"]) for vcpu in said["handoff"]["vcpus"]] if said["handoff"] else offsets_after
        if len(set(errors)) > 1:
            # The guest must come to see that; how soon, is a matter of which CPUs meet at the lock.
            after = destination.wait_warp()
        held = written == offsets_after == destination.offsets()
        return Migration(said, before, after, errors, held)

    def _go(self, plain: bool) -> tuple[Guest, dict[str, Any]]:
        """A probe that an emulated node did not answer in time brings the guest back, which may be tried again."""
        for left in reversed(range(TRIES)):
            destination = self.destination(plain=plain)
            result = tscctl(*self.command(destination, plain=plain), timeout=MIGRATION_TIMEOUT_S)
            if "PEER_UNREACHABLE" not in result.stderr or left == 0:
                break
            destination.__exit__(None, None, None)
        return destination, result.json

    def _start(self, node: Node, name: str, options: Sequence[str]) -> Guest:
        guest = Guest(node, name=name, vcpus=self._vcpus, options=options)
        self._guests.append(guest)
        return guest

    def _node(self, number: int) -> Node:
        return self._lab.cluster.nodes[number]

    @property
    def _port(self) -> int:
        """Another one for each hop: a QEMU that ends may still hold the last one."""
        return MIGRATION_PORT + self._hops
