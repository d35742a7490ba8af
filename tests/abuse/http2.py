"""HTTP/2 by hand (RFC 9113), to say what no library says. No header is compressed."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE = 4
MAX_FRAME = 16_384


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def setting(identifier: int, value: int) -> bytes:
    return struct.pack(">HI", identifier, value)


def _string(text: bytes) -> bytes:
    """HPACK's: its length with a prefix of 7 bits, not compressed."""
    if len(text) < 127:
        return bytes([len(text)]) + text
    rest, encoded = len(text) - 127, b"\x7f"
    while rest >= 128:
        encoded += bytes([rest % 128 + 128])
        rest //= 128
    return encoded + bytes([rest]) + text


def header(name: str, value: str | bytes) -> bytes:
    """Literal, without indexing."""
    return b"\0" + _string(name.encode()) + _string(value.encode() if isinstance(value, str) else value)


def call_headers(method: str, more: bytes = b"") -> bytes:
    """Of a gRPC call; `method` is "/SERVICE/METHOD"."""
    return (header(":method", "POST") + header(":scheme", "https") + header(":path", method) + header(":authority", "agent")
            + header("content-type", "application/grpc") + header("te", "trailers") + more)


def call(stream: int, method: str, message: bytes = b"") -> bytes:
    """All of a unary call, or the beginning of a stream of answers. `stream` is odd."""
    body = b"\0" + struct.pack(">I", len(message)) + message
    return frame(HEADERS, END_HEADERS, stream, call_headers(method)) + frame(DATA, END_STREAM, stream, body)


def frames(connection: socket.socket, patience_s: float) -> Iterator[tuple[int, int, int, bytes]]:
    """(type, flags, stream, payload) as they come, until the connection ends or nothing comes for so long."""
    connection.settimeout(patience_s)
    pending = b""
    with contextlib.suppress(OSError):
        while True:
            while len(pending) >= 9:
                length = int.from_bytes(pending[:3], "big")
                if len(pending) < 9 + length:
                    break
                kind, flags, stream = struct.unpack(">BBI", pending[3:9])
                yield kind, flags, stream & 0x7FFF_FFFF, pending[9:9 + length]
                pending = pending[9 + length:]
            more = connection.recv(65_536)
            if not more:
                return
            pending += more
