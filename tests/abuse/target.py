"""What attackers know of the agents that they attack, and how they reach them."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import ssl
import socket
import threading
from collections.abc import Callable, Sequence

import grpc

from ..e2e.reflection_client import ReflectionClient
from ..programs.certificates import TlsFiles
from ..programs.lab_tls import channel_credentials
from .tally import Tally

SERVICE = "tschandoff.v1.TscAgent"
# Of attackers on the host: a user of his own, who may register VMs of these names and nothing else.
HOSTILE_USER = 47_114
HOSTILE_VMS = "hostile-"
# These are there on both hosts, with VMMs that behave.
HELPLESS_VMS = HOSTILE_VMS + "t-"
PATIENCE_S = 10.0


@dataclasses.dataclass(frozen=True)
class Target:
    """Two agents; what stands first is what most attacks are at. `files`: certificates by who has them."""

    addresses: Sequence[str]
    unix_sockets: Sequence[str]
    vmm_sockets: Sequence[str]
    files: dict[str, TlsFiles]
    past_handoff: str  # an id that an honest orchestrator has used
    honest_vm: str

    def write(self, path: pathlib.Path) -> None:
        path.write_text(json.dumps(dataclasses.asdict(self), default=str))

    @classmethod
    def read(cls, path: pathlib.Path) -> Target:
        fields = json.loads(path.read_text())
        fields["files"] = {who: TlsFiles(*(pathlib.Path(file) for file in files.values()))
                           for who, files in fields["files"].items()}
        return cls(**fields)

    def channel(self, who: str, at: int = 0) -> grpc.Channel:
        """A connection of its own."""
        return grpc.secure_channel(self.addresses[at], channel_credentials(self.files[who]),
                                   options=[("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)])

    def client(self, who: str, at: int = 0) -> ReflectionClient:
        return ReflectionClient(self.addresses[at], self.channel(who, at))

    def connect(self, at: int = 0) -> socket.socket:
        """TCP alone."""
        host, _, port = self.addresses[at].rpartition(":")
        return socket.create_connection((host, int(port)), PATIENCE_S)

    def connect_tls(self, who: str | None, at: int = 0) -> ssl.SSLSocket:
        """TLS of its own, to speak over it what one likes. `who` is None for nobody."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(next(iter(self.files.values())).ca)
        context.set_alpn_protocols(["h2"])
        if who is not None:
            context.load_cert_chain(self.files[who].cert, self.files[who].key)
        plain = self.connect(at)
        try:
            return context.wrap_socket(plain)
        except BaseException:
            plain.close()
            raise


@dataclasses.dataclass(frozen=True)
class Round:
    """What an attack gets for one round of itself; it ends early when `stop` is set."""

    target: Target
    tally: Tally
    stop: threading.Event


Attack = Callable[[Round], None]
