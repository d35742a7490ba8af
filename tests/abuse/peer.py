"""Another host's agent and an orchestrator gone bad, and whoever reaches the agent's port: states that are damaged, replayed,
foreign or absurd, handoffs of others, clocks that lie, readers that do not read, and what is no HTTP/2."""

from __future__ import annotations

import base64
import contextlib
import itertools
import os
import random
import ssl
import struct
from typing import Any

import grpc

from ..e2e.reflection_client import ReflectionClient
from ..security import http2
from .lying_agent import LIES, LyingAgent
from .states import ABSURD, MAX_UINT64, changed, seal
from .target import HELPLESS_VMS, SERVICE, Attack, Round
from .tally import reason_of

ORCHESTRATOR = "accomplice"
VM = HELPLESS_VMS + "0"
SLOW_STREAMS = 100
_numbers = itertools.count()


class Orchestrator(contextlib.AbstractContextManager["Orchestrator"]):
    """Calls both agents, and notes what each call was told."""

    def __init__(self, attack: Round) -> None:
        self.attack = attack
        self.clients: list[ReflectionClient] = [attack.target.client(ORCHESTRATOR, at) for at in (0, 1)]
        self.agent_ids = [client.call(SERVICE, "GetHostInfo", {})["host"]["agent_id"] for client in self.clients]

    def __exit__(self, *_: object) -> None:
        for client in self.clients:
            client.__exit__()

    def call(self, at: int, method: str, **request: Any) -> dict[str, Any] | None:
        try:
            answer = self.clients[at].call(SERVICE, method, request)
        except grpc.RpcError as error:
            self.attack.tally.note_error(error)
            return None
        self.attack.tally.note("served")
        return answer

    def state(self) -> dict[str, Any]:
        """Of a VM that may be had; not an attack."""
        answer: dict[str, Any] = self.clients[0].call(SERVICE, "GetTscState", {"vm_id": VM})["state"]
        return answer

    def set_state(self, state: dict[str, Any], mode: str = "ELAPSED", vm: str = VM, **more: Any) -> None:
        self.call(1, "SetTscState", vm_id=vm, state=state, mode=f"APPLY_MODE_{mode}", **more)

    def begin(self, handoff: str, destination: str | None = None) -> dict[str, Any] | None:
        return self.call(0, "GetTscState", vm_id=VM, handoff_id=handoff, destination_agent_id=destination or self.agent_ids[1],
                         destination_vm_id=VM)

    def abort(self, handoff: str) -> None:
        """On both, as it should be; not an attack."""
        aborted = self.clients[0].call(SERVICE, "AbortHandoff", {"handoff_id": handoff, "side": "SIDE_SOURCE"})["handoff"]
        self.clients[1].call(SERVICE, "AbortHandoff", {"handoff_id": handoff, "side": "SIDE_DESTINATION",
                                                       "abort_proof": aborted["abort_proof"], "ticket": aborted["ticket"]})


def _new_handoff() -> str:
    return f"hostile-{os.getpid()}-{next(_numbers)}"


def damaged_states(attack: Round) -> None:
    """Any bit; and with a seal that fits, so that the content has to be looked at."""
    with Orchestrator(attack) as orchestrator:
        whole = orchestrator.state()
        payload = base64.b64decode(whole["payload"])
        for _ in range(10):
            at = random.randrange(len(payload))
            damaged = payload[:at] + bytes([payload[at] ^ (1 << random.randrange(8))]) + payload[at + 1:]
            orchestrator.set_state({**whole, "payload": base64.b64encode(damaged).decode()})
            orchestrator.set_state(seal(damaged[:random.randrange(len(damaged))]))
        orchestrator.set_state({**whole, "format_version": 77})
        orchestrator.set_state({**whole, "crc32": 0})
        orchestrator.set_state({})


def absurd_states(attack: Round) -> None:
    with Orchestrator(attack) as orchestrator:
        whole = orchestrator.state()
        for name, change in ABSURD.items():
            state = changed(orchestrator.clients[0], whole, change)
            for mode in ("ELAPSED", "EXACT"):
                orchestrator.set_state(state, mode)
        for name in ("0", "1", str(MAX_UINT64)):
            orchestrator.set_state(whole, max_error_ns=name)
            orchestrator.set_state(whole, max_elapsed_ns=name)


