"""What mutual TLS adds to a call: the real agent, called over its Unix socket and over TCP of loopback with TLS, in turn."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import tempfile
import threading
import time

from ..programs import LabError, binary
from ..programs.certificates import Authority
from .places import say
from .tls_figures import TlsCost

AGENT, PROGRAM = "server/agent/tsc-agent", "tests/bench/tls_bench"
START_LIMIT_S = 30
POLICY = """\
bindings:
  - role: viewer
    users: [root]
    certificates: ["dns:caller.example.org"]
"""


def _port(log: pathlib.Path, agent: subprocess.Popen[bytes]) -> int:
    """At which the agent serves TCP, once it does."""
    deadline = time.monotonic() + START_LIMIT_S
    pause = threading.Event()
    while True:
        found = re.search(r"address=127\.0\.0\.1:0 port=(\d+)", log.read_text())
        if found:
            return int(found[1])
        if agent.poll() is not None or time.monotonic() > deadline:
            raise LabError(f"the agent does not serve: {log.read_text()}")
        pause.wait(0.02)


def measure(quick: bool) -> TlsCost:
    say("tls: an agent on this machine, over its Unix socket and over mutual TLS")
    with tempfile.TemporaryDirectory(prefix="tsc-bench-") as name:
        directory = pathlib.Path(name)
        authority = Authority(directory / "authority")
        files = authority.issue("agent", "DNS:agent.example.org,IP:127.0.0.1")
        caller = authority.issue("caller", "DNS:caller.example.org", usage="clientAuth")
        socket, log, policy = f"unix:{directory}/agent.sock", directory / "log", directory / "policy.yaml"
        policy.write_text(POLICY)
        with log.open("w") as output:
            agent = subprocess.Popen([binary(AGENT), "--listen", socket, "--listen", "127.0.0.1:0", *files.flags(), "--metrics", "",
                                      "--policy", str(policy),
                                      "--vmm-socket", f"{directory}/vmm.sock", "--journal", f"{directory}/journal/journal.db",
                                      "--clock", "fixed:1us"], stderr=output)
        try:
            rounds = ["--max-rounds", "200", "--seconds", "2"] if quick else ["--max-rounds", "5000", "--seconds", "20"]
            done = subprocess.run([binary(PROGRAM), "--unix", socket, "--tls", f"127.0.0.1:{_port(log, agent)}", *caller.flags(),
                                   *rounds], capture_output=True, text=True, timeout=120)
        finally:
            agent.terminate()
            agent.wait(START_LIMIT_S)
    if done.returncode != 0:
        raise LabError(done.stderr.strip())
    found = json.loads(done.stdout)
    return TlsCost(found["rounds"], **{f"{kind}_{percentile}": found[kind][percentile]
                                       for kind in ("unix", "tls", "tls_connect") for percentile in ("p50_ns", "p99_ns")})
