"""A terminal of a known size with a shell in it, by tmux: keys go in, and what is on the screen comes out."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path

from ..programs import LabError

PATIENCE_S = 60.0
LOOK_AGAIN_S = 0.05


class Tmux:
    """A tmux server of its own with one window, without anybody's settings. Not thread-safe.

    `directory` is for a test's files, and goes with it.
    """

    def __init__(self, width: int, height: int, **environment: str) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="tsc-tmux.", dir="/tmp")
        self.directory = Path(self._directory.name)
        self._socket = self.directory / "socket"
        clean = {name: value for name, value in os.environ.items() if name not in ("TMUX", "NO_COLOR", "TSC_AGENT")}
        self._environment = {**clean, "LC_ALL": "C.UTF-8", **environment}
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height), "/bin/sh")
        # Escape is a key of its own here, not the beginning of one.
        self._tmux("set-option", "-s", "escape-time", "0")
        self.wait("the shell's prompt", lambda screen: screen.strip() in ("$", "#"))

    def __enter__(self) -> Tmux:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: types.TracebackType | None) -> None:
        if kind is not None and self.is_there():
            print(f"the screen at the end:\n{self.screen()}")
        self._tmux("kill-server", check=False)
        self._directory.cleanup()

    def _tmux(self, *arguments: str, check: bool = True) -> str:
        # -u: tmux itself knows UTF-8, whatever the shell's locale is.
        done = subprocess.run(["tmux", "-u", "-S", str(self._socket), *arguments], capture_output=True, text=True,
                              env=self._environment, timeout=30)
        if check and done.returncode != 0:
            raise LabError(f"tmux {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def is_there(self) -> bool:
        return subprocess.run(["tmux", "-S", str(self._socket), "has-session"], capture_output=True).returncode == 0

    def type(self, text: str) -> None:
        self._tmux("send-keys", "-l", text)

    def press(self, *keys: str) -> None:
        """By tmux's names: Tab, BTab, Enter, Escape, Up, Down, C-c."""
        self._tmux("send-keys", *keys)

    def resize(self, width: int, height: int) -> None:
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    def screen(self, *, looks: bool = False) -> str:
        """With `looks` colours and the like are there as escape sequences."""
        return self._tmux("capture-pane", "-p", *(["-e"] if looks else []))

    def lines(self) -> list[str]:
        return self.screen().splitlines()

    def tell(self, what: str) -> str:
        """A tmux variable, for example alternate_on or cursor_flag."""
        return self._tmux("display-message", "-p", f"#{{{what}}}").strip()

    def wait(self, what: str, condition: Callable[[str], bool]) -> str:
        """The first screen that is so."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition(screen := self.screen()):
            if time.monotonic() > deadline:
                raise LabError(f"not within {PATIENCE_S:.0f} s: {what}; the screen is:\n{screen}")
            time.sleep(LOOK_AGAIN_S)
        return screen

    def wait_for(self, *texts: str) -> str:
        return self.wait(f"{texts} on the screen", lambda screen: all(text in screen for text in texts))

    def wait_gone(self, *texts: str) -> str:
        return self.wait(f"{texts} off the screen", lambda screen: not any(text in screen for text in texts))
