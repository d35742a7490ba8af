"""One node: a Debian kernel with real KVM (kvm-amd) in QEMU's TCG, on this machine's own file system.

The node's root is an overlay (tmpfs on top) over this machine's `/`, so it runs the very binaries that were just built,
with the machine's libraries. Two rules follow. Files that change on the machine after the node has read them may be
stale in the node: exchange data through the exchange directory, which both see at once (/exchange in the node). And
what the node writes elsewhere is gone with it and never touches the machine.

Node and NodeProcess are thread-safe, except that start and close are for one thread. Idle nodes use no CPU.
"""

from __future__ import annotations

import base64
import itertools
import pathlib
import re
import shutil
import signal as signals
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from . import hosttsc, kernel, qemu
from .channel import Channel, ChannelError

EXCHANGE = pathlib.PurePosixPath("/exchange")  # where a node sees the exchange directory
_HERE = pathlib.Path(__file__).resolve().parent
_ANSWER_GRACE_S = 20.0  # what a busy machine may add to an answer under emulation


class NodeError(RuntimeError):
    """A node did not do what was asked of it; the message carries what it printed."""


class CommandResult(NamedTuple):
    """What became of a command; unpacks as (returncode, stdout, stderr)."""

    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class NodeConfig:
    name: str
    smp: int = 2
    memory_mb: int = 2048
    mac_suffix: int = 1  # distinct for every node of a cluster
    # Second NIC: a connected datagram socket to the peer, and this node's ADDRESS/BITS on it.
    peer_socket: socket.socket | None = None
    peer_address: str = "-"
    # A file descriptor of the memory that all nodes see as an ivshmem device, and its size.
    shared_fd: int | None = None
    shared_bytes: int = 1 << 20
    # "multi" for nodes in which a Linux guest with several vCPUs is to boot; see _qemu_argv.
    tcg_thread: str = "single"
    extra_qemu_args: tuple[str, ...] = ()
    extra_kernel_args: tuple[str, ...] = ()
    # What lies under the node's overlay, and the program that becomes its process 1 in place of the node's own script.
    # That program must see to it that node_agent.py is started (/exchange/.agent.py).
    root: pathlib.Path = pathlib.Path("/")
    init: str = ""


class NodeProcess:
    """A process that runs in a node. Its output goes to `log_path` as it comes."""

    def __init__(self, node: Node, handle: int, argv: Sequence[str], log_path: pathlib.Path) -> None:
        self._node = node
        self._handle = handle
        self._ended = threading.Event()
        self._status: int | None = None  # written once, before _ended is set
        self.argv = tuple(argv)
        self.log_path = log_path
        self.pid = 0  # in the node; set before Node.start returns

    def poll(self) -> int | None:
        """The exit status (negative: the signal that killed it), None while it runs."""
        return self._status if self._ended.is_set() else None

    def wait(self, timeout: float = 30.0) -> int:
        if not self._ended.wait(timeout):
            raise NodeError(f"{self._node.name}: {self.argv[0]} (pid {self.pid}) still runs after "
                            f"{timeout:.0f} s; its log ends:\n{self.log_tail()}")
        assert self._status is not None
        return self._status

    def send_signal(self, number: int, group: bool = False) -> None:
        """Signals the process, or with `group` everything that it started as well."""
        self._node.call("signal", handle=self._handle, signal=int(number), group=group)

    def terminate(self) -> None:
        self.send_signal(signals.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signals.SIGKILL, group=True)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self, lines: int = 20) -> str:
        return "\n".join(self.log().splitlines()[-lines:])

    def _end(self, status: int) -> None:
        self._status = status
        self._ended.set()


