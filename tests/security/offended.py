"""An agent that somebody misuses: what it takes of this machine meanwhile, and how it serves the others."""

from __future__ import annotations

import os
import pathlib
import re
import socket
import ssl
import statistics
import tempfile
import threading
import time
import urllib.request
from types import TracebackType

import grpc

from ..e2e.support import wait_for
from ..operations.test_agent_process import AgentProcess
from ..programs.certificates import TlsFiles

HOST_INFO = "/tschandoff.v1.TscAgent/GetHostInfo"
KINDS = ("unix", "tcp", "tls")
# How long a caller who does nothing wrong may have to wait, at the most. Machines that test share their processors among
# several tests, and with the offender; what is to be seen here is who is starved, or waits for a time-out.
PATIENCE_S = 5.0


class Offended:
    """A real agent with a Unix socket, a TCP port (by TLS when `files` are given) and metrics. Ends with the `with` block."""

    def __init__(self, *arguments: str, files: TlsFiles | None = None) -> None:
        self.files = files
        self._directory = tempfile.TemporaryDirectory(prefix="agent")  # short enough for a socket
        secured = ["--insecure-tcp"] if files is None else [*files.flags(), "--policy", str(self._policy())]
        self.agent = AgentProcess(pathlib.Path(self._directory.name), "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0",
                                  *secured, *arguments)

    def _policy(self) -> pathlib.Path:
        policy = pathlib.Path(self._directory.name) / "policy.yaml"
        policy.write_text(f'bindings:\n  - role: admin\n    users: {os.getuid()}\n    certificates: ["spiffe://example.org/*"]\n')
        policy.chmod(0o600)
        return policy

    def __enter__(self) -> Offended:
        self.agent.__enter__()
        wait_for(lambda: "address=127.0.0.1:0 port=" in self.agent.log(), "it says its port")
        found = re.search(r"address=127\.0\.0\.1:0 port=(\d+)", self.agent.log())
        assert found
        self.port = int(found[1])
        self._metrics = self._metrics_port()
        return self

    def __exit__(self, *_: object) -> None:
        self.agent.__exit__()
        self._directory.cleanup()

    def _metrics_port(self) -> int:
        inodes = {os.readlink(link) for link in pathlib.Path(f"/proc/{self.agent.process.pid}/fd").iterdir()}
        ports = set()
        for line in pathlib.Path(f"/proc/{self.agent.process.pid}/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                ports.add(int(fields[1].rpartition(":")[2], 16))
        assert len(ports - {self.port}) == 1, ports
        return (ports - {self.port}).pop()

    def connect(self, kind: str, source: str = "127.0.0.1", timeout: float = 20) -> socket.socket:
        """"unix"; "tcp": as far as TCP goes; "tls": with a certificate, ready for HTTP/2."""
        if kind == "unix":
            plain = socket.socket(socket.AF_UNIX)
            plain.settimeout(timeout)
            plain.connect(self.agent.address.removeprefix("unix:"))
            return plain
        plain = socket.create_connection(("127.0.0.1", self.port), timeout, (source, 0))
        if kind == "tcp":
            return plain
        assert self.files is not None
        context = ssl.create_default_context(cafile=str(self.files.ca))
        context.load_cert_chain(self.files.cert, self.files.key)
        context.set_alpn_protocols(["h2"])
        return context.wrap_socket(plain, server_hostname="127.0.0.1")

    def series(self, name: str) -> float:
        """Of the metrics, by its name and labels as they are written there."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics}/metrics", timeout=20) as answer:
            text = answer.read().decode()
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        assert found, f"no {name}"
        return float(found[1])

    def refused(self, what_for: str) -> int:
        return int(self.series(f'tsc_agent_connections_refused_total{{for="{what_for}"}}'))

    def descriptors(self) -> int:
        return len(list(pathlib.Path(f"/proc/{self.agent.process.pid}/fd").iterdir()))

    def memory_kib(self) -> int:
        status = pathlib.Path(f"/proc/{self.agent.process.pid}/status").read_text()
        return int(re.findall(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)[0])

    def alive(self) -> bool:
        return self.agent.process.poll() is None


class Bystander:
    """Calls the agent again and again, each time on the same connection and once on a new one, for as long as the `with` block
    lasts; fails there when a call did, or took too long. Keeps how long calls took. Comes by the Unix socket, or by TCP where
    that is what the `offender` does: to limits he is another peer."""

    def __init__(self, agent: Offended, offender: str = "tcp") -> None:
        self._address = f"127.0.0.1:{agent.port}" if offender == "unix" else agent.agent.address
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.took_s: list[float] = []
        self.failures: list[str] = []

    def __enter__(self) -> Bystander:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None:
            assert self.failures == [] and len(self.took_s) >= 2, (self.failures, len(self.took_s))

    @property
    def median_ms(self) -> float:
        return statistics.median(self.took_s) * 1000

    @property
    def longest_ms(self) -> float:
        return max(self.took_s) * 1000

    def _run(self) -> None:
        with grpc.insecure_channel(self._address) as kept:
            while True:
                self._call(kept)
                with grpc.insecure_channel(self._address, options=[("grpc.use_local_subchannel_pool", 1)]) as fresh:
                    self._call(fresh)
                if self._stop.wait(0.02):
                    return

    def _call(self, channel: grpc.Channel) -> None:
        began = time.monotonic()
        try:
            channel.unary_unary(HOST_INFO)(b"", timeout=PATIENCE_S)
            self.took_s.append(time.monotonic() - began)
        except grpc.RpcError as error:
            self.failures.append(str(error))
