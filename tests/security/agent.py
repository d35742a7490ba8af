"""The real agent with mutual TLS on a port of loopback, beside its Unix socket."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import subprocess
import urllib.request

from ..demo.lab import TscctlResult
from ..e2e.support import wait_for
from ..programs import binary
from ..programs.certificates import TlsFiles

AGENT = "server/agent/tsc-agent"
POLICY = """\
bindings:
  - role: admin
    users: [root]
    certificates: ["spiffe://example.org/orchestrator"]
  - role: peer
    certificates: ["spiffe://example.org/agent"]
  - role: viewer
    certificates: ["spiffe://tsc-handoff.example/*"]  # what ./run certs issues
"""


class TlsAgent:
    """Has the files that it is given as its own copies, which a test replaces. With `linked` they are links to files of
    another directory, whose changes the agent does not notice at once. Ends with the `with` block."""

    def __init__(self, directory: pathlib.Path, files: TlsFiles, *arguments: str, linked: bool = False) -> None:
        self.files = TlsFiles(*(directory / name for name in ("ca.crt", "tls.crt", "tls.key")))
        self._directory = directory
        if linked:
            self._directory = directory / "elsewhere"
            self._directory.mkdir()
            for path in dataclasses.astuple(self.files):
                path.symlink_to(self._directory / path.name)
        self.put(files)
        self.socket = f"unix:{directory}/agent.sock"
        self._log = directory / "log"
        policy = directory / "policy.yaml"
        policy.write_text(POLICY)
        policy.chmod(0o600)
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [binary(AGENT), "--listen", self.socket, "--listen", "127.0.0.1:0", *self.files.flags(), "--policy",
                 str(policy), "--vmm-socket",
                 f"{directory}/vmm.sock", "--journal", f"{directory}/journal/journal.db", "--metrics", "127.0.0.1:0", "--clock",
                 "fixed:1us", *arguments], stderr=log)

    def __enter__(self) -> TlsAgent:
        wait_for(lambda: self.process.poll() is not None or "address=127.0.0.1:0" in self.log(), "the agent serves")
        assert self.process.poll() is None, self.log()
        found = re.search(r"address=127\.0\.0\.1:0 port=(\d+)", self.log())
        assert found, self.log()
        self.port = int(found[1])
        self.address = f"127.0.0.1:{self.port}"
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def log(self) -> str:
        return self._log.read_text()

    def put(self, files: TlsFiles) -> None:
        """Replaces the files one after the other, each by a rename."""
        TlsFiles(*(self._directory / path.name for path in dataclasses.astuple(self.files))).replace_by(files)

    def reloads(self, result: str) -> int:
        """The counter of the metrics."""
        found = re.search(rf'^tsc_agent_certificate_reloads_total{{result="{result}"}} (\d+)$', self.metrics(), re.MULTILINE)
        assert found, self.metrics()
        return int(found[1])

    def expiry(self) -> float:
        found = re.search(r"^tsc_agent_certificate_expiry_timestamp_seconds (\S+)$", self.metrics(), re.MULTILINE)
        assert found, self.metrics()
        return float(found[1])

    def metrics(self) -> str:
        port = _listening_ports(self.process.pid) - {self.port}
        assert len(port) == 1, port
        with urllib.request.urlopen(f"http://127.0.0.1:{port.pop()}/metrics", timeout=20) as answer:
            return str(answer.read().decode())


def _listening_ports(pid: int) -> set[int]:
    """TCP ports at which a process of this machine listens."""
    inodes = set()
    for link in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(os.readlink(link))
        except OSError:
            continue  # it was closed meanwhile
    ports = set()
    for line in pathlib.Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
            ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


def tscctl(*arguments: str) -> TscctlResult:
    done = subprocess.run([binary("client/tscctl/tscctl"), "--timeout", "20s", "-o", "json", *arguments], capture_output=True,
                          text=True, timeout=60)
    return TscctlResult(done.returncode, done.stdout, done.stderr)
