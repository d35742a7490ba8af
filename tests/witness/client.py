"""The witness VM's control socket, on this machine or inside a node of the cluster.

WitnessControl sends one request at a time through a callable, so that it does not matter where the witness runs;
start_witness starts one in a node and returns the process with its control.

Not thread-safe: one thread per WitnessControl.
"""

from __future__ import annotations

import json
import os
import pathlib
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

Send = Callable[[str], str]
_PROJECT = pathlib.Path(__file__).resolve().parent.parent.parent
_REPLY_TIMEOUT_S = 40.0  # the witness itself gives up after 10 s; nodes are slow


class WitnessError(RuntimeError):
    """The witness refused a request, or cannot be reached."""


class Node(Protocol):
    """What this module needs of cluster.Node."""

    name: str

    def run(self, argv: Sequence[str | pathlib.PurePath], timeout: float = ...,
            check: bool = ...) -> Any: ...

    def start(self, argv: Sequence[str | pathlib.PurePath], name: str | None = ...) -> Any: ...


@dataclass(frozen=True)
class Verdict:
    """The guest's own view of its time. `vcpus` has one record per vCPU, as the control socket gives it."""

    iterations_total: int
    iterations_least: int
    backward_steps: int
    backward_largest_ticks: int
    forward_largest_ticks: int
    warps: int
    warp_largest_ticks: int
    check_across: bool
    vcpus: list[dict[str, Any]]

    @property
    def content(self) -> bool:
        """Every vCPU ran, and none saw time go back."""
        return self.iterations_least > 0 and self.backward_steps == 0 and self.warps == 0


