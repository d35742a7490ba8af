"""Each limit, exceeded: the offender is told, or loses his connection; others are served meanwhile; what was taken comes back."""

from __future__ import annotations

import contextlib
import os
import pathlib
import resource
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator

import grpc
import pytest

from ..e2e.support import wait_for
from ..operations.test_agent_process import AgentProcess
from ..programs.certificates import Authority, TlsFiles
from . import http2
from .offended import HOST_INFO, KINDS, Bystander, Offended

WATCH = "/tschandoff.v1.TscAgent/WatchHandoffs"
HEALTH_WATCH = "/grpc.health.v1.Health/Watch"
SOURCES = [f"127.0.0.{number}" for number in range(2, 10)]  # all are this host


@pytest.fixture(scope="module")
def files() -> Iterator[TlsFiles]:
    with tempfile.TemporaryDirectory() as name:
        yield Authority(pathlib.Path(name) / "authority").issue(
            "everybody", "URI:spiffe://example.org/agent,DNS:agent.example.org,IP:127.0.0.1")


def is_closed(connection: socket.socket) -> bool:
    """Whether the agent has closed it, of what it may have sent before."""
    connection.setblocking(False)
    try:
        while connection.recv(65536):
            pass
        return True
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True


def client_hello(agent: Offended) -> bytes:
    """What a client of TLS begins with."""
    assert agent.files is not None
    there, here = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(cafile=str(agent.files.ca))
    context.set_alpn_protocols(["h2"])
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(there, here, server_hostname="127.0.0.1").do_handshake()
    return here.read()


def connect_all(agent: Offended, kind: str, count: int, sources: list[str], say: bytes) -> list[socket.socket]:
    connections = []
    for number in range(count):
        connection = agent.connect(kind, sources[number % len(sources)], timeout=30)
        with contextlib.suppress(ConnectionError):  # it may be refused already
            if say:
                connection.sendall(say)
        connections.append(connection)
    return connections


@pytest.mark.parametrize(("kind", "say"), [("unix", b""), ("unix", http2.PREFACE[:10]), ("tcp", b""), ("tcp", http2.PREFACE[:23])])
def test_who_says_nothing_is_closed_in_time(kind: str, say: bytes) -> None:
    with Offended("--handshake-timeout", "700ms", "--max-connections-per-peer", "256") as agent, Bystander(agent, kind):
        connections = connect_all(agent, kind, 300, ["127.0.0.2"], say)
        wait_for(lambda: agent.refused("peer_limit") == 300 - 256, "those beyond the limit are closed at once")
        wait_for(lambda: agent.refused("silence") == 256, "those that were let in are closed, too")
        assert all(map(is_closed, connections))
        assert "it did not begin to speak HTTP/2 within 700 ms (--handshake-timeout)" in agent.agent.log()
        assert "connections already, which is the limit for each peer (--max-connections-per-peer)" in agent.agent.log()


@pytest.mark.parametrize("half", ["silence", "ClientHello and silence", "preface and silence"])
def test_a_thousand_half_open_handshakes_are_given_up_in_time(files: TlsFiles, half: str) -> None:
    plain = half == "preface and silence"
    with Offended("--handshake-timeout", "4s", "--max-connections-per-peer", "256", files=None if plain else files) as agent:
        with Bystander(agent):
            pass
        say = {"silence": b"", "ClientHello and silence": b"" if plain else client_hello(agent), "preface and silence": http2.PREFACE}[half]
        before, memory = agent.descriptors(), agent.memory_kib()
        with Bystander(agent) as others:
            connections = connect_all(agent, "tcp", 1200, SOURCES, say)
            wait_for(lambda: agent.descriptors() - before > 1200, "all are accepted")
            most = agent.descriptors()
            if not plain:
                # Another one has his whole handshake meanwhile.
                with agent.connect("tls", "127.0.0.1") as connection:
                    connection.sendall(http2.HELLO + http2.call(1, HOST_INFO))
                    assert http2.Reader(connection).until(http2.DATA) is not None
            wait_for(lambda: all(map(is_closed, connections)), "all are closed")
        print(f"others took {others.median_ms:.1f} ms (median), {others.longest_ms:.1f} ms (longest); {most - before} descriptors, "
              f"{agent.memory_kib() - memory} KiB")
        wait_for(lambda: agent.descriptors() <= before + 5, "the descriptors are given back")
        wait_for(lambda: agent.memory_kib() - memory < 16 * 1024, "the memory is given back")


