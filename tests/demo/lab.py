"""The lab: two nodes with real KVM, an agent in each, the witness VM on node 1 and an empty one waiting on node 2.

The demo, the cluster tests and the benchmarks use it. `with Lab(...) as lab:` leaves nothing behind. Not thread-safe.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import subprocess
import threading
import time
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..cluster import Chronyd, Cluster, Node, NodeError, NodeProcess
from ..programs import LabError, binary
from ..programs.certificates import TlsFiles
from ..programs.lab_tls import environment_for, lab_tls, speaks_tls
from ..witness import WitnessControl, start_witness

AGENT_PORT = 50051
VMM_SOCKET = "/run/tsc-handoff-vmm.sock"
JOURNAL = "/run/tsc-handoff-journal/journal.db"
AGENT = "server/agent/tsc-agent"
# A system call that the filter does not know ends the agent, which no test overlooks.
CONFINED = ("--seccomp", "kill")
PROGRAMS = (AGENT, "client/tscctl/tscctl", "tests/witness/witness")


def signed(ticks: int) -> int:
    """A value modulo 2^64 as the nearest signed one."""
    ticks %= 1 << 64
    return ticks - (1 << 64) if ticks >> 63 else ticks


@dataclass(frozen=True)
class TscctlResult:
    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        if self.status != 0:
            raise LabError(f"tscctl failed with {self.status}: {self.stderr.strip()}")
        return dict(json.loads(self.stdout))

    @property
    def error(self) -> dict[str, Any]:
        """What -o json wrote to stderr."""
        return dict(json.loads(self.stderr))


def tscctl(*arguments: str, timeout: float = 90.0) -> TscctlResult:
    """Runs tscctl on this machine. Nodes are slow when the machine has more to do: calls get 30 s."""
    done = subprocess.run([binary("client/tscctl/tscctl"), "--timeout", "30s", *arguments], capture_output=True, text=True,
                          timeout=timeout, env=environment_for(arguments))
    return TscctlResult(done.returncode, done.stdout, done.stderr)


def patiently(call: Callable[[], TscctlResult], timeout: float = 60.0) -> TscctlResult:
    """Repeats a call whose probe an emulated node did not answer in time, which is what that refusal says to do: nothing
    was changed."""
    deadline = time.monotonic() + timeout
    while True:
        result = call()
        if "PEER_UNREACHABLE" not in result.stderr or time.monotonic() > deadline:
            return result


POLICY_PATH = "/run/tsc-policy.yaml"
POLICY = """\
bindings:
  - role: admin
    users: [root]
    certificates: ["spiffe://lab.example.org/orchestrator"]
  - role: peer
    certificates: ["spiffe://lab.example.org/agent"]
"""


class Agent:
    """tsc-agent in a node. This machine reaches it at `address`, the other node's agent at `peer_address`, both by mutual
    TLS."""

    def __init__(self, node: Node, arguments: Sequence[str], program: str = AGENT) -> None:
        self.node = node
        self.arguments = list(arguments)
        self.program = program
        self.address = f"127.0.0.1:{node.forward(AGENT_PORT)}"
        link = node.config.peer_address.partition("/")[0]
        self.peer_address = "" if link == "-" else f"{link}:{AGENT_PORT}"
        speaks_tls(self.address)
        files = lab_tls().agent
        self._tls = TlsFiles(*(pathlib.Path("/run") / name for name in ("tsc-ca.crt", "tsc-agent.crt", "tsc-agent.key")))
        for there, here in zip(dataclasses.astuple(self._tls), dataclasses.astuple(files), strict=True):
            node.write_file(there, here.read_bytes(), mode=0o600)
        node.write_file(POLICY_PATH, POLICY.encode(), mode=0o600)
        self.process = self._start(self.arguments)

    def _start(self, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> NodeProcess:
        # Other nodes cannot reach 10.0.2.15: it is the address behind this machine's own port forward.
        link = ["--listen", self.peer_address, "--peer-address", self.peer_address] if self.peer_address else []
        return self.node.start(
            [binary(self.program), "--listen", f"10.0.2.15:{AGENT_PORT}", *link, *self._tls.flags(), "--policy", POLICY_PATH,
             "--insecure-metrics", "--vmm-socket", VMM_SOCKET, "--journal", JOURNAL, *CONFINED,
             *arguments], name="tsc-agent", env=environment)

    def stop(self) -> None:
        """In order: it is asked to end."""
        self.process.terminate()
        self.process.wait()

    def restart(self, arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> None:
        """Starts it again after its end, with these options or those of the first time. Does not wait."""
        self.process = self._start(self.arguments if arguments is None else arguments, environment)

    def clock(self) -> dict[str, Any]:
        """What it claims of its clock at this moment."""
        return dict(tscctl("--agent", self.address, "-o", "json", "host").json["host"]["clock"])

    def wait_serving(self, timeout: float = 30.0) -> dict[str, Any]:
        """Returns the host's facts once the agent answers."""
        deadline = time.monotonic() + timeout
        pause = threading.Event()
        while True:
            result = tscctl("--agent", self.address, "-o", "json", "host")
            if result.status == 0:
                return result.json
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"{self.node.name}: the agent does not serve: {result.stderr}\n"
                               f"its log ends:\n{self.process.log_tail()}")
            pause.wait(0.1)


