"""`tscctl evacuate` before a person: what it shows goes to a terminal of its own, and Ctrl-C is typed there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
import types

from ..programs import LabError
from .hosts import PATIENCE_S, VMS, Host, evacuate_command


class OnTerminal:
    """stderr is the terminal, stdout a pipe. Not thread-safe."""

    def __init__(self, source: Host, destination: Host, *more: str) -> None:
        self._master, slave = pty.openpty()
        self._shown = b""

        def take_terminal() -> None:
            # Ctrl-C goes to the terminal's own processes, and a program started in the background may ignore it.
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGINT, signal.SIG_DFL)

        self._process = subprocess.Popen(
            evacuate_command(source, destination, *more), stdin=slave, stdout=subprocess.PIPE, stderr=slave,
            start_new_session=True, preexec_fn=take_terminal)
        os.close(slave)

    def __enter__(self) -> OnTerminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: types.TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        os.close(self._master)

    def _read(self, deadline: float) -> bool:
        """Takes in what is shown next; false at its end."""
        if not select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise LabError(f"tscctl shows nothing more; so far: {self._shown!r}")
        try:
            self._shown += os.read(self._master, 65536)
        except OSError:  # nobody holds the other end any more
            return False
        return True

    def wait_until_it_moves(self) -> None:
        self.wait_for(rf"\r\x1b\[K\[#*\.*\] [1-9]\d*/{VMS}")

    def wait_until_it_stands_still(self) -> None:
        """The bar is drawn again, and nothing has moved."""
        self.wait_for(rf"\] (\d+)/{VMS} [^\r]*\r\x1b\[K\[#*\.*\] \1/", since=len(self._shown))

    def wait_for(self, pattern: str, *, since: int = 0) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not re.search(pattern, self._shown[since:].decode()):
            if not self._read(deadline):
                raise LabError(f"tscctl ended; it showed {self._shown!r}")

    def press_ctrl_c(self) -> None:
        os.write(self._master, b"\x03")

    def finish(self) -> tuple[int, str, str]:
        """Waits for its end. Status, stdout, and all that the terminal was shown."""
        deadline = time.monotonic() + PATIENCE_S
        while self._read(deadline):
            pass
        out, _ = self._process.communicate(timeout=PATIENCE_S)
        return self._process.returncode, out.decode(), self._shown.decode().replace("\r\n", "\n")