def test_of_one_address_so_many_connections_are_accepted_and_of_others_more(files: TlsFiles) -> None:
    with Offended("--max-connections-per-peer", "5", files=files) as agent:
        connections = connect_all(agent, "tcp", 8, ["127.0.0.2"], b"")
        wait_for(lambda: agent.refused("peer_limit") == 3, "three are refused")
        assert [is_closed(connection) for connection in connections] == [False] * 5 + [True] * 3
        assert "127.0.0.2 has 5 connections already" in agent.agent.log()
        with agent.connect("tls", "127.0.0.3") as connection:
            connection.sendall(http2.HELLO + http2.call(1, HOST_INFO))
            assert http2.Reader(connection).until(http2.DATA) is not None
        # Who goes makes room.
        connections[0].close()

        def is_let_in() -> bool:
            try:
                with agent.connect("tls", "127.0.0.2") as connection:
                    connection.sendall(http2.HELLO + http2.call(1, HOST_INFO))
                    return http2.Reader(connection).until(http2.DATA) is not None
            except OSError:  # closed before TLS had begun
                return False
        wait_for(is_let_in, "there is room again")


def test_in_all_so_many_connections_are_accepted_by_tcp_and_local_callers_have_their_own(files: TlsFiles) -> None:
    with Offended("--max-connections", "20", "--max-connections-per-peer", "10", files=files) as agent:
        with Bystander(agent):
            connections = connect_all(agent, "tcp", 24, SOURCES, b"")
            wait_for(lambda: agent.refused("limit") == 4, "four are refused")
            assert "there are 20 connections by TCP already" in agent.agent.log()
        del connections


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_an_agent_without_descriptors_refuses_and_serves_again_when_it_has_some(kind: str) -> None:
    with Offended() as agent:
        pid = agent.agent.process.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE, (max(map(int, os.listdir(f"/proc/{pid}/fd"))) + 4, hard))
        connections = connect_all(agent, kind, 20, ["127.0.0.1"], http2.HELLO)
        wait_for(lambda: sum(map(is_closed, connections)) > 10, "most are closed")
        for connection in connections:
            connection.close()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        def serves() -> bool:
            with agent.connect(kind) as connection:
                http2.send_until_refused(connection, [http2.HELLO + http2.call(1, HOST_INFO)])
                return http2.Reader(connection).until(http2.DATA) is not None
        wait_for(serves, "it serves again")
        assert agent.refused("descriptors") > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_connection_without_calls_is_closed_and_one_with_a_call_is_not(files: TlsFiles, kind: str) -> None:
    with Offended("--max-idle", "1s", files=files if kind == "tls" else None) as agent:
        with agent.connect(kind) as idle, agent.connect(kind) as busy:
            idle.sendall(http2.HELLO)
            busy.sendall(http2.HELLO + http2.call(1, WATCH))
            assert http2.Reader(idle).until(http2.DATA) is None
            time.sleep(1.5)
            busy.sendall(http2.call(3, HOST_INFO))
            assert http2.Reader(busy).until(http2.DATA, 3) is not None


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_whose_reader_has_gone_quiet_is_ended(files: TlsFiles, kind: str) -> None:
    """He neither reads nor closes; his machine may be gone."""
    with Offended("--keepalive", "1s", files=files if kind == "tls" else None) as agent:
        before = agent.descriptors()
        with agent.connect(kind) as connection:
            connection.sendall(http2.HELLO + http2.call(1, WATCH))
            wait_for(lambda: agent.descriptors() > before, "it is served")
            wait_for(lambda: agent.descriptors() <= before, "it is given up", 20)


def _call(agent: Offended, method: str, message: bytes = b"", metadata: list[tuple[str, str]] | None = None) -> grpc.RpcError | None:
    with grpc.insecure_channel(agent.agent.address, options=[("grpc.max_send_message_length", -1),
                                                            ("grpc.use_local_subchannel_pool", 1)]) as channel:
        try:
            channel.unary_unary(method)(message, timeout=20, metadata=metadata)
            return None
        except grpc.RpcError as error:
            return error


def test_messages_and_metadata_have_their_limits() -> None:
    with Offended("--max-message-bytes", "20000", "--max-metadata-bytes", "4096") as agent:
        assert _call(agent, HOST_INFO, b"", [("x", "y" * 2000)]) is None
        too_much = _call(agent, HOST_INFO, b"", [("x", "y" * 6000)])
        assert too_much is not None and too_much.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, too_much
        # An unknown field of bytes, which is no fault.
        def field(size: int) -> bytes:
            return b"\xfa\x3f" + bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14]) + bytes(size)
        assert _call(agent, HOST_INFO, field(19_000)) is None
        too_long = _call(agent, HOST_INFO, field(21_000))
        assert too_long is not None and too_long.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, too_long
        assert "larger than max (21005 vs. 20000)" in too_long.details()
        assert _call(agent, HOST_INFO) is None


def test_a_connection_has_so_many_calls_at_once_and_the_others_wait_for_their_turn() -> None:
    with Offended("--max-streams", "3") as agent, grpc.insecure_channel(agent.agent.address) as channel:
        streams = [channel.unary_stream(HEALTH_WATCH)(b"", timeout=60) for _ in range(3)]
        for stream in streams:
            next(stream)
        waiting = channel.unary_unary(HOST_INFO).future(b"", timeout=20)
        assert _call(agent, HOST_INFO) is None, "another connection is served"
        assert not waiting.done()
        streams[0].cancel()
        waiting.result()


