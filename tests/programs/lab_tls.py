"""The lab's certificates: those of the agents in the nodes, and of whoever calls them from this machine.

They are made once for a process. Addresses at which agents speak TLS are noted here, so that callers need not know which
of them are agents in nodes and which are simulated ones on loopback.
"""

from __future__ import annotations

import functools
import os
import pathlib
import tempfile
from collections.abc import Sequence

import grpc

from .certificates import Authority, TlsFiles

# 10.0.2.15 is behind this machine's port forward, the others are the nodes' own network.
AGENT_NAMES = ("URI:spiffe://lab.example.org/agent,DNS:tsc-agent.lab.example.org,IP:127.0.0.1,IP:10.0.2.15,"
               "IP:10.77.0.1,IP:10.77.0.2")
_addresses: set[str] = set()


class LabTls:
    """Removed with the process."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="lab-tls")
        self.authority = Authority(pathlib.Path(self._directory.name) / "authority")
        self.agent = self.authority.issue("agent", AGENT_NAMES)
        self.caller = self.authority.issue("orchestrator", "URI:spiffe://lab.example.org/orchestrator", usage="clientAuth")


@functools.cache
def lab_tls() -> LabTls:
    return LabTls()


def speaks_tls(address: str) -> None:
    """Notes that an agent of the lab is at this address."""
    _addresses.add(address)


def environment_for(arguments: Sequence[str]) -> dict[str, str] | None:
    """This process' environment, with certificates where `arguments`, tscctl's, name an agent that wants one."""
    if _addresses.isdisjoint(arguments):
        return None
    return {**os.environ, **lab_tls().caller.environment()}


def open_channel(address: str) -> grpc.Channel:
    if address not in _addresses:
        return grpc.insecure_channel(address)
    return grpc.secure_channel(address, channel_credentials(lab_tls().caller))


def channel_credentials(files: TlsFiles) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(files.ca.read_bytes(), files.key.read_bytes(), files.cert.read_bytes())
