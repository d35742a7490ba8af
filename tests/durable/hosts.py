"""Two simulated hosts whose parts are processes of their own, so that each can be killed: an agent, and VMMs in groups.

All processes share the machine's CLOCK_MONOTONIC as true time. Not thread-safe, but for restart_agent and start_group,
with which one other thread may replace what was killed while this one looks at the rest.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..programs import LabError, SimAgent, binary
from ..programs.lab_tls import environment_for

GROUPS = 4
VMS_OF_GROUP = 50
VMS = GROUPS * VMS_OF_GROUP
VCPUS = 2
# How far a vCPU's TSC is ahead of the one before, where a VM starts; 0 where it only waits for one.
PHASE_TICKS = 700
# An agent refuses to apply what it cannot vouch for to this bound.
MOST_ERROR_NS = 1_000_000
PATIENCE_S = 30.0
# What a VMM says when its VM arrived at the one that was killed before it.
DIED_WITH_ITS_VMM = "arrived at an earlier VMM"


@dataclass(frozen=True)
class Permit:
    may_run: bool
    why: str


@dataclass(frozen=True)
class Tscs:
    """A VM's TSCs at one instant of true time, as KVM has them."""

    true_ns: int
    khz: int
    ticks: tuple[int, ...]

    @property
    def phases(self) -> tuple[int, ...]:
        return tuple((ticks - self.ticks[0]) % (1 << 64) for ticks in self.ticks)

    def error_ns(self, before: Tscs) -> float:
        """By how much they are ahead of what they would be, had the VM of `before` stayed where it was."""
        passed = (self.true_ns - before.true_ns) * before.khz // 1_000_000
        error = (self.ticks[0] - before.ticks[0] - passed + (1 << 63)) % (1 << 64) - (1 << 63)
        return error * 1e6 / before.khz


def wait_until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"not within {PATIENCE_S:.0f} s: {what}")
        pause.wait(0.02)


class Host:
    """`word` is sim_agent's HOST, `config` the file of --agent-config. The agent keeps journal, address and socket when it is
    started again."""

    def __init__(self, directory: Path, word: str, *, awaits_handoff: bool, groups: int = GROUPS,
                 vms_of_group: int = VMS_OF_GROUP, config: Path | None = None) -> None:
        self._word = word
        self._config = config
        self._vms_of_group = vms_of_group
        self._journal = directory / "journal.db"
        self._socket = directory / "vmm.sock"
        self.agent = self._start_agent(port=0)
        self.address = self.agent.addresses[0]
        self.groups: list[SimAgent | None] = [self._start_group(i, awaits_handoff) for i in range(groups)]

    @property
    def vms(self) -> int:
        return len(self.groups) * self._vms_of_group

    def close(self) -> None:
        for part in [*self.groups, self.agent]:
            if part is not None:
                part.kill()

    def _start_agent(self, port: int) -> SimAgent:
        settings = ["--agent-config", str(self._config), "--log-level", "error"] if self._config else []
        return SimAgent("--role", "agent", "--host", f"{self._word}:journal={self._journal}:port={port}",
                        "--vmm-socket", str(self._socket), *settings)

    def _start_group(self, number: int, awaits_handoff: bool) -> SimAgent:
        kind = ["--awaits-handoff"] if awaits_handoff else ["--phase-step", str(PHASE_TICKS)]
        return SimAgent("--role", "vmms", "--host", self._word, "--vmm-socket", str(self._socket), "--vms",
                        str(self._vms_of_group), "--vcpus", str(VCPUS), "--vm-prefix", f"vm-{number}-", *kind)

    def restart_agent(self) -> None:
        """What a supervisor does when it has died."""
        self.agent = self._start_agent(port=int(self.address.rpartition(":")[2]))

    def kill_group(self, number: int) -> None:
        group, self.groups[number] = self.groups[number], None
        assert group is not None
        group.kill()

    def start_group(self, number: int, *, awaits_handoff: bool) -> None:
        self.groups[number] = self._start_group(number, awaits_handoff)

    def permits_by_group(self) -> list[dict[str, Permit]]:
        """What the VMMs hold; nothing of a group that is being replaced. Asks no agent."""
        answers = [group.request("permits")["vms"] if group is not None else [] for group in self.groups]
        return [{vm["vm"]: Permit(vm["may_run"], vm["why"]) for vm in vms} for vms in answers]

    def permits(self) -> dict[str, Permit]:
        return {vm: permit for group in self.permits_by_group() for vm, permit in group.items()}

    def truth(self) -> dict[str, Tscs]:
        found = {}
        for group in self.groups:
            assert group is not None
            answer = group.request("truth")
            for vm in answer["vms"]:
                ticks = tuple(vcpu["guest_tsc_ticks"] for vcpu in vm["vcpus"])
                found[vm["vm"]] = Tscs(answer["true_ns"], vm["guest_khz"], ticks)
        return found

    def run_all(self) -> int:
        """Lets every VM run that may, and pauses it again; how many did."""
        count = 0
        for group in self.groups:
            assert group is not None
            count += int(group.request("resume")["count"])
            group.request("pause")
        return count

    def ask(self, *arguments: str) -> dict[str, Any]:
        """Of the agent, by tscctl."""
        done = subprocess.run([binary("client/tscctl/tscctl"), "--agent", self.address, "-o", "json", *arguments],
                              capture_output=True, text=True, timeout=60, env=environment_for([self.address]))
        if done.returncode != 0:
            raise LabError(f"tscctl {' '.join(arguments)}: {done.stderr}")
        return dict(json.loads(done.stdout))

    def wait_registered(self) -> None:
        wait_until(f"{self.vms} VMs at {self.address}", lambda: int(self.ask("host")["host"]["vm_count"]) >= self.vms)

    def pending(self) -> list[str]:
        handoffs = self.ask("handoffs", "--pending").get("handoffs", [])
        return [f"{handoff['vm_id']}: {handoff['side']} {handoff['state']}" for handoff in handoffs]


class Evacuation:
    """`tscctl evacuate` of all VMs, 16 at a time, under way; its output goes to files in `directory`."""

    def __init__(self, source: Host, destination: Host, directory: Path) -> None:
        self._out = (directory / "evacuate.out").open("w+")
        self._err = (directory / "evacuate.err").open("w+")
        self.process = subprocess.Popen(evacuate_command(source, destination, "--parallel", "16"), stdin=subprocess.DEVNULL,
                                        stdout=self._out, stderr=self._err, env=environment_for([source.address]))

    def finish(self) -> tuple[int, str, str]:
        """Kills it if it is still there. Status, stdout, stderr."""
        self.process.kill()
        status = self.process.wait()
        texts = []
        for file in (self._out, self._err):
            file.seek(0)
            texts.append(file.read())
            file.close()
        return status, texts[0], texts[1]


def evacuate_command(source: Host, destination: Host, *more: str) -> list[str]:
    return [str(binary("client/tscctl/tscctl")), "evacuate", "--from", source.address, "--to", destination.address,
            *more]