def test_whoever_ignores_how_many_calls_a_connection_may_have_loses_it() -> None:
    with Offended("--max-streams", "3") as agent, agent.connect("unix") as connection:
        connection.sendall(http2.HELLO)
        reader = http2.Reader(connection)
        reader.until(http2.SETTINGS)
        connection.sendall(frames_ack() + b"".join(http2.call(stream, WATCH) for stream in (1, 3, 5, 7)))
        while reader.next() is not None:  # it ends
            pass


def frames_ack() -> bytes:
    return http2.frame(http2.SETTINGS, http2.ACK)


@contextlib.contextmanager
def watching(agent: Offended, count: int) -> Iterator[list[grpc.Call]]:
    """Each on a connection of its own."""
    with contextlib.ExitStack() as stack:
        calls = []
        for _ in range(count):
            channel = stack.enter_context(grpc.insecure_channel(agent.agent.address, options=[("grpc.use_local_subchannel_pool", 1)]))
            calls.append(channel.unary_stream(WATCH)(b"", timeout=60))
        yield calls


def ended(calls: list[grpc.Call]) -> list[grpc.Call]:
    return [call for call in calls if not call.is_active()]


@pytest.mark.parametrize(("flags", "said"), [
    (("--max-watchers-per-caller", "3"), f"uid {os.getuid()} has 3 streams of WatchHandoffs already"),
    (("--max-watchers", "3", "--max-watchers-per-caller", "3"), "uid"),
])
def test_so_many_streams_are_served(flags: tuple[str, ...], said: str) -> None:
    with Offended(*flags) as agent, Bystander(agent, "unix"), watching(agent, 5) as calls:
        wait_for(lambda: len(ended(calls)) == 2, "two are refused")
        for call in ended(calls):
            assert call.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and said in call.details(), call
        assert agent.series("tsc_agent_streams_limited_total") == 2
        assert said in agent.agent.log()
        next(call for call in calls if call.is_active()).cancel()

        def is_served() -> bool:
            with watching(agent, 1) as [another]:
                time.sleep(0.1)
                return another.is_active()
        wait_for(is_served, "who goes makes room")


def flood_with_watches_of_health(agent: Offended, connections: int, streams: int) -> list[socket.socket]:
    """Which whoever can connect may watch, and for ever; no call is refused for being one too many."""
    calls = [http2.call(number, HEALTH_WATCH) for number in range(1, 2 * streams, 2)]
    offenders = [agent.connect("tcp", "127.0.0.2", timeout=2) for _ in range(connections)]
    for offender in offenders:
        http2.send_until_refused(offender, [http2.HELLO, *calls])
    return offenders


def test_the_usual_limits_bound_what_a_peer_can_take_and_it_is_given_back() -> None:
    with Offended() as agent:
        before = agent.memory_kib()
        with Bystander(agent) as others:
            offenders = flood_with_watches_of_health(agent, 80, 64)
            wait_for(lambda: sum(map(is_closed, offenders)) == 80 - 64, "those beyond the limit are closed")
            taken = agent.memory_kib() - before
        print(f"grew by {taken} KiB; others took {others.median_ms:.1f} ms (median), {others.longest_ms:.1f} ms (longest)")
        assert taken < 128 * 1024
        for offender in offenders:
            offender.close()
        wait_for(lambda: agent.memory_kib() - before < 16 * 1024, "the memory is given back")


def test_what_all_callers_take_in_grpc_has_a_limit() -> None:
    """A rough one: gRPC counts about a tenth of what it takes."""
    with Offended("--max-grpc-memory-mib", "16", "--max-streams", "2000") as agent:
        offenders = flood_with_watches_of_health(agent, 16, 2000)
        cancelled = 0
        for offender in offenders:
            offender.settimeout(2)
            reader = http2.Reader(offender)
            with contextlib.suppress(TimeoutError):
                while reader.until(http2.RST_STREAM) is not None:
                    cancelled += 1
        print(f"{cancelled} calls cancelled")
        assert cancelled > 100
        wait_for(lambda: agent.agent.tscctl("host").status == 0, "it serves")


def test_flags_that_make_no_sense_are_refused(tmp_path: pathlib.Path) -> None:
    for arguments, said in (
            (("--handshake-timeout", "1ms"), '"1ms" is no duration from 100ms to 5m'),
            (("--max-vcpus", "1025"), "Value 1025 not in range"),
            (("--max-grpc-memory-mib", "1"), "Value 1 not in range")):
        agent = AgentProcess(tmp_path, *arguments)
        assert agent.process.wait(20) == 2
        assert said in agent.log()
