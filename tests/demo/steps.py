"""Shows the steps of a long run while they happen, and keeps how long each took."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from .evidence import Step


class Steps:
    def __init__(self) -> None:
        self.done: list[Step] = []

    @contextlib.contextmanager
    def step(self, name: str, what: str) -> Iterator[None]:
        """`name` goes into the report, `what` is shown now, on stderr."""
        tty = sys.stderr.isatty()
        print(f"  {what} ...", end="" if tty else "\n", file=sys.stderr, flush=True)
        started = time.monotonic()
        yield
        self.done.append(Step(name, time.monotonic() - started))
        print(f"{'' if tty else f'  {what}:'} {self.done[-1].seconds:.1f} s", file=sys.stderr, flush=True)
