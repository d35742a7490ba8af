"""Bytes that no proper client sends, by a Unix socket, by TCP and within TLS: whoever sends them loses his connection at most; the
agent goes on, serves the others meanwhile, and gives back what it took."""

from __future__ import annotations

import itertools
import os
import pathlib
import random
import tempfile
import time
from collections.abc import Callable, Iterator

import pytest

from ..e2e.support import wait_for
from ..programs.certificates import Authority, TlsFiles
from . import http2
from .offended import HOST_INFO, KINDS, Bystander, Offended

SEED = int(os.environ.get("TSC_TEST_SEED", "0")) or random.SystemRandom().getrandbits(32)
# Of one offender; 4 MiB of calls that are taken back took 400 MB before somebody watched for them. It is noticed when 24 MiB
# are gone, and until a connection is closed some more are.
FLOOD_BYTES = 16 * 2**20
MAY_GROW_KIB = 192 * 1024
MAY_KEEP_KIB = 48 * 1024
SECONDS = 3.0
BIG = b"x" * 8000

# What begins properly and then breaks the protocol; each must end with GOAWAY, RST_STREAM or the connection's end.
BROKEN: dict[str, bytes] = {
    "a frame larger than permitted": http2.frame(http2.DATA, 0, 1, bytes(http2.LARGEST_FRAME + 1)),
    "a stream of an even number": http2.call(2, HOST_INFO),
    "DATA on stream 0": http2.frame(http2.DATA, 0, 0, b"abc"),
    "DATA on a stream that nobody opened": http2.frame(http2.DATA, http2.END_STREAM, 7, b"abc"),
    "HEADERS on stream 0": http2.frame(http2.HEADERS, http2.END_HEADERS, 0, http2.request_headers(HOST_INFO)),
    "CONTINUATION out of nowhere": http2.frame(http2.CONTINUATION, http2.END_HEADERS, 1, b"\x00"),
    "another frame amid headers": (http2.frame(http2.HEADERS, 0, 1, http2.request_headers(HOST_INFO)) + http2.frame(http2.PING, 0, 0, bytes(8))),
    "SETTINGS of half a setting": http2.frame(http2.SETTINGS, 0, 0, b"abc"),
    "an acknowledgement with settings": http2.frame(http2.SETTINGS, http2.ACK, 0, bytes(6)),
    "a window beyond what there is": http2.settings((http2.INITIAL_WINDOW_SIZE, 2**31)),
    "PING of five bytes": http2.frame(http2.PING, 0, 0, b"12345"),
    "RST_STREAM of five bytes": http2.frame(http2.RST_STREAM, 0, 1, b"12345"),
    "an index that HPACK does not have": http2.frame(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, 1, b"\xff\xff\xff\x7f"),
    "a header's length without end": http2.frame(http2.HEADERS, http2.END_HEADERS, 1, b"\x00" + b"\xff" * 40),
    "a header longer than its frame": http2.frame(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, 1, b"\x00\x7f\xff\x07abc"),
    "a message that never comes": http2.frame(http2.HEADERS, http2.END_HEADERS, 1, http2.request_headers(HOST_INFO)) +
                                  http2.frame(http2.DATA, http2.END_STREAM, 1, b"\x00\x00\x00\x10\x00abc"),
    "a message of 4 GiB": http2.frame(http2.HEADERS, http2.END_HEADERS, 1, http2.request_headers(HOST_INFO)) +
                          http2.frame(http2.DATA, http2.END_STREAM, 1, b"\x00\xff\xff\xff\xffabc"),
}


def headers_in_a_hundred_frames() -> Iterator[bytes]:
    """A header list of nearly a MiB, in one call after the other."""
    for stream in itertools.count(1, 2):
        yield http2.frame(http2.HEADERS, 0, stream, http2.request_headers(HOST_INFO))
        for number in range(100):
            yield http2.frame(http2.CONTINUATION, 0, stream, http2.header(b"x-%d" % number, BIG))
        yield http2.frame(http2.CONTINUATION, http2.END_HEADERS, stream, http2.header(b"x-last", b""))