def replayed_and_foreign_states(attack: Round) -> None:
    """States of a handoff that was aborted, of other agents, of a later epoch, for other VMs."""
    with Orchestrator(attack) as orchestrator:
        handoff = _new_handoff()
        begun = orchestrator.begin(handoff)
        if begun is None:
            return
        state = begun["state"]
        client = orchestrator.clients[0]

        def ticket(**fields: Any) -> dict[str, Any]:
            return changed(client, state, lambda payload: [setattr(payload.handoff, field, value)
                                                           for field, value in fields.items()])

        for forged in (ticket(destination_agent_id=b"x" * 16), ticket(epoch=0), ticket(epoch=MAX_UINT64),
                       ticket(source_agent_id=b"y" * 16, destination_agent_id=b"z" * 16), ticket(handoff_id="../" * 30)):
            orchestrator.set_state(forged)
        orchestrator.set_state(state, vm=attack.target.honest_vm)
        orchestrator.set_state(state, vm=HELPLESS_VMS + "1")
        orchestrator.set_state(state)
        orchestrator.set_state(state, mode="EXACT")
        orchestrator.set_state(ticket(epoch=MAX_UINT64 - 1))
        orchestrator.call(1, "CommitHandoff", handoff_id=handoff, side="SIDE_DESTINATION",
                          release_proof=base64.b64encode(b"p" * 16).decode())
        orchestrator.abort(handoff)
        orchestrator.set_state(state)
        orchestrator.begin(handoff)
        elsewhere = _new_handoff()
        if orchestrator.begin(elsewhere, base64.b64encode(b"nobody's-agent-i").decode()) is not None:
            client.call(SERVICE, "AbortHandoff", {"handoff_id": elsewhere, "side": "SIDE_SOURCE"})


def handoffs_of_others(attack: Round) -> None:
    """Their ids taken again, their handoffs committed and aborted, their VMs read."""
    target = attack.target
    with Orchestrator(attack) as orchestrator:
        orchestrator.begin(target.past_handoff)
        for at, side in itertools.product((0, 1), ("SIDE_SOURCE", "SIDE_DESTINATION")):
            for method, proof in (("CommitHandoff", "release_proof"), ("AbortHandoff", "abort_proof")):
                orchestrator.call(at, method, handoff_id=target.past_handoff, side=side,
                                  **{proof: base64.b64encode(b"q" * 16).decode()})
            orchestrator.call(at, "GetHandoff", handoff_id=target.past_handoff)
            orchestrator.call(at, "GetTscState", vm_id=target.honest_vm)
            orchestrator.call(at, "ReclaimVm", vm_id=VM, handoff_id=target.past_handoff, runs_nowhere_else=True)
        orchestrator.call(0, "Drain", mode="MODE_DRAIN")
        orchestrator.call(0, "Reload")


def strangers(attack: Round) -> None:
    """No certificate, another authority's, one that nobody is bound to; no TLS at all."""
    for who in (None, "stranger"):
        try:
            with attack.target.connect_tls(who) as connection:
                connection.sendall(http2.PREFACE)
                attack.tally.note("closed" if connection.recv(1) == b"" else "served")
        except (ssl.SSLError, OSError) as error:
            attack.tally.note(f"TLS: {getattr(error, 'reason', None) or type(error).__name__}")
    with attack.target.channel("nobody") as channel:
        for method in ("GetHostInfo", "ListVms", "ProbeClock", "GetTscState", "Drain"):
            try:
                channel.unary_unary(f"/{SERVICE}/{method}")(b"", timeout=5)
                attack.tally.note("served")
            except grpc.RpcError as error:
                attack.tally.note_error(error)
    for greeting in (http2.PREFACE + http2.call(1, f"/{SERVICE}/GetHostInfo"), b"GET / HTTP/1.1\r\n\r\n", os.urandom(4096)):
        with attack.target.connect() as connection:
            connection.sendall(greeting)
            attack.tally.note(_silence(connection))


def _silence(connection: Any) -> str:
    """What comes of a connection that has no right to anything."""
    answers = [frame.kind for frame in http2.frames(connection, 2)]
    return "served" if http2.HEADERS in answers else "GOAWAY" if http2.GOAWAY in answers else "closed"