class Lab:
    """Boots the nodes and starts the agents; node 1's clock is the cluster's time, `chronyds` are theirs."""

    def __init__(self, *, nodes: int = 2, clocks: bool = True, agent_arguments: Sequence[str] = (),
                 smp: int = 2, memory_mb: int = 2048, tcg_thread: str = "single") -> None:
        for program in PROGRAMS:  # known before anything boots
            binary(program)
        self._cluster = Cluster(nodes, smp=smp, memory_mb=memory_mb, tcg_thread=tcg_thread)
        self._with_clocks = clocks and nodes == 2
        self._agent_arguments = list(agent_arguments)
        self.agents: list[Agent] = []
        self.chronyds: list[Chronyd] = []

    def __enter__(self) -> Lab:
        self._cluster.open()
        try:
            if self._with_clocks:
                self.chronyds = self._cluster.start_chronyd()
            for number, node in enumerate(self.cluster.nodes):
                # Node 1 is the reference that node 2's chronyd follows: its clock is right by definition.
                clock = "fixed:1us" if number == 0 else "chrony" if self._with_clocks else "kernel"
                self.agents.append(Agent(node, ["--clock", clock, *self._agent_arguments]))
            for agent in self.agents:
                agent.wait_serving()
        except BaseException:
            self._cluster.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: types.TracebackType | None) -> None:
        self._cluster.close()

    @property
    def cluster(self) -> Cluster:
        return self._cluster

    def witness(self, number: int, vm_id: str, vcpus: int, arguments: Sequence[str] = ()) -> WitnessControl:
        """Starts a witness VM on node `number` (from 0), registered with its agent."""
        return start_witness(self.cluster.nodes[number], vm_id, vcpus=vcpus, agent_socket=VMM_SOCKET,
                             arguments=["--nice", "5", *arguments], binary=binary("tests/witness/witness"),
                             timeout=60.0).control

    def wait_clock_trusted(self, bound_ns: int, timeout: float = 60.0) -> int:
        """Returns the bound that node 2's agent states once it is trusted and at most `bound_ns`."""
        deadline = time.monotonic() + timeout
        pause = threading.Event()
        while True:
            clock = self.agents[1].clock()
            if clock["trusted"] and int(clock["error_bound_ns"]) <= bound_ns:
                return int(clock["error_bound_ns"])
            if time.monotonic() > deadline:
                raise NodeError(f"node2's clock is not within {bound_ns} ns after {timeout:.0f} s: {clock}")
            pause.wait(0.3)

    def compare_clocks(self) -> TscctlResult:
        """Node 2's agent probes node 1's."""
        return patiently(lambda: tscctl("-o", "json", "clock", self.agents[1].address, self.agents[0].address))


@dataclass(frozen=True)
class Truth:
    """What really happened, by KVM's own offsets on both nodes and the measured distance of their TSCs."""

    tsc_error_ticks: list[int]      # per vCPU: guest TSC minus what it would have been, had the VM stayed
    phase_error_ticks_max: int      # largest change of the difference between two vCPUs
    tsc_error_ns: int               # the largest of tsc_error_ticks by magnitude
    kvmclock_error_ns: int
    kvmclock_uncertainty_ns: int    # half-widths of the two kvmclock readings and of the distance
    distance_error_ns: int          # how well the distance of the nodes' TSCs is known


def kvmclock_reading(offsets: dict[str, Any]) -> tuple[int, int, int]:
    """(host TSC, kvmclock in ns, half-width in ticks)"""
    clock = offsets["kvmclock"]
    if clock["host_tsc_ticks"]:
        return clock["host_tsc_ticks"], clock["ns"], 0
    half = (clock["tsc_after_ticks"] - clock["tsc_before_ticks"] + 1) // 2
    return clock["tsc_before_ticks"] + half, clock["ns"], half


def find_truth(source: dict[str, Any], destination: dict[str, Any], distance_ticks: int, distance_error_ticks: int,
               host_khz: int) -> Truth:
    """From the witnesses' "offsets" on both nodes. Node 2's TSC is node 1's plus `distance_ticks`, so a VM that had stayed
    would have the offset `source - distance` there."""
    errors = []
    for before, after in zip(source["vcpus"], destination["vcpus"], strict=True):
        assert before["id"] == after["id"]
        errors.append(signed(after["tsc_offset_ticks"] - before["tsc_offset_ticks"] + distance_ticks))
    at_source, kvmclock_source, half_source = kvmclock_reading(source)
    at_destination, kvmclock_destination, half_destination = kvmclock_reading(destination)
    passed_ticks = signed(at_destination - distance_ticks - at_source)
    kvmclock_error = kvmclock_destination - kvmclock_source - passed_ticks * 1_000_000 // host_khz

    def ns(ticks: int) -> int:
        return round(ticks * 1_000_000 / host_khz)

    return Truth(
        tsc_error_ticks=errors,
        phase_error_ticks_max=max(errors) - min(errors),
        tsc_error_ns=ns(max(errors, key=abs)),
        kvmclock_error_ns=kvmclock_error,
        kvmclock_uncertainty_ns=ns(half_source + half_destination + distance_error_ticks) + 1,
        distance_error_ns=ns(distance_error_ticks) + 1)
