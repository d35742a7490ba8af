"""Mutual TLS of the real agent, tried with openssl s_client, another implementation of gRPC, and tscctl."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from ..e2e.support import wait_for
from ..programs import binary
from ..programs.certificates import Authority, TlsFiles
from .agent import AGENT, TlsAgent, tscctl

PROJECT = pathlib.Path(__file__).resolve().parents[2]
CALLER = pathlib.Path(__file__).resolve().parent / "caller.mjs"
AGENT_NAMES = "URI:spiffe://example.org/agent,DNS:agent.example.org,IP:127.0.0.1"
HOUR = datetime.timedelta(hours=1)
UNAVAILABLE = 14

pytestmark = pytest.mark.skipif(not (PROJECT / "node_modules/@grpc/grpc-js").is_dir(),
                                reason="node_modules is not there: npm ci")


class World:
    """An authority, the agent's certificate and a caller's."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.authority = Authority(directory / "authority")
        self.stranger = Authority(directory / "stranger")
        self.agent = self.authority.issue("agent", AGENT_NAMES)
        self.caller = self.authority.issue("caller", "URI:spiffe://example.org/orchestrator", usage="clientAuth")

    def start(self, *arguments: str, files: TlsFiles | None = None, linked: bool = False) -> TlsAgent:
        return TlsAgent(pathlib.Path(tempfile.mkdtemp(dir=self.directory)), files or self.agent, *arguments, linked=linked)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="tls") as name:  # in /tmp: a socket's path is short
        yield World(pathlib.Path(name))


@pytest.fixture(scope="module")
def agent(world: World) -> Iterator[TlsAgent]:
    with world.start() as agent:
        yield agent


def _caller_command(address: str, files: TlsFiles | None, **more: Any) -> list[str]:
    options: dict[str, Any] = {"address": address, "proto": str(PROJECT / "proto"), **more}
    if files is not None:
        options |= {"ca": str(files.ca), "cert": str(files.cert), "key": str(files.key)}
    return ["node", str(CALLER), json.dumps({key: value for key, value in options.items() if value is not None})]


