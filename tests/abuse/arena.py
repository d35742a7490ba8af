"""Two agents on simulated hosts on this machine's loopback, as they are meant to be run: mutual TLS, a policy, an audit,
--seccomp kill. Simulated KVM lets the handoffs be many. Beside the honest VMs each host has some that attackers may have.

Needs root: attackers are a user of their own.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from ..durable.hosts import Host
from ..programs import LabError, SimAgent, binary
from ..programs.certificates import Authority, TlsFiles
from ..programs.lab_tls import AGENT_NAMES, lab_tls, speaks_tls
from ..security.agent import tscctl
from . import resources
from .target import HELPLESS_VMS, HOSTILE_USER, HOSTILE_VMS, Target

BENCH = "tests/bench/handoff_bench"
HOSTS = ("vmx:2600000:scaling:name=alpha", "svm:2600000:scaling:name=beta:wall_error_ns=7000")
VMS = 16
HELPLESS = 4
ROOT = pathlib.Path(__file__).resolve().parents[2]
POLICY = f"""\
bindings:
  - role: admin
    users: [root]
  - role: orchestrator
    certificates: ["spiffe://lab.example.org/orchestrator"]
    vms: ["vm-*"]
  - role: orchestrator
    certificates: ["spiffe://lab.example.org/accomplice"]
    vms: ["{HOSTILE_VMS}*"]
  - role: viewer
    certificates: ["spiffe://lab.example.org/viewer", "spiffe://lab.example.org/flooder", "spiffe://lab.example.org/bystander"]
  - role: peer
    certificates: ["spiffe://lab.example.org/agent", "spiffe://lab.example.org/peer"]
  - role: vmm
    users: [root]
    vms: ["*"]
  - role: vmm
    users: [{HOSTILE_USER}]
    vms: ["{HOSTILE_VMS}*"]
"""
# Few enough that an attacker can go beyond, and more than the others use.
MAX_REQUEST_RATE = 1000
# By TCP everybody here is one peer, 127.0.0.1: what an attacker holds open must leave room for who is honest.
MAX_CONNECTIONS_PER_PEER = 128
MAX_VMS = VMS + HELPLESS + 32
# What ended is forgotten soon, so that the agent's memory does not tell how many handoffs there were.
KEEP_HANDOFFS = "2s"
ATTACKERS = ("limits", "vmm", "peer")


class Arena(contextlib.AbstractContextManager["Arena"]):
    """Leaves nothing behind."""

    def __init__(self, *, groups: int = 1, vms_of_group: int = VMS) -> None:
        self._stack = contextlib.ExitStack()
        self._directory = pathlib.Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="abuse")))
        os.chmod(self._directory, 0o711)
        self._at: dict[str, int] = {}  # where a VM is that was handed over
        with contextlib.ExitStack() as undo:
            undo.push(self._stack)
            self.hosts = [self._start_host(number, groups, vms_of_group) for number in (0, 1)]
            for host in self.hosts:
                host.wait_registered()
            undo.pop_all()

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def directory(self, number: int) -> pathlib.Path:
        return self._directory / "ab"[number]

    def tls_files(self, number: int) -> TlsFiles:
        """An agent's own copies."""
        return TlsFiles(*(self.directory(number) / name for name in ("ca.crt", "tls.crt", "tls.key")))

    def _start_host(self, number: int, groups: int, vms_of_group: int) -> Host:
        directory = self.directory(number)
        directory.mkdir(mode=0o711)
        self.tls_files(number).replace_by(lab_tls().authority.issue(f"agent-{number}", AGENT_NAMES))
        self.write_policy(number, POLICY)
        self.write_config(number)
        host = Host(directory, HOSTS[number], awaits_handoff=number == 1, groups=groups, vms_of_group=vms_of_group,
                    config=directory / "agent.yaml")
        self._stack.callback(host.close)
        speaks_tls(host.address)
        self.admit_attackers(number)
        return host

    def admit_attackers(self, number: int) -> None:
        """To the sockets, whose mode would keep them out; again after a restart of the agent."""
        for name in ("agent.sock", "vmm.sock"):
            os.chmod(self.directory(number) / name, 0o666)

    def add_helpless_vms(self) -> None:
        for number, more in enumerate(([], ["--awaits-handoff"])):
            self._stack.enter_context(SimAgent(
                "--role", "vmms", "--host", HOSTS[number], "--vms", str(HELPLESS), "--vm-prefix", HELPLESS_VMS, "--vmm-socket",
                str(self.directory(number) / "vmm.sock"), *more))

    def write_policy(self, number: int, policy: str) -> None:
        _replace(self.directory(number) / "policy.yaml", policy)

    def write_config(self, number: int, **more: str) -> None:
        directory, files = self.directory(number), self.tls_files(number)
        settings = {
            "listen": f"[127.0.0.1:0, unix:{directory}/agent.sock]", "tls-ca": files.ca, "tls-cert": files.cert,
            "tls-key": files.key, "policy": directory / "policy.yaml", "audit-log": directory / "audit.log",
            "max-request-rate": MAX_REQUEST_RATE, "max-vms": MAX_VMS,
            "max-connections-per-peer": MAX_CONNECTIONS_PER_PEER, "keep-handoffs": KEEP_HANDOFFS, "seccomp": "kill", **more}
        _replace(directory / "agent.yaml", "".join(f"{key}: {value}\n" for key, value in settings.items()))

    def vm_count(self, number: int) -> int:
        """Of all VMs, which root may see."""
        asked = tscctl("--agent", f"unix:{self.directory(number)}/agent.sock", "host")
        return int(json.loads(asked.stdout)["host"]["vm_count"])

    def pids(self) -> list[int]:
        return [int(host.agent.ready["pid"]) for host in self.hosts]

    def resources(self) -> list[resources.Resources]:
        return [resources.of_process(pid) for pid in self.pids()]

    def target(self, past_handoff: str) -> Target:
        names = {who: f"URI:spiffe://lab.example.org/{who}" for who in ("accomplice", "viewer", "flooder", "bystander", "nobody")}
        names["peer"] = "URI:spiffe://lab.example.org/peer,DNS:tsc-agent.lab.example.org,IP:127.0.0.1"
        files = {who: self._owned_by_attackers(lab_tls().authority, who, called) for who, called in names.items()}
        stranger = Authority(self._directory / "strangers")
        files["stranger"] = self._owned_by_attackers(stranger, "stranger", "URI:spiffe://lab.example.org/orchestrator")
        return Target([host.address for host in self.hosts], [str(self.directory(n) / "agent.sock") for n in (0, 1)],
                      [str(self.directory(n) / "vmm.sock") for n in (0, 1)], files, past_handoff, "vm-0-0")

    def _owned_by_attackers(self, authority: Authority, who: str, names: str) -> TlsFiles:
        directory = self._directory / f"of-{who}"
        directory.mkdir(mode=0o755)
        files = TlsFiles(*(directory / name for name in ("ca.crt", "tls.crt", "tls.key")))
        files.replace_by(authority.issue(who, names))
        for path in (files.ca, files.cert, files.key):
            os.chown(path, HOSTILE_USER, HOSTILE_USER)
        return files

    def start_handoffs(self, seconds: float, *more: str, vm: str = "vm-0-0") -> HonestHandoffs:
        """One after the other, of one VM to and fro."""
        return HonestHandoffs([host.address for host in self.hosts], self.directory(0), vm, self._at, seconds, more)

    def remembered_handoff(self) -> str:
        """The id of a VM's last handoff, which the agents do not forget. The first host is its source."""
        # Three times before it measures (tests/bench/rounds.cc), and then twice.
        handoffs = self.start_handoffs(0.1, "--min-rounds", "2", "--max-rounds", "2", vm="vm-0-1")
        handoffs.result()
        last = max(self.hosts[0].ask("handoffs", "--vm", "vm-0-1")["handoffs"], key=lambda handoff: int(handoff["begun_at_ns"]))
        return str(last["handoff_id"])

    def start_attackers(self, target: Target) -> Attackers:
        path = self._directory / "target.json"
        target.write(path)
        os.chmod(path, 0o644)
        return Attackers(path)


