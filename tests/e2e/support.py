"""What the tests of this directory share: waiting, and what tscctl said."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..demo.lab import Lab, TscctlResult, tscctl


def wait_for(condition: Callable[[], bool], what: str, timeout: float = 30.0) -> None:
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        pause.wait(0.05)


def listed(lab: Lab, number: int) -> dict[str, dict]:
    """The VMs of node `number`'s agent (from 0), by id."""
    reply = tscctl("--agent", lab.agents[number].address, "-o", "json", "vms").json
    return {vm["vm_id"]: vm for vm in reply["vms"]}


def error_of(result: TscctlResult, status: int = 1) -> dict:
    """The error object of a refused call."""
    assert result.status == status, result
    return dict(result.error["error"])