def call(address: str, files: TlsFiles | None, **more: Any) -> dict[str, Any]:
    done = subprocess.run(_caller_command(address, files, **more), capture_output=True, text=True, timeout=60, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


# The head of HTTP/2's first frame, which a server sends before it has read anything: of type 4, without flags, stream 0.
SETTINGS = b"\x04\x00\x00\x00\x00\x00"


def s_client(agent: TlsAgent, files: TlsFiles | None, *arguments: str) -> tuple[str, bool]:
    """What openssl says of a connection, and whether the server spoke HTTP/2. A server that refuses a certificate in TLS
    1.3 does so after the client's handshake, so the client sends something and waits for the end."""
    identity = [] if files is None else ["-cert", str(files.cert), "-key", str(files.key)]
    # Old versions of the protocol need a lower security level, which here is the client's alone.
    done = subprocess.run(["openssl", "s_client", "-connect", agent.address, "-alpn", "h2", "-CAfile", str(agent.files.ca),
                           "-verify_return_error", "-ign_eof", *identity, *arguments], input=b"hello, this is no HTTP/2\r\n" * 4,
                          capture_output=True, timeout=60)
    return (done.stdout + done.stderr).decode(errors="replace"), SETTINGS in done.stdout


def test_a_caller_with_a_certificate_is_served(world: World, agent: TlsAgent) -> None:
    assert call(agent.address, world.caller)["host_name"]
    said, served = s_client(agent, world.caller)
    assert "TLSv1.3" in said and served
    result = tscctl("--agent", agent.address, *world.caller.flags(), "host")
    assert result.status == 0, result.stderr


def test_the_unix_socket_needs_no_certificate(agent: TlsAgent, world: World) -> None:
    assert tscctl("--agent", agent.socket, "host").status == 0
    assert tscctl("--agent", agent.socket, *world.caller.flags(), "host").status == 0


@pytest.mark.parametrize("who", ["without TLS", "without a certificate", "of another authority", "expired", "not yet valid",
                                 "a server's"])
def test_nobody_else_is_served(world: World, agent: TlsAgent, who: str) -> None:
    name = who.replace(" ", "-").replace("'", "")
    names = "URI:spiffe://example.org/orchestrator"
    files = None
    if who == "of another authority":
        files = world.stranger.issue(name, names).with_ca(world.authority.cert)
    elif who == "expired":
        files = world.authority.issue(name, names, valid=(-2 * HOUR, -HOUR))
    elif who == "not yet valid":
        files = world.authority.issue(name, names, valid=(HOUR, 2 * HOUR))
    elif who == "a server's":
        files = world.authority.issue(name, names, usage="serverAuth")
    ca = str(world.authority.cert) if who == "without a certificate" else None
    assert call(agent.address, files, ca=ca).get("code") == UNAVAILABLE
    if who == "without TLS":
        return
    said, served = s_client(agent, files)
    assert not served, said
    wait_for(lambda: "a TLS handshake failed" in agent.log(), "it is logged")


@pytest.mark.parametrize(("version", "served"), [("1_3", True), ("1_2", False), ("1_1", False)])
def test_only_tls_1_3_is_spoken(world: World, agent: TlsAgent, version: str, served: bool) -> None:
    said, spoken = s_client(agent, world.caller, f"-tls{version}", "-cipher", "DEFAULT:@SECLEVEL=0")
    assert spoken == served, said
    assert bool(re.search(r"^New, TLSv1\.3, Cipher is TLS_", said, re.MULTILINE)) == served, said
    if not served:
        assert "Cipher is (NONE)" in said, said


def test_tls_1_2_is_spoken_where_it_is_permitted_and_1_1_nowhere(world: World) -> None:
    with world.start("--tls-min-version", "1.2") as agent:
        said, served = s_client(agent, world.caller, "-tls1_2")
        assert served and re.search(r"^New, TLSv1\.2, Cipher is ECDHE", said, re.MULTILINE), said
        said, served = s_client(agent, world.caller, "-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0")
        assert not served and "Cipher is (NONE)" in said, said
        assert call(agent.address, world.caller, max="TLSv1.2")["host_name"]


def test_a_caller_refuses_an_agent_of_another_name(world: World) -> None:
    elsewhere = world.authority.issue("elsewhere", "DNS:agent.example.org,IP:10.9.9.9")
    with world.start(files=elsewhere) as agent:
        assert call(agent.address, world.caller)["code"] == UNAVAILABLE
        result = tscctl("--agent", agent.address, *world.caller.flags(), "host")
        assert result.status == 3, result
        # ... but not when it expects that very name.
        named = ["--tls-server-name", "agent.example.org"]
        assert tscctl("--agent", agent.address, *world.caller.flags(), *named, "host").status == 0


def test_agents_probe_each_other_by_tls(world: World) -> None:
    other = world.authority.issue("other", AGENT_NAMES)
    with world.start() as one, world.start(files=other) as two:
        compared = tscctl(*world.caller.flags(), "clock", one.address, two.address, "--peer", two.address)
        # Both are on this host, whose clock both vouch for.
        assert compared.json["probe"]["rounds"] > 0, compared
    strange = world.stranger.issue("agent", AGENT_NAMES)
    with world.start() as one, world.start(files=strange) as two:
        refused = tscctl("--agent", one.socket, "clock", one.socket, two.socket, "--peer", two.address)
        assert refused.status != 0 and refused.error["error"]["reason"] == "PEER_UNREACHABLE", refused


def test_rotation_under_load_loses_no_call(world: World) -> None:
    """Certificates are swapped while calls go on, on connections that stand and on new ones; a bad one in between changes
    nothing, and is named."""
    with world.start() as agent, subprocess.Popen(
            _caller_command(agent.address, world.caller, loop=3), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=PROJECT) as caller:
        first = agent.expiry()
        for number in range(1, 6):
            following = world.authority.issue(f"agent-{number}", AGENT_NAMES, valid=(-HOUR, (number + 1) * HOUR))
            agent.put(following)
            wait_for(lambda number=number: agent.reloads("ok") == number, "the new certificate is in use")  # type: ignore[misc]
            if number == 3:
                bad = TlsFiles(world.authority.cert, following.cert, world.caller.key)
                agent.put(bad)
                wait_for(lambda: agent.reloads("key_mismatch") == 1, "the bad one is refused")
                assert "the certificate in the files is refused; the one in use stays" in agent.log()
                assert re.search(r"problem=key_mismatch .*is not the key of the first certificate", agent.log()), agent.log()
                assert call(agent.address, world.caller)["host_name"]
        assert agent.expiry() < first
        output, _ = caller.communicate()
        counts = json.loads(output)
        assert counts["failures"] == []
        assert counts["kept"] > 20 and counts["fresh"] > 20, counts
        # New connections are served by the last one.
        assert f"agent-{number}" in s_client(agent, world.caller)[0]


@pytest.mark.parametrize("how", ["SIGHUP", "tscctl"])
def test_a_reload_takes_the_certificate_at_once(world: World, how: str) -> None:
    with world.start(linked=True) as agent:
        agent.put(world.authority.issue(f"reload-{how}", AGENT_NAMES))
        if how == "SIGHUP":
            agent.process.send_signal(signal.SIGHUP)
        else:
            assert tscctl("--agent", agent.socket, "reload").json["changed"] == ["tls-cert: a new certificate"]
        wait_for(lambda: agent.reloads("ok") == 1, "it is in use", 15)  # without it 30 s would pass
        assert f'subject="CN=reload-{how}"' in agent.log()


def test_a_new_authority_is_brought_in_without_an_interruption(world: World) -> None:
    """Both are trusted for a while, then only the new one."""
    following = Authority(world.directory / "following")
    both = world.directory / "both.crt"
    both.write_text(following.cert.read_text() + world.authority.cert.read_text())
    new_caller = following.issue("caller", "URI:spiffe://example.org/orchestrator")
    with world.start() as agent:
        assert call(agent.address, new_caller.with_ca(both))["code"] == UNAVAILABLE
        agent.put(world.agent.with_ca(both))
        wait_for(lambda: agent.reloads("ok") == 1, "both are trusted")
        assert call(agent.address, new_caller.with_ca(both))["host_name"]
        assert call(agent.address, world.caller)["host_name"]
        agent.put(following.issue("agent", AGENT_NAMES))
        wait_for(lambda: agent.reloads("ok") == 2, "the new one alone is trusted")
        assert call(agent.address, new_caller)["host_name"]
        assert call(agent.address, world.caller)["code"] == UNAVAILABLE


def _start_fails(directory: pathlib.Path, *arguments: str) -> str:
    done = subprocess.run([binary(AGENT), "--vmm-socket", f"{directory}/vmm.sock", "--journal", f"{directory}/j/journal.db",
                           "--metrics", "", "--clock", "fixed:1us", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode in (1, 2), done
    return done.stderr


def test_tcp_without_tls_needs_a_word_and_stays_on_this_host(tmp_path: pathlib.Path) -> None:
    said = _start_fails(tmp_path, "--listen", "127.0.0.1:0")
    assert "--tls-cert, --tls-key and --tls-ca" in said and "--insecure-tcp" in said
    said = _start_fails(tmp_path, "--listen", "0.0.0.0:0", "--insecure-tcp")
    assert "reachable from other hosts, which takes mutual TLS: give --tls-cert" in said
    assert "insecure-network" in _start_fails(tmp_path, "--listen", "0.0.0.0:0", "--insecure-network")


def test_what_contradicts_itself_or_cannot_be_used_stops_the_start(world: World, tmp_path: pathlib.Path) -> None:
    flags = world.agent.flags()
    listen = ["--listen", "127.0.0.1:0"]
    assert "missing: --tls-key, --tls-ca" in _start_fails(tmp_path, *listen, "--tls-cert", str(world.agent.cert))
    assert "--insecure-tcp has no meaning" in _start_fails(tmp_path, *listen, *flags, "--insecure-tcp")
    mismatch = TlsFiles(world.agent.ca, world.agent.cert, world.caller.key)
    assert "is not the key of the first certificate" in _start_fails(tmp_path, *listen, *mismatch.flags())
    open_key = tmp_path / "open.key"
    open_key.write_bytes(world.agent.key.read_bytes())
    os.chmod(open_key, 0o644)
    everybodys = TlsFiles(world.agent.ca, world.agent.cert, open_key)
    assert "every user may read" in _start_fails(tmp_path, *listen, *everybodys.flags())


def test_tscctl_says_what_is_wrong_before_it_connects(world: World) -> None:
    result = tscctl("--agent", "host.example.org:50051", "host")
    assert result.status == 2 and "takes mutual TLS; give --tls-ca" in result.stderr
    result = tscctl("--agent", "127.0.0.1:1", "--tls-ca", str(world.caller.ca), "host")
    assert result.status == 2 and "missing: --tls-cert, --tls-key" in result.stderr
    expired = world.authority.issue("old-caller", "DNS:caller.example.org", valid=(-2 * HOUR, -HOUR))
    result = tscctl("--agent", "127.0.0.1:1", *expired.flags(), "host")
    assert result.status == 5 and "the certificate expired at" in result.stderr


def test_run_certs_makes_what_agents_and_tscctl_take(tmp_path: pathlib.Path) -> None:
    made = tmp_path / "certs"
    subprocess.run([PROJECT / "run", "certs", made], check=True, capture_output=True, timeout=120)
    for path in made.iterdir():
        assert path.stat().st_mode & 0o777 == (0o600 if path.suffix == ".key" else 0o644), path
    files = {name: TlsFiles(made / "ca.crt", made / f"{name}.crt", made / f"{name}.key")
             for name in ("agent", "orchestrator", "viewer")}
    with tempfile.TemporaryDirectory(prefix="certs") as directory, TlsAgent(pathlib.Path(directory), files["agent"]) as agent:
        for name in files:
            result = tscctl("--agent", agent.address, *files[name].flags(), "host")
            assert result.status == 0, result.stderr
        assert "spiffe://tsc-handoff.example/agent" in agent.log()
