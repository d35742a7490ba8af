"""VMMs that are hostile on the agent's socket for VMMs, and an orchestrator who asks for their VMs: what a VMM can do to who
asks for another one's, it would do here."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import struct
from collections.abc import Callable, Iterator

import grpc

from . import wire
from .target import HOSTILE_VMS, PATIENCE_S, SERVICE, Attack, Round
from .wire import SimulatedVm, Vmm

ACCOMPLICE = "accomplice"
VCPUS = 2
# More than the agent's threads for calls that wait for VMMs.
DEAF_VMMS = 24
# Of an agent that takes 64 at once.
HALF_REGISTERED = 80
# More than the arena's agents take.
MANY_VMS = 48
_numbers = itertools.count()


def new_name() -> str:
    return f"{HOSTILE_VMS}{os.getpid()}-{next(_numbers)}"


def _get_vm(channel: grpc.Channel, vm: str, method: str = "GetTscState") -> grpc.Future:
    """`vm` is field 1 of both requests, a string."""
    return channel.unary_unary(f"/{SERVICE}/{method}").future(b"\x0a" + bytes([len(vm)]) + vm.encode(), timeout=PATIENCE_S)


def _note(attack: Round, answer: grpc.Future, suffix: str = "") -> None:
    try:
        answer.result()
        attack.tally.note("served" + suffix)
    except grpc.RpcError as error:
        attack.tally.note_error(error)


@contextlib.contextmanager
def _vmm(attack: Round) -> Iterator[Vmm]:
    with Vmm(attack.target.vmm_sockets[0]) as vmm:
        yield vmm


def wrong_descriptors(attack: Round) -> None:
    """Files, sockets, none, too many; files in memory of other names; those of two VMs."""
    with SimulatedVm([0, 1]) as mine, SimulatedVm([0, 1], mark=2) as other, contextlib.ExitStack() as stack:
        null = os.open("/dev/null", os.O_RDONLY)
        stack.callback(os.close, null)
        pair = socket.socketpair()
        for end in pair:
            stack.enter_context(end)
        a_socket = pair[0].fileno()
        rows: list[tuple[list[int], list[int]]] = [
            ([null], mine.vcpu_fds), ([mine.vm_fd], [null, null]), ([a_socket], [a_socket, a_socket]),
            ([mine.vm_fd], other.vcpu_fds), ([mine.vm_fd], [mine.vcpu_fds[0], other.vcpu_fds[1]]),
            ([mine.vm_fd], [mine.vcpu_fds[1], mine.vcpu_fds[0]]), ([], mine.vcpu_fds), ([mine.vm_fd], []),
            ([mine.vm_fd] * 2, mine.vcpu_fds), ([mine.vm_fd] * 250, mine.vcpu_fds), ([mine.vm_fd], mine.vcpu_fds * 100)]
        for vm_fds, vcpu_fds in rows:
            with _vmm(attack) as vmm:
                vmm.send(wire.hello(new_name(), VCPUS), vm_fds)
                vmm.send(wire.vcpus([0, 1]), vcpu_fds)
                attack.tally.note(vmm.outcome())


def thousands_of_descriptors(attack: Round) -> None:
    """As many as a VM may have vCPUs, of which all are wrong but the first."""
    null = os.open("/dev/null", os.O_RDONLY)
    with SimulatedVm([0]) as vm, _vmm(attack) as vmm:
        vmm.send(wire.hello(new_name(), 1024), [vm.vm_fd])
        for first in range(0, 1024, 250):
            ids = range(first, min(first + 250, 1024))
            vmm.send(wire.vcpus(ids), [*vm.vcpu_fds, *[null] * (len(ids) - 1)])
        attack.tally.note(vmm.outcome())
    os.close(null)


def lying_counts(attack: Round) -> None:
    with SimulatedVm([0, 1]) as vm:
        for vcpus in (0, 1025, (1 << 32) - 1):
            with _vmm(attack) as vmm:
                vmm.send(wire.hello(new_name(), vcpus), [vm.vm_fd])
                attack.tally.note(vmm.outcome())
        for ids, count in (([0, 1], 1), ([0, 1], 3), ([0, 1], (1 << 32) - 1), ([0, 1], 0), ([1, 0], 2), ([0, 0], 2),
                           ([0, 4096], 2), ([0, (1 << 32) - 1], 2)):
            with _vmm(attack) as vmm:
                vmm.send(wire.hello(new_name(), VCPUS), [vm.vm_fd])
                vmm.send(wire.vcpus(ids, count), vm.vcpu_fds)
                attack.tally.note(vmm.outcome())


def torn_frames(attack: Round) -> None:
    with SimulatedVm([0, 1]) as vm:
        hello, vcpus = wire.hello(new_name(), VCPUS), wire.vcpus([0, 1])
        for size in (1, 15, 16, 17, len(hello) - 1):
            with _vmm(attack) as vmm:
                vmm.send(hello[:size], [vm.vm_fd])
                attack.tally.note(vmm.outcome())
        for torn in (vcpus[:20], vcpus + b"\0", os.urandom(64), os.urandom(4096)):
            with _vmm(attack) as vmm:
                vmm.send(hello, [vm.vm_fd])
                vmm.send(torn, vm.vcpu_fds)
                attack.tally.note(vmm.outcome())


def frames_repeated_and_out_of_order(attack: Round) -> None:
    with SimulatedVm([0, 1]) as vm:
        hello, vcpus = (wire.hello(new_name(), VCPUS), [vm.vm_fd]), (wire.vcpus([0, 1]), vm.vcpu_fds)
        half = (wire.vcpus([0]), vm.vcpu_fds[:1])
        answer = (wire.status_done(1), [])
        for frames in ([vcpus], [hello, hello], [hello, half, half], [hello, half, hello], [answer], [hello, answer]):
            with _vmm(attack) as vmm:
                for packet, descriptors in frames:
                    vmm.send(packet, descriptors)
                attack.tally.note(vmm.outcome())


def frames_without_end(attack: Round) -> None:
    """What is never a whole registration, and what a registered VMM is not to say."""
    with SimulatedVm([0]) as vm, _vmm(attack) as vmm:
        vmm.send(wire.hello(new_name(), 1024), [vm.vm_fd])
        for number in range(10_000):
            if not vmm.send(wire.vcpus([number % 4096]), vm.vcpu_fds):
                break
        attack.tally.note(vmm.outcome())
    with SimulatedVm([0]) as vm, _vmm(attack) as vmm:
        name = new_name()
        vmm.register(name, vm)
        vmm.socket.settimeout(0.05)
        for _ in range(10_000):
            if not vmm.send(wire.status_done(1)):
                break
        with attack.target.channel(ACCOMPLICE) as channel:
            _note(attack, _get_vm(channel, name))


def names_of_others(attack: Round) -> None:
    with SimulatedVm([0]) as vm:
        for name in (attack.target.honest_vm, "", "../x", "x" * 129, "x\ny"):
            with _vmm(attack) as vmm:
                vmm.send(wire.hello(name, 1), [vm.vm_fd])
                attack.tally.note(vmm.outcome())


# What a VMM answers to a READ of this id.
LIES: list[Callable[[int], bytes]] = [
    lambda number: b"",
    lambda number: b"\0" * 7,
    lambda number: wire.header(wire.READ_DONE, number),
    lambda number: wire.header(wire.READ_DONE, number) + b"\xff" * 200,
    lambda number: wire.header(wire.READ_DONE, number) + b"\0" * 4096,
    lambda number: wire.header(wire.WRITE_DONE, number) + b"\0" * 200,
    lambda number: wire.header(wire.READ_DONE, number + 1) + b"\0" * 200,
    lambda number: wire.header(wire.HELLO, number),
    lambda number: os.urandom(300),
]


def lying_answers(attack: Round) -> None:
    with attack.target.channel(ACCOMPLICE) as channel, SimulatedVm(range(VCPUS)) as vm:
        for lie in LIES:
            with _vmm(attack) as vmm:
                name = new_name()
                if (outcome := vmm.register(name, vm)) != "registered":
                    attack.tally.note(outcome)
                    continue
                answer = _get_vm(channel, name)
                request = vmm.receive()
                if len(request) >= 16:
                    vmm.send(lie(struct.unpack_from("=Q", request, 8)[0]))
                _note(attack, answer)


def vmms_that_stop_reading(attack: Round) -> None:
    """So many that all threads of the agent that can wait would wait for them."""
    with contextlib.ExitStack() as stack:
        channel = stack.enter_context(attack.target.channel(ACCOMPLICE))
        vm = stack.enter_context(SimulatedVm([0]))
        names = []
        for _ in range(DEAF_VMMS):
            vmm = stack.enter_context(_vmm(attack))
            name = new_name()
            if (outcome := vmm.register(name, vm)) == "registered":
                names.append(name)
            else:
                attack.tally.note(outcome)
        for answer in [_get_vm(channel, name, method) for method in ("GetTscState", "GetVm") for name in names]:
            _note(attack, answer)


def deaths_at_each_step(attack: Round) -> None:
    def connected(vmm: Vmm, vm: SimulatedVm, name: str) -> None:
        pass

    def after_hello(vmm: Vmm, vm: SimulatedVm, name: str) -> None:
        vmm.send(wire.hello(name, VCPUS), [vm.vm_fd])

    def amid_vcpus(vmm: Vmm, vm: SimulatedVm, name: str) -> None:
        after_hello(vmm, vm, name)
        vmm.send(wire.vcpus([0]), vm.vcpu_fds[:1])

    def unwelcomed(vmm: Vmm, vm: SimulatedVm, name: str) -> None:
        after_hello(vmm, vm, name)
        vmm.send(wire.vcpus([0, 1]), vm.vcpu_fds)

    def registered(vmm: Vmm, vm: SimulatedVm, name: str) -> None:
        vmm.register(name, vm)

    with attack.target.channel(ACCOMPLICE) as channel, SimulatedVm([0, 1]) as vm:
        for step in (connected, after_hello, amid_vcpus, unwelcomed, registered):
            with _vmm(attack) as vmm:
                step(vmm, vm, new_name())
            attack.tally.note(f"died {step.__name__.replace('_', ' ')}")
        with _vmm(attack) as vmm:
            name = new_name()
            vmm.register(name, vm)
            answer = _get_vm(channel, name)
            vmm.receive()
        _note(attack, answer)


def half_registrations(attack: Round) -> None:
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(_vmm(attack)) for _ in range(HALF_REGISTERED)]
        for vmm in made:
            vmm.socket.settimeout(0.01)
            outcome = vmm.outcome()
            attack.tally.note("kept waiting" if outcome == "closed" else outcome)


def too_many_vms(attack: Round) -> None:
    with contextlib.ExitStack() as stack:
        vm = stack.enter_context(SimulatedVm([0]))
        for _ in range(MANY_VMS):
            attack.tally.note(stack.enter_context(_vmm(attack)).register(new_name(), vm))


ATTACKS: list[Attack] = [
    wrong_descriptors, thousands_of_descriptors, lying_counts, torn_frames, frames_repeated_and_out_of_order,
    frames_without_end, names_of_others, lying_answers, vmms_that_stop_reading, deaths_at_each_step, half_registrations,
    too_many_vms]
