"""What an operator does to agents that serve: other settings, another policy, a faulty one, a rotated log, new certificates."""

from __future__ import annotations

import hashlib
import itertools
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ..durable.hosts import wait_until
from ..durable.rounds import Evacuation, Kill, Pair
from ..programs.lab_tls import AGENT_NAMES, lab_tls
from ..security.agent import tscctl
from .arena import MAX_REQUEST_RATE, POLICY, Arena
from .target import Target

_numbers = itertools.count()


def reload(arena: Arena) -> None:
    """Settings and policy to and fro, with a faulty policy in between, and the audit's file is moved away."""
    number = next(_numbers)
    for host in (0, 1):
        address = f"unix:{arena.directory(host)}/agent.sock"
        audit = arena.directory(host) / "audit.log"
        audit.unlink()
        rate = MAX_REQUEST_RATE + 1 + number
        arena.write_config(host, **{"max-request-rate": str(rate)})
        arena.write_policy(host, POLICY + f"  - role: viewer\n    users: [{1000 + number}]\n")
        changed = tscctl("--agent", address, "reload").json["changed"]
        assert f"max-request-rate: {rate}" in changed, changed
        assert audit.exists(), "it is opened anew"
        arena.write_policy(host, POLICY + "  - role: boss\n")
        refused = tscctl("--agent", address, "reload")
        assert refused.status == 1 and refused.error["error"]["reason"] == "CONFIG_INVALID", refused
        arena.write_policy(host, POLICY)
        assert tscctl("--agent", address, "reload").status == 0


def rotate_certificates(arena: Arena, target: Target) -> None:
    for host in (0, 1):
        files = lab_tls().authority.issue(f"agent-{host}-{next(_numbers)}", AGENT_NAMES)
        arena.tls_files(host).replace_by(files)
        wanted = hashlib.sha256(ssl.PEM_cert_to_DER_cert(files.cert.read_text())).digest()

        def is_served(host: int = host, wanted: bytes = wanted) -> bool:
            with target.connect_tls("viewer", host) as connection:
                return hashlib.sha256(connection.getpeercert(binary_form=True) or b"").digest() == wanted

        wait_until("the new certificate is in use", is_served)


class Change(Kill):
    """A change amid an evacuation, which it does not disturb."""

    def __init__(self, what: str, after_s: float, change: Callable[[], None]) -> None:
        super().__init__(what, after_s, at_source=False, group=0)
        self._change = change

    def strike(self, pair: Pair, evacuation: Evacuation, supervisor: ThreadPoolExecutor) -> None:
        self.replaced = supervisor.submit(self._change)

    def __str__(self) -> str:
        return f"{self.victim} after {self.after_s:.3f} s"
