"""Drives a sim_agent process; the protocol stands in tests/sim_agent/control.h. Not thread-safe."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import types
from typing import Any

from .built import LabError, binary

PROGRAM = "tests/sim_agent/sim_agent"
ANSWER_TIMEOUT_S = 120.0


class SimAgent:
    """Ends with the `with` block, as sim_agent does at the end of its stdin. `ready` is its first line."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen([binary(PROGRAM), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         text=True, bufsize=1)
        self._killed = False
        self.ready = self._answer()

    def kill(self) -> None:
        """Ends it by SIGKILL, as a crash does. It is of no more use then, and that it ended so is no error."""
        self._killed = True
        self._process.kill()
        self.close()

    def terminate(self) -> None:
        """Asks an agent of its own (--role agent) to drain and stop, as a supervisor does."""
        self._process.terminate()

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self, timeout: float) -> int:
        """The exit status."""
        return self._process.wait(timeout)

    def close(self) -> None:
        """Ends it as the end of a `with` block does; LabError if it failed."""
        status = self._end()
        if status != 0 and not self._killed:
            raise LabError(f"sim_agent ended with status {status}; what it wrote stands above")

    def _end(self) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            status = self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._process.stdout.close()
        return status

    @property
    def addresses(self) -> list[str]:
        return [host["address"] for host in self.ready["hosts"]]

    def __enter__(self) -> SimAgent:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: types.TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self._end()

    def request(self, cmd: str, **fields: Any) -> dict[str, Any]:
        """Carries a command out and returns its answer; LabError with its sentence when it is refused."""
        assert self._process.stdin is not None
        print(json.dumps({"cmd": cmd, **fields}), file=self._process.stdin, flush=True)
        answer = self._answer()
        if not answer["ok"]:
            raise LabError(f"sim_agent: {cmd}: {answer['error']}")
        return answer

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        watchdog = threading.Timer(ANSWER_TIMEOUT_S, self._process.kill)
        watchdog.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watchdog.cancel()
        if not line:
            raise LabError(f"sim_agent ended or said nothing for {ANSWER_TIMEOUT_S:.0f} s; what it wrote stands above")
        return dict(json.loads(line))
