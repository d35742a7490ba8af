"""A QEMU process that cannot outlive this one, and a line to its monitor. Thread-safe."""

from __future__ import annotations

import json
import os
import queue
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import IO, Any

QEMU = "qemu-system-x86_64"

_spawn_queue: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
_spawner: threading.Thread | None = None
_spawner_lock = threading.Lock()


class QemuError(RuntimeError):
    """QEMU cannot be started, or its monitor refused something."""


def _spawner_loop() -> None:
    while True:
        function, future = _spawn_queue.get()
        try:
            future.set_result(function())
        except BaseException as error:  # handed to the caller's thread
            future.set_exception(error)


def mortal(argv: Sequence[str], parent_pid: int) -> list[str]:
    """The command that becomes `argv`, and that the kernel kills when the thread that started it ends. That thread's
    process may be gone before the signal is set, which nobody would tell; then it does not become anything."""
    check = '[ "$PPID" = "$0" ] && exec "$@"'
    return ["setpriv", "--pdeathsig", "KILL", "sh", "-c", check, str(parent_pid), *argv]


def spawn(argv: Sequence[str], *, pass_fds: Sequence[int],
          output: IO[bytes]) -> subprocess.Popen[bytes]:
    """Starts a process that the kernel kills when this Python process ends, however it ends.

    The death signal comes when the *thread* that started the child ends, so all are started by one
    thread that lasts as long as the process.
    """
    global _spawner
    for tool in ("setpriv", argv[0]):
        if shutil.which(tool) is None:
            raise QemuError(f"{tool} is missing: apt-get install util-linux qemu-system-x86 seabios")
    with _spawner_lock:
        if _spawner is None:
            _spawner = threading.Thread(target=_spawner_loop, name="qemu-spawner", daemon=True)
            _spawner.start()
    future: Future[subprocess.Popen[bytes]] = Future()
    # Its own session: Ctrl-C at the terminal reaches Python, which then ends the nodes in order.
    _spawn_queue.put((
        lambda: subprocess.Popen(mortal(argv, os.getpid()),
                                 stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                 pass_fds=tuple(pass_fds), start_new_session=True),
        future,
    ))
    return future.result()


class Monitor:
    """QMP over an already connected socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sock.settimeout(20)
        self._lines = sock.makefile("rb")
        self._lock = threading.Lock()
        self._greeted = False  # guarded by _lock

    def execute(self, command: str, **arguments: Any) -> Any:
        with self._lock:
            if not self._greeted:
                self._receive("QMP")
                self._send({"execute": "qmp_capabilities"})
                self._receive("return")
                self._greeted = True
            self._send({"execute": command, "arguments": arguments})
            return self._receive("return")

    def human(self, line: str) -> str:
        """Runs a command of the human monitor and returns what it printed."""
        return str(self.execute("human-monitor-command", **{"command-line": line}))

    def close(self) -> None:
        self._lines.close()
        self._sock.close()

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._sock.sendall(json.dumps(message).encode())
        except OSError as error:
            raise QemuError(f"QEMU's monitor has gone: {error}") from error

    def _receive(self, key: str) -> Any:
        """The value of `key` in the next message that has it; events in between are not wanted."""
        while True:
            try:
                line = self._lines.readline()
            except OSError as error:
                raise QemuError(f"QEMU's monitor does not answer: {error}") from error
            if not line:
                raise QemuError("QEMU's monitor has gone")
            message = json.loads(line)
            if "error" in message:
                raise QemuError(f"QEMU: {message['error'].get('desc', message['error'])}")
            if key in message:
                return message[key]