def headers_without_end() -> Iterator[bytes]:
    yield http2.frame(http2.HEADERS, 0, 1, http2.request_headers(HOST_INFO))
    yield from itertools.repeat(http2.frame(http2.CONTINUATION, 0, 1, http2.header(b"x", BIG)))


def empty_continuations() -> Iterator[bytes]:
    yield http2.frame(http2.HEADERS, 0, 1, http2.request_headers(HOST_INFO))
    yield from itertools.repeat(http2.frame(http2.CONTINUATION, 0, 1) * 1000)


def calls_taken_back() -> Iterator[bytes]:
    """Rapid reset (CVE-2023-44487): more calls than may be open at once, none of which stays open."""
    cancel = (8).to_bytes(4, "big")
    for stream in itertools.count(1, 2):
        yield http2.call(stream, HOST_INFO) + http2.frame(http2.RST_STREAM, 0, stream, cancel)


def calls_taken_back_half_way() -> Iterator[bytes]:
    cancel = (8).to_bytes(4, "big")
    for stream in itertools.count(1, 2):
        yield (http2.frame(http2.HEADERS, http2.END_HEADERS, stream, http2.request_headers(HOST_INFO)) +
               http2.frame(http2.RST_STREAM, 0, stream, cancel))


def streams_without_number() -> Iterator[bytes]:
    """Open, and never ended."""
    for stream in itertools.count(1, 2):
        yield http2.frame(http2.HEADERS, http2.END_HEADERS, stream, http2.request_headers(HOST_INFO))


FLOODS: dict[str, Callable[[], Iterator[bytes]]] = {
    "huge header lists": headers_in_a_hundred_frames,
    "headers without end": headers_without_end,
    "empty CONTINUATIONs": empty_continuations,
    "SETTINGS": lambda: itertools.repeat(http2.settings((http2.INITIAL_WINDOW_SIZE, 65535)) * 500),
    "PING": lambda: itertools.repeat(http2.frame(http2.PING, 0, 0, b"12345678") * 500),
    "PRIORITY": lambda: itertools.repeat(http2.frame(http2.PRIORITY, 0, 1, bytes(5)) * 500),
    "WINDOW_UPDATE": lambda: itertools.repeat(http2.frame(http2.WINDOW_UPDATE, 0, 0, b"\x00\x00\x00\x01") * 500),
    "empty DATA": lambda: itertools.chain([http2.frame(http2.HEADERS, http2.END_HEADERS, 1, http2.request_headers(HOST_INFO))],
                                          itertools.repeat(http2.frame(http2.DATA, 0, 1) * 500)),
    "rapid reset": calls_taken_back,
    "rapid reset of half calls": calls_taken_back_half_way,
    "streams without number": streams_without_number,
}


@pytest.fixture(scope="module")
def files() -> Iterator[TlsFiles]:
    with tempfile.TemporaryDirectory() as name:
        yield Authority(pathlib.Path(name) / "authority").issue(
            "everybody", "URI:spiffe://example.org/agent,DNS:agent.example.org,IP:127.0.0.1")


@pytest.fixture(scope="module")
def agents(files: TlsFiles) -> Iterator[dict[str, Offended]]:
    """By the way that the offender comes."""
    with Offended() as plain, Offended(files=files) as secured:
        yield {"unix": plain, "tcp": plain, "tls": secured}


def is_well(agent: Offended) -> None:
    assert agent.alive(), agent.agent.log()
    assert agent.agent.tscctl("host").status == 0


