"""HTTP/2 from bytes, to say what no library would: frames, and headers in HPACK without any compression."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import socket
import struct
from collections.abc import Iterable, Iterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
ACK = END_STREAM = 0x1
END_HEADERS = 0x4
INITIAL_WINDOW_SIZE = 4
LARGEST_FRAME = 16384  # unless the other end permits more


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(*values: tuple[int, int]) -> bytes:
    return frame(SETTINGS, payload=b"".join(struct.pack(">HI", key, value) for key, value in values))


HELLO = PREFACE + settings()


def header(name: bytes, value: bytes) -> bytes:
    """A literal without indexing, and without Huffman's code."""
    return b"\x00" + _length(len(name)) + name + _length(len(value)) + value


def _length(number: int) -> bytes:
    if number < 127:
        return bytes([number])
    number -= 127
    out = bytearray([127])
    while number >= 128:
        out.append(number % 128 + 128)
        number //= 128
    return bytes(out) + bytes([number])


def request_headers(path: str) -> bytes:
    return b"".join(header(name, value) for name, value in (
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode()), (b":authority", b"agent"),
        (b"te", b"trailers"), (b"content-type", b"application/grpc")))


def call(stream: int, path: str, message: bytes = b"") -> bytes:
    """A whole unary call."""
    return (frame(HEADERS, END_HEADERS, stream, request_headers(path)) +
            frame(DATA, END_STREAM, stream, b"\x00" + struct.pack(">I", len(message)) + message))


def random_frame(dice: random.Random) -> bytes:
    """Of any kind, for any stream, with anything in it; sometimes of another length than it says."""
    payload = dice.randbytes(dice.choice((0, 1, 4, 5, 8, 9, 40, 300)))
    made = frame(dice.randrange(12), dice.randrange(256), dice.choice((0, 1, 2, 3, 5, 2**31 - 1, dice.getrandbits(31))), payload)
    return made if dice.random() < 0.95 else made[:3] + dice.randbytes(1) + made[4:]


@dataclasses.dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes


class Reader:
    """The frames that come in on a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._bytes = bytearray()

    def next(self) -> Frame | None:
        """None at the connection's end; waits as long as the socket's time-out says."""
        while len(self._bytes) < 9 or len(self._bytes) < 9 + self._size():
            try:
                more = self._connection.recv(65536)
            except ConnectionError:
                return None
            if not more:
                return None
            self._bytes += more
        size = self._size()
        kind, flags, stream = struct.unpack(">BBI", self._bytes[3:9])
        payload = bytes(self._bytes[9:9 + size])
        del self._bytes[:9 + size]
        return Frame(kind, flags, stream & 0x7fffffff, payload)

    def _size(self) -> int:
        return int.from_bytes(self._bytes[:3], "big")

    def until(self, kind: int, stream: int | None = None) -> Frame | None:
        """The next one of that kind; None at the connection's end."""
        while (found := self.next()) is not None:
            if found.kind == kind and stream in (None, found.stream):
                return found
        return None


def frames(connection: socket.socket, patience_s: float) -> Iterator[Frame]:
    """Those that come in, until the connection ends or nothing comes for so long."""
    connection.settimeout(patience_s)
    reader = Reader(connection)
    with contextlib.suppress(OSError):
        while (found := reader.next()) is not None:
            yield found


def send_until_refused(connection: socket.socket, parts: Iterable[bytes]) -> int:
    """Sends until there is no more, or the other end has closed the connection, or does not read any more within the socket's
    time-out. Returns how many bytes."""
    sent = 0
    try:
        for part in parts:
            connection.sendall(part)
            sent += len(part)
    except (ConnectionError, TimeoutError, OSError):
        pass
    return sent
