"""What the tests here do with simulated agents."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

from ..e2e.reflection_client import ReflectionClient
from ..programs import LabError, SimAgent, binary

# A handoff that nobody goes on with is undecided so soon.
UNDECIDED_MS = 300


def tscctl() -> str:
    return str(binary("client/tscctl/tscctl"))


def run_tscctl(*arguments: str) -> str:
    done = subprocess.run([tscctl(), *arguments], capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise LabError(f"tscctl {' '.join(arguments)}: {done.stderr}")
    return done.stdout


def host_info(address: str) -> dict[str, Any]:
    return dict(json.loads(run_tscctl("--agent", address, "-o", "json", "host"))["host"])


def begin_handoff(handoff_id: str, vm: str, source: str, destination: str) -> None:
    """Captures, and leaves it at that, as an orchestrator that died."""
    with ReflectionClient(source) as client:
        client.call("tschandoff.v1.TscAgent", "GetTscState", {
            "vm_id": vm,
            "handoff_id": handoff_id,
            "destination_agent_id": host_info(destination)["agent_id"],
            "destination_vm_id": vm,
        })


def look_at_vm(address: str, vm: str) -> None:
    """Has its agent see whether it runs."""
    with ReflectionClient(address) as client:
        client.call("tschandoff.v1.TscAgent", "GetVm", {"vm_id": vm})


def start_host(directory: Path, name: str, port: int = 0) -> SimAgent:
    """An agent that keeps its journal, so that it can be killed and started again at the same port."""
    word = f"vmx:2100000:scaling:name={name}:journal={directory / name}.db:port={port}:undecided_ms={UNDECIDED_MS}"
    return SimAgent("--host", word)


def port_of(agent: SimAgent) -> int:
    return int(agent.addresses[0].rpartition(":")[2])


def agent_id_hex(address: str) -> str:
    return base64.b64decode(host_info(address)["agent_id"]).hex()
