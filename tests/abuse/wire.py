"""The packets of client/vmm/tsc_wire.h, to make them wrongly."""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
from collections.abc import Sequence

MAGIC, VERSION = 0x48435354, 2
HELLO, VCPUS, WELCOME, REFUSED, READ, READ_DONE, WRITE, WRITE_DONE, STATUS, STATUS_DONE, PERMIT = range(1, 12)
FDS_PER_MESSAGE = 250
_PATIENCE_S = 8.0  # longer than the agent lets a registration take


def header(kind: int, request_id: int = 0) -> bytes:
    return struct.pack("=IHHQ", MAGIC, VERSION, kind, request_id)


def hello(vm: str, vcpus: int) -> bytes:
    return header(HELLO) + struct.pack("=II136s16s", vcpus, 0, vm.encode(), os.urandom(16))


def vcpus(ids: Sequence[int], count: int | None = None) -> bytes:
    padded = [*ids, *[0] * (FDS_PER_MESSAGE - len(ids))]
    return header(VCPUS) + struct.pack(f"=II{FDS_PER_MESSAGE}I", len(ids) if count is None else count, 0, *padded)


def status_done(request_id: int) -> bytes:
    return header(STATUS_DONE, request_id) + struct.pack("=II", 0, 0)


class SimulatedVm(contextlib.AbstractContextManager["SimulatedVm"]):
    """Descriptors as a simulated host makes them; see tests/sim_agent/sim_descriptors.cc."""

    def __init__(self, ids: Sequence[int], mark: int = 1) -> None:
        self.ids = list(ids)
        self.vm_fd = self._file("kvm-vm", mark)
        self.vcpu_fds = [self._file(f"kvm-vcpu:{number}", mark) for number in ids]

    @staticmethod
    def _file(name: str, mark: int) -> int:
        descriptor = os.memfd_create(name)
        os.write(descriptor, struct.pack("=Q", mark))
        return descriptor

    def __exit__(self, *_: object) -> None:
        for descriptor in [self.vm_fd, *self.vcpu_fds]:
            os.close(descriptor)


class Vmm(contextlib.AbstractContextManager["Vmm"]):
    """A connection to an agent's socket for VMMs."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(_PATIENCE_S)
        self.socket.connect(path)

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, packet: bytes, descriptors: Sequence[int] = ()) -> bool:
        """False when the agent takes nothing any more."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            self.socket.sendmsg([packet], rights)
        except OSError:
            return False
        return True

    def receive(self) -> bytes:
        """The next packet; empty at the end of the connection, or when none comes."""
        try:
            return self.socket.recv(1 << 20)
        except OSError:
            return b""

    def outcome(self) -> str:
        """How the registration ended: "registered", or the agent's words, without what differs each time."""
        packet = self.receive()
        if len(packet) < 16:
            return "closed"
        kind = struct.unpack_from("=H", packet, 6)[0]
        if kind != REFUSED:
            return "registered" if kind == WELCOME else f"packet of type {kind}"
        return packet[16:].split(b"\0")[0].decode(errors="replace")

    def register(self, vm: str, descriptors: SimulatedVm) -> str:
        self.send(hello(vm, len(descriptors.ids)), [descriptors.vm_fd])
        self.send(vcpus(descriptors.ids), descriptors.vcpu_fds)
        outcome = self.outcome()
        if outcome == "registered":
            self.receive()  # PERMIT
        return outcome
