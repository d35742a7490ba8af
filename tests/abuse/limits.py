"""Goes over the limits of the callers' API, as callers who may call: size of a message, of metadata, streams of a connection,
connections of a user, requests a second, handshakes that are not ended."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time

import grpc

from ..security import http2
from .target import PATIENCE_S, SERVICE, Attack, Round

WHO = "viewer"
# More than the agent takes: 512 KiB, 16 KiB, 64 streams; see server/agent/serving_limits.h.
MESSAGE_BYTES = 1 << 20
METADATA_BYTES = 64 << 10
STREAMS = 300
# More, and fewer, than the connections of a peer that tests/abuse/arena.py permits.
CONNECTIONS = 300
HANDSHAKES = 80
# Of a rate that tests/abuse/arena.py sets.
REQUESTS = 3000


def too_big_messages(attack: Round) -> None:
    with attack.target.channel(WHO) as channel:
        for method in ("GetHostInfo", "GetVm"):
            try:
                channel.unary_unary(f"/{SERVICE}/{method}")(b"\xff" * MESSAGE_BYTES, timeout=PATIENCE_S)
                attack.tally.note("served")
            except grpc.RpcError as error:
                attack.tally.note_error(error)


def too_much_metadata(attack: Round) -> None:
    """By hand: a gRPC client would not send what it was told is too much."""
    block = http2.request_headers(f"/{SERVICE}/GetHostInfo") + b"".join(
        http2.header(b"x-%d" % i, b"y" * 1000) for i in range(METADATA_BYTES // 1000))
    parts = [block[i:i + http2.LARGEST_FRAME] for i in range(0, len(block), http2.LARGEST_FRAME)]
    with attack.target.connect_tls(WHO) as connection:
        connection.sendall(http2.HELLO)
        for i, part in enumerate(parts):
            flags = http2.END_HEADERS if i + 1 == len(parts) else 0
            connection.sendall(http2.frame(http2.CONTINUATION if i else http2.HEADERS, flags, 1, part))
        connection.sendall(http2.frame(http2.DATA, http2.END_STREAM, 1, b"\0" * 5))
        attack.tally.note(_end_of_call(connection))


def _end_of_call(connection: ssl.SSLSocket) -> str:
    """What became of the call on stream 1."""
    for frame in http2.frames(connection, 2):
        if frame.kind == http2.GOAWAY:
            return "GOAWAY"
        if frame.stream == 1 and frame.kind == http2.RST_STREAM:
            return "RST_STREAM"
        if frame.stream == 1 and frame.kind == http2.HEADERS and frame.flags & http2.END_STREAM:
            return "an error in the trailers"
    return "closed, or no answer"


def too_many_streams(attack: Round) -> None:
    """In one connection, by one who has been told how many there may be."""
    watch = [http2.call(2 * i + 1, f"/{SERVICE}/WatchHandoffs") for i in range(STREAMS)]
    with attack.target.connect_tls(WHO) as connection:
        connection.sendall(http2.HELLO)
        received = http2.frames(connection, 1)
        assert next(received).kind == http2.SETTINGS
        with contextlib.suppress(OSError):  # it may be closed while this still writes
            connection.sendall(http2.frame(http2.SETTINGS, http2.ACK, 0) + b"".join(watch))
        refused = sum(frame.kind == http2.RST_STREAM for frame in received)
        attack.tally.note("RST_STREAM", refused)
        attack.tally.note("kept waiting", STREAMS - refused)


def too_many_connections(attack: Round) -> None:
    """Of one user of the host, at the Unix socket."""
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(CONNECTIONS):
            connection = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            connection.connect(attack.target.unix_sockets[0])  # waits where the agent accepts others first
            connection.settimeout(PATIENCE_S)
            with contextlib.suppress(OSError):  # it may be closed already
                connection.sendall(http2.HELLO)
            made.append(connection)
        for connection in made:  # who is served is sent HTTP/2's SETTINGS
            try:
                attack.tally.note("served" if connection.recv(1) else "closed at once")
            except ConnectionResetError:  # before it had read what this said
                attack.tally.note("closed at once")
            except OSError as error:
                attack.tally.note(f"errno {error.errno}")


def too_many_requests(attack: Round) -> None:
    with attack.target.channel("flooder") as channel:
        get_host_info = channel.unary_unary(f"/{SERVICE}/GetHostInfo")
        for answer in [get_host_info.future(b"", timeout=PATIENCE_S) for _ in range(REQUESTS)]:
            try:
                answer.result()
                attack.tally.note("served")
            except grpc.RpcError as error:
                attack.tally.note_error(error)


def half_open_handshakes(attack: Round) -> None:
    """Half of them say nothing, half the first bytes of a handshake; then they wait."""
    with contextlib.ExitStack() as stack:
        for i in range(HANDSHAKES):
            connection = stack.enter_context(attack.target.connect())
            if i % 2:
                connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline and not attack.stop.wait(0.1):
            continue
        attack.tally.note("left open", HANDSHAKES)


ATTACKS: list[Attack] = [too_big_messages, too_much_metadata, too_many_streams, too_many_connections, too_many_requests,
                         half_open_handshakes]