def no_http2(attack: Round) -> None:
    """Within TLS, from a caller who may call."""
    settings = http2.settings()
    call = http2.call(1, f"/{SERVICE}/GetHostInfo")
    garbage = {
        "no preface": os.urandom(1000),
        "bytes": http2.PREFACE + os.urandom(20_000),
        "a frame of 16 MiB": http2.PREFACE + settings + b"\xff\xff\xff" + struct.pack(">BBI", http2.DATA, 0, 1) + b"x" * 50_000,
        "DATA of no stream": http2.PREFACE + settings + http2.frame(http2.DATA, 0, 0, b"x"),
        "DATA of an idle stream": http2.PREFACE + settings + http2.frame(http2.DATA, 0, 99, b"x"),
        "CONTINUATION of nothing": http2.PREFACE + settings + http2.frame(http2.CONTINUATION, 4, 1, b"x"),
        "HEADERS without end": http2.PREFACE + settings + http2.frame(http2.HEADERS, 0, 1, b"") + call,
        "HPACK that cannot be": http2.PREFACE + settings + http2.frame(http2.HEADERS, 5, 1, b"\xff" * 200),
        "a table of 4 GiB": http2.PREFACE + settings + http2.frame(http2.HEADERS, 5, 1, b"\x3f\xe1\xff\xff\xff\x0f"),
        "SETTINGS that cannot be": http2.PREFACE + http2.settings((http2.INITIAL_WINDOW_SIZE, 1 << 31)),
        "a window that overflows": http2.PREFACE + settings + http2.frame(http2.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 2,
        "PINGs": http2.PREFACE + settings + http2.frame(http2.PING, 0, 0, b"\0" * 8) * 2000,
        "SETTINGS": http2.PREFACE + settings * 2000,
        "calls that are reset": http2.PREFACE + settings + b"".join(
            http2.call(2 * i + 1, f"/{SERVICE}/GetHostInfo")
            + http2.frame(http2.RST_STREAM, 0, 2 * i + 1, b"\0\0\0\x08") for i in range(500)),
    }
    for sent in garbage.values():
        with contextlib.suppress(ssl.SSLError), attack.target.connect_tls("viewer") as connection:
            with contextlib.suppress(OSError):
                connection.sendall(sent)
            kinds = [frame.kind for frame in http2.frames(connection, 0.3)]
            attack.tally.note("GOAWAY" if http2.GOAWAY in kinds else f"{len(kinds) > 100 and 'many' or 'few'} frames")


def slow_readers(attack: Round) -> None:
    """Streams of answers whose reader takes nothing: his window is 0."""
    with attack.target.connect_tls("viewer") as connection:
        connection.sendall(http2.PREFACE + http2.settings((http2.INITIAL_WINDOW_SIZE, 0)))
        for i in range(SLOW_STREAMS):
            connection.sendall(http2.call(2 * i + 1, f"/{SERVICE}/WatchHandoffs"))
        ended = sum(frame.kind == http2.RST_STREAM for frame in http2.frames(connection, 3))
        attack.tally.note("ended by the agent", ended)
        attack.tally.note("left waiting", SLOW_STREAMS - ended)


def lying_clocks(attack: Round) -> None:
    """An orchestrator has the agent probe an agent that has a certificate, and lies."""
    with Orchestrator(attack) as orchestrator, \
            LyingAgent(orchestrator.clients[0], attack.target.files["peer"]) as liar:
        for _ in LIES:
            liar.next_lie()
            compare(orchestrator, attack, liar.address)
        liar.silent = True
        compare(orchestrator, attack, liar.address)
        for address in ("127.0.0.1:1", "unix:/etc/passwd", "x" * 300 + ":1", attack.target.unix_sockets[0]):
            compare(orchestrator, attack, address)


def compare(orchestrator: Orchestrator, attack: Round, address: str) -> None:
    try:
        answer = orchestrator.clients[0].call(SERVICE, "CompareClocks", {"peer": address})
        attack.tally.note(str(answer.get("verdict", "no verdict")))
    except grpc.RpcError as error:
        attack.tally.note(reason_of(error))


ATTACKS: list[Attack] = [damaged_states, absurd_states, replayed_and_foreign_states, handoffs_of_others, strangers, no_http2,
                         slow_readers, lying_clocks]
