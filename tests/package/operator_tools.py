"""What a new operator's host has beside the packages: a time server, names of other hosts, a QEMU. Not thread-safe."""

from __future__ import annotations

import contextlib
import pathlib
import re
import shutil
import subprocess
from collections.abc import Iterator

from ..cluster import Node
from ..programs.certificates import Authority, TlsFiles

NODE = "10.0.2.15"
_TIME_PORT = 1123
_QEMU = "/usr/bin/qemu-system-x86_64"
_LIBRARIES = "/etc/ld.so.conf.d/zz-qemu.conf"
_POLICY = """\
bindings:
  - role: admin
    users: [root, tsc-agent]
    groups: [tsc-agent]
    certificates: ["spiffe://fleet.example.org/operator"]
  - role: peer
    certificates: ["spiffe://fleet.example.org/agent"]
"""
# What the firmware's start needs.
_FIRMWARE = ("bios-256k.bin", "kvmvapic.bin", "linuxboot_dma.bin")


@contextlib.contextmanager
def time_server(node: Node) -> Iterator[None]:
    """A second chronyd in the node, which corrects nothing and says that it is right: nothing else can be reached from
    there. The node's own chrony follows it; it, too, corrects nothing (-x), since the clock that it follows is its own."""
    node.write_file("/run/time-server.conf", f"local stratum 1\nallow 127.0.0.1\nbindaddress 127.0.0.1\n"
                                             f"port {_TIME_PORT}\ncmdport 0\nbindcmdaddress /\n"
                                             "pidfile /run/time-server.pid\n")
    server = node.start(["/usr/sbin/chronyd", "-x", "-d", "-u", "root", "-f", "/run/time-server.conf"], name="time-server")
    node.write_file("/etc/chrony/chrony.conf", f"server 127.0.0.1 port {_TIME_PORT} iburst minpoll -2 maxpoll 0\n"
                                               "driftfile /var/lib/chrony/chrony.drift\n")
    node.write_file("/etc/default/chrony", 'DAEMON_OPTS="-F 1 -x"\n')
    node.run(["systemctl", "restart", "chrony"], timeout=90)
    try:
        yield
    finally:
        server.kill()


def name_hosts(node: Node) -> None:
    """host1 and host2 of the runbooks: both are this one, whose agent has both sides of a handoff."""
    hosts = node.read_file("/etc/hosts").decode()
    node.write_file("/etc/hosts", f"{hosts.rstrip()}\n{NODE} host1 host2\n")


@contextlib.contextmanager
def agents_certificate(node: Node, authority: Authority) -> Iterator[None]:
    """The certificate of the node's agent and the policy, where the deploy/README puts them."""
    files = authority.issue("agent", f"URI:spiffe://fleet.example.org/agent,DNS:host1,DNS:host2,IP:{NODE},IP:127.0.0.1")
    placed = {"ca.crt": files.ca.read_bytes(), "tls.crt": files.cert.read_bytes(), "tls.key": files.key.read_bytes(),
              "policy.yaml": _POLICY.encode()}
    for name, content in placed.items():
        node.write_file(f"/etc/tsc-handoff/{name}", content, mode=0o640)
        node.run(["chgrp", "tsc-agent", f"/etc/tsc-handoff/{name}"])
    try:
        yield
    finally:
        node.run(["rm", *(f"/etc/tsc-handoff/{name}" for name in placed)])


def operators_certificate(node: Node, authority: Authority) -> TlsFiles:
    """The operator's own certificate, which a context of tscctl names for everything that he types."""
    files = authority.issue("operator", "URI:spiffe://fleet.example.org/operator", usage="clientAuth")
    home = "/root/.config/tscctl"
    node.run(["mkdir", "-p", home])
    context = "current-context: fleet\ncontexts:\n  fleet:\n"
    for kind, path in (("ca", files.ca), ("cert", files.cert), ("key", files.key)):
        node.write_file(f"{home}/{path.name}", path.read_bytes(), mode=0o600)
        context += f"    tls-{kind}: {home}/{path.name}\n"
    node.write_file(f"{home}/config.yaml", context)
    return files


@contextlib.contextmanager
def stock_qemu(node: Node, exchange: pathlib.Path) -> Iterator[list[str]]:
    """Puts this machine's own QEMU where a package would have it, with the libraries that the node's Debian lacks; the
    options that it needs. It is large, so it is no part of the file system that is cached."""
    own = exchange / "qemu"
    own.mkdir()
    known = node.run(["ldconfig", "-p"]).stdout
    needed = subprocess.run(["ldd", _QEMU], capture_output=True, text=True, check=True).stdout
    for library, path in re.findall(r"^\s*(\S+) => (/\S+)", needed, re.MULTILINE):
        if not re.search(rf"^\s*{re.escape(library)} ", known, re.MULTILINE):
            shutil.copy(path, own / library)
    for file in _FIRMWARE:
        found = next(path for root in ("seabios", "qemu") if (path := pathlib.Path("/usr/share") / root / file).exists())
        shutil.copy(found, own / file)
    shutil.copy(_QEMU, own)
    node.run(["cp", "/exchange/qemu/qemu-system-x86_64", _QEMU], timeout=60)
    node.write_file(_LIBRARIES, "/exchange/qemu\n")
    node.run(["ldconfig"], timeout=60)
    try:
        yield ["-L", "/exchange/qemu"]
    finally:
        node.run(["rm", "-f", _QEMU, _LIBRARIES])
        node.run(["ldconfig"], timeout=60)