@pytest.mark.parametrize("kind", ["unix", "tcp", "before TLS"])
def test_what_is_not_http2_is_closed_at_once(agents: dict[str, Offended], kind: str) -> None:
    dice = random.Random(SEED)
    print(f"TSC_TEST_SEED={SEED}")
    agent = agents["tls" if kind == "before TLS" else kind]
    before = agent.refused("not_http2")
    for beginning in (b"GET / HTTP/1.1\r\nHost: agent\r\n\r\n", http2.PREFACE[:20] + b"nope", b"\x16\x03\x01\x02\x00",
                      b"\x00" * 64, *(dice.randbytes(64) for _ in range(8))):
        if kind == "before TLS" and beginning[0] == 0x16:
            continue  # so does TLS, too; test_limits has silence after it
        with agent.connect("tcp" if kind == "before TLS" else kind) as connection:
            connection.sendall(beginning)
            connection.settimeout(5)
            assert http2.Reader(connection).until(http2.HEADERS) is None, beginning
    if kind != "before TLS":
        assert agent.refused("not_http2") - before == 12
        assert "it does not begin as HTTP/2 does" in agent.agent.log()
    is_well(agent)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", BROKEN)
def test_a_breach_of_the_protocol_ends_the_call_or_the_connection(agents: dict[str, Offended], kind: str, what: str) -> None:
    with agents[kind].connect(kind, timeout=10) as connection:
        http2.send_until_refused(connection, [http2.HELLO + BROKEN[what] + http2.call(101, HOST_INFO)])
        reader = http2.Reader(connection)
        # Either all ends, or that call alone, and the next one is served.
        while (answer := reader.next()) is not None:
            if answer.kind in (http2.GOAWAY, http2.RST_STREAM) or (answer.kind == http2.HEADERS and answer.stream == 101):
                break
    is_well(agents[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_random_frames_harm_nobody_else(agents: dict[str, Offended], kind: str) -> None:
    dice = random.Random(SEED)
    print(f"TSC_TEST_SEED={SEED}")
    with Bystander(agents[kind], kind):
        end = time.monotonic() + SECONDS
        for _ in range(200):
            with agents[kind].connect(kind, timeout=5) as connection:
                http2.send_until_refused(connection, [http2.HELLO, *(http2.random_frame(dice) for _ in range(50))])
            if time.monotonic() > end:
                break
    is_well(agents[kind])


# Each flood by one way in the usual run, and by the others with --all.
FLOODS_BY_WAY = [pytest.param(what, kind, marks=() if (i + j) % len(KINDS) == 0 else pytest.mark.slow)
                 for i, what in enumerate(FLOODS) for j, kind in enumerate(KINDS)]


@pytest.mark.parametrize(("what", "kind"), FLOODS_BY_WAY)
def test_a_flood_starves_nobody_and_is_not_kept(agents: dict[str, Offended], kind: str, what: str) -> None:
    agent = agents[kind]
    with Bystander(agent):  # once at least, which warms up
        pass
    descriptors, memory, grown = agent.descriptors(), agent.memory_kib(), 0

    sent = 0
    with Bystander(agent) as others:
        with agent.connect(kind, timeout=1) as connection:
            # What the agent answers is never read, and has nowhere to go.
            end = time.monotonic() + SECONDS
            parts = itertools.takewhile(lambda _: time.monotonic() < end, FLOODS[what]())
            while more := http2.send_until_refused(connection, [http2.HELLO if sent == 0 else b"".join(itertools.islice(parts, 100))]):
                sent += more
                grown = max(grown, agent.memory_kib() - memory)
                if sent > FLOOD_BYTES:
                    break
    print(f"{what} by {kind}: {sent} bytes; others took {others.median_ms:.1f} ms (median), {others.longest_ms:.1f} ms (longest); "
          f"the agent grew by {grown} KiB")
    assert grown < MAY_GROW_KIB
    wait_for(lambda: agent.descriptors() <= descriptors + 2, "the connection is given up")
    wait_for(lambda: agent.memory_kib() - memory < MAY_KEEP_KIB, "the memory is given back")
    is_well(agent)