def _replace(path: pathlib.Path, text: str) -> None:
    made = path.with_suffix(".new")
    made.write_text(text)
    made.chmod(0o600)
    made.rename(path)


class HonestHandoffs:
    """handoff_bench under way."""

    def __init__(self, addresses: Sequence[str], directory: pathlib.Path, vm: str, at: dict[str, int], seconds: float,
                 more: Sequence[str]) -> None:
        """`at` says at which address each VM is, and is kept up to date; `directory` is on the journals' disk."""
        self._vm, self._at, self._seconds = vm, at, seconds
        self.process = subprocess.Popen(
            [binary(BENCH), "one", "--agent", *addresses, *lab_tls().caller.flags(), "--from", str(at.get(vm, 0)), "--vm", vm,
             "--directory", str(directory), "--seconds", str(seconds), *(more or ["--max-rounds", "1000000"])],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def result(self) -> dict[str, Any]:
        """Its report, when it is over."""
        out, err = self.process.communicate(timeout=self._seconds + 120)
        if self.process.returncode != 0:
            raise LabError(f"the honest handoffs failed: {err}")
        report = dict(json.loads(out))
        self._at[self._vm] = int(report["from"])
        return report


class Attackers(contextlib.AbstractContextManager["Attackers"]):
    """One process for each kind. `tallies` is there when the `with` block has ended."""

    def __init__(self, target: pathlib.Path) -> None:
        self.tallies: dict[str, dict[str, dict[str, int]]] = {}
        self._processes = {kind: subprocess.Popen([sys.executable, "-B", "-m", "tests.abuse.attacker", kind, str(target)],
                                                  cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                           for kind in ATTACKERS}

    def __exit__(self, *_: object) -> None:
        """Each has made all of its attacks at least once then."""
        for process in self._processes.values():
            assert process.stdin is not None
            process.stdin.close()
            process.stdin = None  # communicate would flush it
        try:
            for kind, process in self._processes.items():
                text, _ = process.communicate(timeout=120)
                if process.returncode != 0:
                    raise LabError(f"the attacker {kind} failed; what it wrote stands above")
                self.tallies[kind] = json.loads(text)
        finally:
            for process in self._processes.values():
                process.kill()
                process.wait()