class WitnessControl:
    def __init__(self, target: str | pathlib.Path | Send) -> None:
        """`target` is the control socket's path on this machine, or a callable that carries one request line to the
        witness and returns the reply line."""
        self._send: Send = target if callable(target) else _socket_sender(target)

    @classmethod
    def in_node(cls, node: Node, binary: str | pathlib.PurePath, socket_path: str) -> WitnessControl:
        """Reaches a witness in a node by `witness ctl`, run there."""

        def send(request: str) -> str:
            done = node.run([binary, "ctl", "--control", socket_path, request], timeout=_REPLY_TIMEOUT_S,
                            check=False)
            if not done.stdout:
                raise WitnessError(f"{node.name}: {done.stderr.strip() or 'witness ctl said nothing'}")
            return str(done.stdout)

        return cls(send)

    def request(self, cmd: str, **fields: Any) -> dict[str, Any]:
        """Any command with its fields; the reply, or WitnessError with its sentence."""
        reply = json.loads(self._send(json.dumps({"cmd": cmd, **fields})))
        if reply.get("ok") is not True:
            raise WitnessError(f"{cmd}: {reply.get('error', reply)}")
        return dict(reply)

    def status(self) -> dict[str, Any]:
        return self.request("status")

    def pause(self) -> None:
        self.request("pause")

    def resume(self) -> None:
        """WitnessError, and the VM stays paused, where the agent does not let it run."""
        self.request("resume")

    def wait_permit(self, timeout: float = 30.0) -> None:
        """Returns when the agent lets the VM run here, so that resume() is not refused for want of a permit."""
        why = ""

        def may_run() -> bool:
            nonlocal why
            status = self.status()
            why = status.get("permit", "")
            return bool(status["may_run"])

        try:
            self._wait(may_run, "a permit to run", timeout)
        except WitnessError as error:
            raise WitnessError(f"{error}: {why}") from None

    def save(self, path: str | pathlib.PurePath) -> None:
        self.request("save", path=str(path))

    def load(self, path: str | pathlib.PurePath) -> None:
        self.request("load", path=str(path))

    def offsets(self) -> dict[str, Any]:
        """The TSCs straight from the kernel; offsets from debugfs alone while the VM runs."""
        return self.request("offsets")

    def check_across(self, on: bool) -> None:
        """Whether the guest compares across vCPUs; off before phases change on purpose (equalise)."""
        self.request("check_across", on=on)

    def disturb(self, vcpu: int, ticks: int) -> None:
        """Moves one vCPU's TSC: the negative control, which the guest must notice."""
        self.request("disturb", vcpu=vcpu, ticks=ticks)

    def quit(self) -> None:
        self.request("quit")

    def verdict(self) -> Verdict:
        reply = self.request("verdict")
        return Verdict(**{name: reply[name] for name in Verdict.__dataclass_fields__})

    def wait_rounds(self, rounds: int, timeout: float = 60.0) -> None:
        """Returns when every vCPU has gone round `rounds` times more and read TSC_ADJUST again."""
        before = {vcpu["id"]: vcpu for vcpu in self.status()["vcpus"]}

        def done() -> bool:
            return all(vcpu["iterations"] >= before[vcpu["id"]]["iterations"] + rounds
                       and vcpu["adjust_reads"] > before[vcpu["id"]]["adjust_reads"]
                       for vcpu in self.status()["vcpus"])

        self._wait(done, f"{rounds} rounds of every vCPU", timeout)

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Returns when the witness answers and the agent, where it has one, has accepted the VM."""

        def ready() -> bool:
            try:
                status = self.status()
            except WitnessError:
                return False
            return status["registered"] or status.get("registration") == "started without an agent"

        self._wait(ready, "a witness that answers and is registered", timeout)

    @staticmethod
    def _wait(condition: Callable[[], bool], what: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        pause = threading.Event()
        while not condition():
            if time.monotonic() > deadline:
                raise WitnessError(f"not within {timeout:.1f} s: {what}")
            pause.wait(0.05)


class WitnessProcess(NamedTuple):
    process: Any  # cluster.NodeProcess
    control: WitnessControl


def start_witness(node: Node, vm_id: str, *, vcpus: int, agent_socket: str, arguments: Sequence[str] = (),
                  binary: str | pathlib.PurePath | None = None, timeout: float = 30.0) -> WitnessProcess:
    """Starts a witness in a node and waits until it is registered. `arguments` are more options of the program, for
    example ["--phase-spread", "50000"] or ["--incoming"]."""
    program = binary or witness_binary()
    control_path = f"/run/witness-{vm_id}.sock"
    process = node.start([program, "--vm-id", vm_id, "--vcpus", str(vcpus), "--agent-socket", agent_socket,
                          "--control", control_path, *arguments], name=f"witness-{vm_id}")
    control = WitnessControl.in_node(node, program, control_path)
    deadline = time.monotonic() + timeout
    while True:
        try:
            control.wait_ready(timeout=0.5)
            return WitnessProcess(process, control)
        except WitnessError as error:
            if process.poll() is not None:
                raise WitnessError(f"{node.name}: the witness ended with {process.poll()}: "
                                   f"{process.log_tail()}") from error
            if time.monotonic() > deadline:
                raise WitnessError(f"{node.name}: {error}; its log ends: {process.log_tail()}") from error


def witness_binary() -> pathlib.Path:
    """$WITNESS_BIN, or what Bazel built (below $TSC_BAZEL_BIN, which ./run sets)."""
    named = os.environ.get("WITNESS_BIN")
    if named:
        return pathlib.Path(named).resolve()
    built = pathlib.Path(os.environ.get("TSC_BAZEL_BIN", _PROJECT / "bazel-bin")) / "tests/witness/witness"
    if not built.is_file():
        built = pathlib.Path(subprocess.run(["bazel", "info", "bazel-bin"], cwd=_PROJECT, check=True, text=True,
                                            capture_output=True).stdout.strip()) / "tests/witness/witness"
    if not built.is_file():
        raise WitnessError("the witness is not built: run ./run build")
    return built.resolve()


def _socket_sender(path: str | pathlib.Path) -> Send:
    def send(request: str) -> str:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(_REPLY_TIMEOUT_S)
                connection.connect(str(path))
                connection.sendall(request.encode() + b"\n")
                with connection.makefile("r") as reply:
                    return reply.readline()
        except OSError as error:
            raise WitnessError(f"no witness at {path}: {error}") from error

    return send
