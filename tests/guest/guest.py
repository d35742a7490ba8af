"""Starts the witness guest in a stock QEMU in a node, or a QEMU that waits for it to come, and asks the guest.

The guest is Debian's kernel with one program, tests/guest/init.c. Not thread-safe.
"""

from __future__ import annotations

import gzip
import itertools
import json
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..attach.node_qemu import NodeQemu
from ..cluster import EXCHANGE, Node, NodeError
from ..cluster.hosttsc import machine_tsc_khz
from ..cluster.kernel import cpio, fetch_kernel
from ..programs import binary

MEMORY_MB = 160
INITRD = "guest-initrd.gz"
MIGRATION_PORT = 4444
_KERNEL_ARGUMENTS = (
    # Its log is read in the guest: the emulated console costs an exit for every character.
    "console=ttyS0 quiet panic=-1 mitigations=off init_on_alloc=0 cryptomgr.notests "
    # The kernel would write its own value back into a TSC_ADJUST that it finds changed, and so undo what the guest is to
    # do; and it would not watch a TSC that has the register. It leaves an unknown one alone; KVM has it all the same.
    "clearcpuid=tsc_adjust")
_ports = itertools.count(4500)
# Of the commands: one sequence for all, as a guest takes what it was asked along when it migrates.
_numbers = itertools.count(1)


class GuestError(RuntimeError):
    """The guest did not start, or refused a command."""


@dataclass(frozen=True)
class GuestReport:
    """What the guest saw since the last reset, and what its kernel thinks of its TSC."""

    vcpus: int
    rounds: int
    rounds_least: int  # of the vCPU that looked least
    warps: int
    warp_largest_ticks: int
    backward_steps: int
    clocksource: str
    available: str     # clock sources that the kernel would use; "tsc" only as long as it is taken for stable
    unstable: str      # the kernel's last words about an unstable TSC, or nothing


class Guest(NodeQemu):
    """The guest's QEMU in a node; ends with the `with` block. Its monitor is also at TCP `qmp_port` of the node."""

    def __init__(self, node: Node, *, name: str, vcpus: int, options: Sequence[str] = ()) -> None:
        kernel = fetch_kernel()
        initrd = write_initrd(node)
        port = next(_ports)
        # As guests are run that use the TSC for their clock and shall migrate: invariant, and of a stated frequency. An
        # emulated AMD processor cannot promise that, though its TSC is; without the promise Linux takes the TSCs of
        # several processors for unstable at boot, before anything was looked at.
        cpu = f"host,-svm,migratable=off,+invtsc,x-force-features=on,tsc-frequency={machine_tsc_khz() * 1000}"
        self.name = name
        self._commands = f"/tmp/{name}-{port}.commands"
        self._console = f"{node.name}.{name}-{port}.console"
        self.qmp_address = f"127.0.0.1:{node.forward(port)}"
        super().__init__(node, name=name, vcpus=vcpus, options=[
            "-cpu", cpu, "-m", str(MEMORY_MB), "-kernel", str(kernel.boot_image), "-initrd", initrd, "-append", _KERNEL_ARGUMENTS,
            "-serial", f"file:{EXCHANGE}/{self._console}",
            "-chardev", f"socket,id=commands,path={self._commands},server=on,wait=off", "-serial", "chardev:commands",
            "-qmp", f"tcp:10.0.2.15:{port},server=on,wait=off", *options])

    def ended(self, timeout: float = 30.0) -> bool:
        """Whether its QEMU ends by itself within that time."""
        try:
            self._process.wait(timeout)
        except NodeError:
            return False
        return True

    def ask(self, command: str, timeout: float = 90.0) -> dict[str, Any]:
        """Gives the guest a command. REQUIRES that it runs here."""
        try:
            return self._ask(command, timeout)
        except NodeError as error:
            raise GuestError(f"{self.node.name}: the guest did not answer {command!r}: {error}\n{self._condition()}") from error

    def _ask(self, command: str, timeout: float) -> dict[str, Any]:
        number = next(_numbers)
        # The empty line ends what an asker may have left half said.
        line = self.node.ask_socket(self._commands, f"\n{number} {command}", timeout, answers=f">{number} ")
        if not line:
            raise GuestError(f"{self.node.name}: the guest said nothing to {command!r}")
        answer = json.loads(line.partition(" ")[2])
        if "error" in answer:
            raise GuestError(f"{self.node.name}: {command}: {answer['error']}")
        return dict(answer)

    def _condition(self) -> str:
        """Of a guest that does not answer: what its QEMU says, where its vCPUs are, and its kernel's last words."""
        try:
            registers = str(self.qmp("human-monitor-command", **{"command-line": "info registers -a"}))
            where = " ".join(re.findall(r"CPU#\d+|R[IS]P=\w+|RFL=\w+|HLT=\d", registers))
            status = f"{self.qmp('query-status')} {where}"
        except Exception as error:  # it is as silent as its guest
            status = str(error)
        return f"{status}\n{(self.node.exchange / self._console).read_text(errors='replace')[-1500:]}"

    def report(self) -> GuestReport:
        return GuestReport(**self.ask("report"))

    def wait_rounds(self, rounds: int, timeout: float = 60.0) -> GuestReport:
        """Returns its report once every vCPU has looked that often at its TSC since the last reset."""
        deadline = time.monotonic() + timeout
        pause = threading.Event()
        while (report := self.report()).rounds_least < rounds:
            if time.monotonic() > deadline:
                raise GuestError(f"{self.node.name}: not {rounds} rounds within {timeout:.0f} s: {report}")
            pause.wait(0.2)
        return report

    def wait_warp(self, timeout: float = 30.0) -> GuestReport:
        """Returns its report once it has seen a warp, or at the end of that time."""
        deadline = time.monotonic() + timeout
        pause = threading.Event()
        while not (report := self.report()).warps and time.monotonic() < deadline:
            pause.wait(0.2)
        return report

    def wait_booted(self, timeout: float = 60.0) -> None:
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._ask("report", timeout=5.0)
                return
            except Exception as error:  # until its program reads the port, nobody answers
                if time.monotonic() > deadline or not self.alive:
                    raise GuestError(f"{self.node.name}: the guest does not start: {error}") from error


def write_initrd(node: Node) -> str:
    """Where the node sees the guest's initrd, written once per cluster."""
    path = node.exchange / INITRD
    if not path.exists():
        files = {
            "init": (0o755, binary("tests/guest/init").read_bytes()),
            "modules/msr.ko": (0o644, fetch_kernel().module("msr").read_bytes()),
        }
        path.write_bytes(gzip.compress(cpio(files, ["dev", "proc", "sys", "modules"]), compresslevel=6, mtime=0))
    return str(EXCHANGE / INITRD)


def start_guest(node: Node, *, name: str, vcpus: int) -> Guest:
    """Returns once the guest answers."""
    guest = Guest(node, name=name, vcpus=vcpus)
    guest.wait_booted()
    return guest