class Node:
    def __init__(self, config: NodeConfig, work_dir: pathlib.Path, exchange: pathlib.Path) -> None:
        """`work_dir` holds the console log; `exchange` is shared by all nodes of a cluster."""
        self.config = config
        self.name = config.name
        self.exchange = exchange
        self.console_path = work_dir / f"{config.name}.console"
        self.boot_seconds: float | None = None  # from start to an agent that answers
        self._qemu_log_path = work_dir / f"{config.name}.qemu"
        self._qemu: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._monitor: qemu.Monitor | None = None
        self._started_at = 0.0
        self._ready = threading.Event()
        self._gone = threading.Event()
        self._handles = itertools.count(1)
        self._processes: dict[int, NodeProcess] = {}
        self._forwards: dict[int, int] = {}
        self._forward_lock = threading.Lock()

    # Life

    def start_boot(self) -> None:
        """Starts QEMU and returns at once, so that several nodes boot side by side."""
        image = kernel.fetch_kernel()
        initrd = kernel.build_initrd(image, (kernel.ROOT_MODULES, kernel.KVM_MODULES),
                                     (_HERE / "init.sh").read_text())
        agent = self.exchange / ".agent.py"
        if not agent.exists():
            shutil.copyfile(_HERE / "node_agent.py", agent)
        control, control_qemu = socket.socketpair()
        monitor, monitor_qemu = socket.socketpair()
        passed = [control_qemu.fileno(), monitor_qemu.fileno()]
        if self.config.peer_socket is not None:
            passed.append(self.config.peer_socket.fileno())
        if self.config.shared_fd is not None:
            passed.append(self.config.shared_fd)
        argv = self._qemu_argv(image, initrd, *passed[:2])
        self._started_at = time.monotonic()
        with control_qemu, monitor_qemu, open(self._qemu_log_path, "wb") as output:
            self._qemu = qemu.spawn(argv, pass_fds=passed, output=output)
        self._monitor = qemu.Monitor(monitor)
        self._channel = Channel(control, self._on_event, self._on_gone)

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Returns when the agent in the node answers; NodeError with the console's tail if not."""
        deadline = self._started_at + timeout
        while not self._ready.wait(0.1):
            if self._gone.is_set():
                raise self._failure("ended while it booted")
            if time.monotonic() > deadline:
                raise self._failure(f"did not boot within {timeout:.0f} s")

    def close(self) -> None:
        """Ends the node at once: nothing in it is worth a shutdown. May be called twice."""
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait()
        if self._channel is not None:
            self._channel.close()
        if self._monitor is not None:
            self._monitor.close()

    @property
    def qemu_pid(self) -> int:
        assert self._qemu is not None, "start_boot first"
        return self._qemu.pid

    @property
    def alive(self) -> bool:
        return self._ready.is_set() and not self._gone.is_set()

    # Commands

    def run(self, argv: Sequence[str | pathlib.PurePath], timeout: float = 30.0, check: bool = True,
            stdin: bytes = b"", env: Mapping[str, str] | None = None,
            cwd: str | None = None) -> CommandResult:
        """Runs a command to its end. With `check` a non-zero exit is a NodeError; a timeout (after
        which the command and its children are killed) always is."""
        words = [str(word) for word in argv]
        answer = self.call("run", timeout_s=timeout + _ANSWER_GRACE_S, argv=words, timeout=timeout,
                           env=dict(env or {}), cwd=cwd, stdin=base64.b64encode(stdin).decode())
        result = CommandResult(answer["status"],
                               base64.b64decode(answer["stdout"]).decode(errors="replace"),
                               base64.b64decode(answer["stderr"]).decode(errors="replace"))
        if answer["timed_out"] or (check and result.returncode != 0):
            what = (f"took more than {timeout:.0f} s" if answer["timed_out"] else
                    f"failed ({result.returncode})")
            raise NodeError(f"{self.name}: {' '.join(words)} {what}\n{result.stdout[-2000:]}"
                            f"{result.stderr[-2000:]}")
        return result

    def start(self, argv: Sequence[str | pathlib.PurePath], name: str | None = None,
              log: str | None = None, env: Mapping[str, str] | None = None,
              cwd: str | None = None) -> NodeProcess:
        """Starts a process and returns at once. Its stdout and stderr go to the file `log` in the
        exchange directory (default NODE.NAME.log), appended to when it is there already."""
        words = [str(word) for word in argv]
        handle = next(self._handles)
        file = log or f"{self.name}.{name or pathlib.PurePath(words[0]).name}.log"
        process = NodeProcess(self, handle, words, self.exchange / file)
        self._processes[handle] = process
        try:
            process.pid = self.call("start", handle=handle, argv=words, log=str(EXCHANGE / file),
                                    env=dict(env or {}), cwd=cwd)
        except NodeError:
            del self._processes[handle]
            raise
        return process

    def read_file(self, path: str | pathlib.PurePath) -> bytes:
        return base64.b64decode(self.call("read", path=str(path)))

    def write_file(self, path: str | pathlib.PurePath, data: bytes | str, mode: int = 0o644) -> None:
        raw = data.encode() if isinstance(data, str) else data
        self.call("write", path=str(path), data=base64.b64encode(raw).decode(), mode=mode)

    def ask_socket(self, path: str | pathlib.PurePath, line: str, timeout: float = 30.0, answers: str = "") -> str:
        """Sends a line to a Unix socket in the node and returns the first line that comes back and begins with `answers`
        ("" if the other end closes before), without starting a program there, which takes an emulated processor a tenth of a
        second."""
        return str(self.call("ask_socket", timeout_s=timeout + _ANSWER_GRACE_S, path=str(path), line=line,
                             timeout=timeout, answers=answers))

    def forward(self, port: int) -> int:
        """Returns a port on the machine's 127.0.0.1 that leads to TCP `port` of the node. The
        server in the node must listen on 10.0.2.15 or on every address."""
        with self._forward_lock:
            if port not in self._forwards:
                assert self._monitor is not None, "start_boot first"
                # Port 0: QEMU binds a free one, so nobody can take it in between.
                said = self._monitor.human(f"hostfwd_add user0 tcp:127.0.0.1:0-10.0.2.15:{port}")
                found = re.search(rf"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+"
                                  rf"10\.0\.2\.15\s+{port}\s", self._monitor.human("info usernet"))
                if found is None:
                    raise NodeError(f"{self.name}: no port forward to {port}: {said}")
                self._forwards[port] = int(found.group(1))
            return self._forwards[port]

    def adjtimex(self) -> dict[str, Any]:
        """The node's kernel clock: state, status, synchronised, maxerror_us, esterror_us, tai,
        freq_scaled_ppm (with 16 fraction bits), tick_us."""
        return dict(self.call("adjtimex"))

    def clock_rate_ppm(self) -> float:
        """By how much faster than it would by itself the node's clock runs, as its kernel was told."""
        clock = self.adjtimex()
        return clock["freq_scaled_ppm"] / 65536 + (clock["tick_us"] - 10_000) * 100

    def vouch_for_clock(self, error_us: int | None = 1) -> None:
        """Somebody goes on saying, every second, that the node's clock is right to within `error_us`,
        whatever it shows; None ends that. The kernel's own claim then stands, and grows."""
        self.call("vouch_for_clock", error_us=error_us)

    def step_clock(self, seconds: float) -> None:
        """Moves the node's CLOCK_REALTIME at once; the kernel goes on claiming what it claimed before."""
        self.call("step_clock", step_us=round(seconds * 1_000_000))

    def tsc_khz(self) -> int:
        """The TSC frequency that the node's kernel settled on."""
        found = re.findall(r"tsc: (?:Refined TSC clocksource calibration: |Detected )"
                           r"(\d+)\.(\d{3}) MHz", self.run(["dmesg"]).stdout)
        if not found:
            raise self._failure("has no TSC frequency in its kernel log")
        return int("".join(found[-1]))

    def call(self, op: str, timeout_s: float = 30.0, **arguments: Any) -> Any:
        """Asks the agent in the node; see node_agent.py for the operations."""
        assert self._channel is not None, "start_boot first"
        try:
            return self._channel.call(op, timeout_s, **arguments)
        except ChannelError as error:
            if self._gone.is_set():
                raise self._failure("has gone") from error
            raise NodeError(f"{self.name}: {error}") from error

    def console_tail(self, lines: int = 30) -> str:
        text = b"".join(path.read_bytes() for path in (self._qemu_log_path, self.console_path)
                        if path.exists()).decode(errors="replace")
        return "\n".join(text.replace("\r", "").splitlines()[-lines:])

    # Inside

    def _qemu_argv(self, image: kernel.Kernel, initrd: pathlib.Path, control_fd: int,
                   monitor_fd: int) -> list[str]:
        config = self.config
        mac = f"52:54:00:7c:%02x:{config.mac_suffix:02x}"
        # readonly: the node can never change the machine. multidevs=remap: `/` may span mounts.
        share = "local,id={0},path={1},security_model=none,multidevs=remap"
        # thread=single: with a thread for each CPU, QEMU's TCG may go on running a kernel instruction that the guest has
        # patched meanwhile (a static key when the first VM appears), and the node freezes for good; seen after about 200
        # VMs made and closed, and once at the first. But with a single one a Linux that boots with several vCPUs in a
        # node's QEMU falls asleep for ever (HLT) early in its boot, so nodes for such guests take thread=multi.
        argv = [
            qemu.QEMU, "-accel", f"tcg,thread={config.tcg_thread}", "-machine", "q35", "-cpu", "max,+svm",
            "-smp", str(config.smp), "-m", str(config.memory_mb), "-nodefaults", "-no-user-config",
            "-no-reboot", "-display", "none", "-name", config.name,
            "-serial", f"file:{_escaped(self.console_path)}",
            "-chardev", f"socket,id=monitor,fd={monitor_fd}", "-mon", "chardev=monitor,mode=control",
            "-device", "virtio-serial-pci", "-chardev", f"socket,id=control,fd={control_fd}",
            "-device", "virtserialport,chardev=control,name=tsc-handoff.agent",
            "-fsdev", share.format("host", _escaped(config.root)) + ",readonly=on",
            "-device", "virtio-9p-pci,fsdev=host,mount_tag=host",
            "-fsdev", share.format("exchange", _escaped(self.exchange)),
            "-device", "virtio-9p-pci,fsdev=exchange,mount_tag=exchange",
            # restrict: nothing leaves the node except through forward().
            "-netdev", "user,id=user0,restrict=on",
            "-device", f"virtio-net-pci,netdev=user0,romfile=,mac={mac % 0}",
        ]  # fmt: skip
        if config.peer_socket is not None:
            argv += ["-netdev", f"dgram,id=peer0,local.type=fd,local.str={config.peer_socket.fileno()}",
                     # Large frames: what an emulated processor spends on a live migration is one price for each frame.
                     "-device", f"virtio-net-pci,netdev=peer0,romfile=,host_mtu=16000,mac={mac % 1}"]  # fmt: skip
        if config.shared_fd is not None:
            argv += ["-object", f"memory-backend-file,id=shared,size={config.shared_bytes},share=on,"
                     f"mem-path=/proc/self/fd/{config.shared_fd}",
                     "-device", "ivshmem-plain,memdev=shared"]  # fmt: skip
        return [*argv, *config.extra_qemu_args, "-kernel", str(image.boot_image), "-initrd", str(initrd),
                "-append", " ".join(self._kernel_args())]

    def _kernel_args(self) -> list[str]:
        return [
            "console=ttyS0", "quiet", "panic=-1",
            # Without a TSC clocksource KVM has no master clock, and TCG promises no invariant TSC.
            "tsc=reliable", "clocksource=tsc",
            # The node's TSC is the machine's minus a constant, so it has the machine's rate. What
            # the kernel measures with emulated timers differs from boot to boot (seen: 0.08 %
            # low at first, which KVM may keep, then 7 ppm low). So it is told the rate, and has
            # no PM timer (pmtmr=0) nor HPET with which to "refine" it a second later.
            f"tsc_early_khz={hosttsc.machine_tsc_khz()}", "pmtmr=0", "hpet=disable",
            # At boot the kernel checks that the timer interrupts, for a moment in which a busy machine may not have run
            # the emulator's timers, and panics when it did not.
            "no_timer_check",
            # Cost time under emulation and protect nothing here: mitigations, clearing of memory
            # at every allocation, the self-tests of the kernel's ciphers.
            "mitigations=off", "init_on_alloc=0", "cryptomgr.notests",
            *self.config.extra_kernel_args,
            "--", self.name, self.config.peer_address, *([self.config.init] if self.config.init else []),
        ]  # fmt: skip

    def _on_event(self, event: dict[str, Any]) -> None:
        if event["event"] == "ready":
            self.boot_seconds = time.monotonic() - self._started_at
            self._ready.set()
        elif event["event"] == "exit":
            process = self._processes.pop(event["handle"], None)
            if process is not None:
                process._end(event["status"])

    def _on_gone(self) -> None:
        self._gone.set()
        # A node that is gone has killed all that ran in it.
        for process in list(self._processes.values()):
            process._end(-signals.SIGKILL)

    def _failure(self, what: str) -> NodeError:
        return NodeError(f"{self.name} {what}; its console ends:\n{self.console_tail()}")


def _escaped(path: pathlib.Path) -> str:
    return str(path).replace(",", ",,")  # QEMU's options are separated by commas
