"""Handoffs of a running VM between two hosts with real KVM, and what goes wrong with them."""

from __future__ import annotations

import itertools
import pathlib

import pytest

from ..demo.lab import JOURNAL, Lab, Truth, TscctlResult, find_truth, kvmclock_reading, patiently, signed, tscctl
from ..demo.real import adjusts, phases, witness_arguments
from ..witness import WitnessControl
from .support import error_of, listed, wait_for

ROUNDS = 50
_numbers = itertools.count(1)


class Pair:
    """A witness on node 1 and an empty one of the same name on node 2."""

    def __init__(self, lab: Lab, vcpus: int, arguments: list[str]) -> None:
        self.lab = lab
        self.vm_id = f"vm-{next(_numbers)}"
        self.source: WitnessControl = lab.witness(0, self.vm_id, vcpus, ["--paused", *arguments])
        shape = [argument for argument in arguments if argument.startswith("--vcpu-ids")]
        self.destination: WitnessControl = lab.witness(1, self.vm_id, vcpus, ["--incoming", *shape])

    def run_on(self, witness: WitnessControl) -> None:
        witness.resume()
        witness.wait_rounds(ROUNDS)

    def move_memory(self) -> None:
        path = f"/exchange/{self.vm_id}.snapshot"
        self.source.pause()
        self.source.save(path)
        self.destination.load(path)

    def handoff(self, *options: str) -> TscctlResult:
        return self._handoff(0, 1, *options)

    def handoff_back(self) -> TscctlResult:
        return self._handoff(1, 0)

    def _handoff(self, source: int, destination: int, *options: str) -> TscctlResult:
        agents = self.lab.agents
        return patiently(lambda: tscctl("-o", "json", "handoff", self.vm_id, "--from", agents[source].address, "--to",
                                        agents[destination].address, *options))

    def truth(self) -> Truth:
        source, destination = self.source.offsets(), self.destination.offsets()
        distance = self.lab.cluster.tsc_distance()
        return find_truth(source, destination, distance.distance_ticks, distance.error_ticks,
                          self.lab.cluster.nodes[0].tsc_khz())

    def quit(self) -> None:
        for witness in (self.source, self.destination):
            witness.quit()


def test_unequal_phases_and_adjusts_arrive_exactly(lab: Lab) -> None:
    pair = Pair(lab, 4, witness_arguments(4))
    pair.run_on(pair.source)
    pair.move_memory()
    result = pair.handoff().json
    truth = pair.truth()
    assert truth.phase_error_ticks_max == 0
    assert result["phase_error_ticks"] == 0
    assert abs(truth.tsc_error_ns) <= result["error_bound_ns"]
    assert abs(truth.kvmclock_error_ns) <= result["error_bound_ns"] + truth.kvmclock_uncertainty_ns
    before, after = pair.source.offsets()["vcpus"], pair.destination.offsets()["vcpus"]
    for i, vcpu in enumerate(after):
        assert signed(vcpu["tsc_adjust_ticks"]) == adjusts(4)[i]
        assert vcpu["tsc_offset_ticks"] == vcpu["debugfs_offset_ticks"], "the kernel's two views differ"
        assert signed(before[i]["tsc_offset_ticks"] - before[0]["tsc_offset_ticks"]) == phases(4)[i]
    pair.run_on(pair.destination)
    pair.destination.pause()
    verdict = pair.destination.verdict()
    assert verdict.content, verdict
    pair.quit()


def test_equal_offsets_stay_equal_and_keep_the_master_clock(lab: Lab) -> None:
    pair = Pair(lab, 4, [])
    pair.run_on(pair.source)
    pair.move_memory()
    pair.handoff().json  # noqa: B018 - raises unless it succeeded
    pair.run_on(pair.destination)
    pair.destination.pause()
    truth = pair.truth()
    assert truth.phase_error_ticks_max == 0
    offsets = {vcpu["tsc_offset_ticks"] for vcpu in pair.destination.offsets()["vcpus"]}
    assert len(offsets) == 1
    # Both sides have the kernel's own pair now, which is what the master clock gives.
    for witness in (pair.source, pair.destination):
        assert kvmclock_reading(witness.offsets())[2] == 0, "no KVM_CLOCK_HOST_TSC: the master clock is off"
    difference = abs(truth.kvmclock_error_ns - truth.tsc_error_ns)
    assert difference <= 1000, f"TSC and kvmclock moved apart by {difference} ns: {truth}"
    assert pair.destination.verdict().content
    pair.quit()


def test_there_and_back_again(lab: Lab) -> None:
    """Two handoffs in a row: errors do not add up beyond what was stated, phase stays exact."""
    pair = Pair(lab, 2, ["--phase-ticks=0,-123456789"])
    pair.run_on(pair.source)
    start = pair.source
    pair.move_memory()
    stated = pair.handoff().json["error_bound_ns"]
    pair.run_on(pair.destination)
    pair.destination.pause()
    before = start.offsets()
    back = pair.handoff_back().json
    after = start.offsets()
    errors = [signed(b["tsc_offset_ticks"] - a["tsc_offset_ticks"])
              for a, b in zip(before["vcpus"], after["vcpus"], strict=True)]
    assert errors[0] == errors[1], "phase"
    assert abs(errors[0]) * 1_000_000 // lab.cluster.nodes[0].tsc_khz() <= stated + back["error_bound_ns"]
    pair.quit()


def test_sparse_vcpu_ids_are_kept(lab: Lab) -> None:
    pair = Pair(lab, 3, ["--vcpu-ids=0,2,5", "--phase-ticks=0,1000,-1000"])
    pair.run_on(pair.source)
    pair.move_memory()
    result = pair.handoff().json
    assert [vcpu["vcpu_id"] for vcpu in result["vcpus"]] == [0, 2, 5]
    assert pair.truth().phase_error_ticks_max == 0
    pair.quit()


def test_exact_mode_gives_back_the_captured_values(lab: Lab, tmp_path: pathlib.Path) -> None:
    pair = Pair(lab, 2, ["--phase-ticks=0,777"])
    pair.run_on(pair.source)
    pair.source.pause()
    file = str(tmp_path / "state")
    agent = ["--agent", lab.agents[0].address]
    assert tscctl(*agent, "get", pair.vm_id, "--out", file).status == 0
    captured = {vcpu["vcpu_id"]: int(vcpu["guest_tsc_ticks"]) for vcpu in tscctl("-o", "json", "decode", file).json["vcpus"]}
    result = tscctl("-o", "json", *agent, "set", pair.vm_id, "--in", file, "--mode", "exact").json
    assert {vcpu["vcpu_id"]: int(vcpu["guest_tsc_ticks"]) for vcpu in result["vcpus"]} == captured
    pair.quit()


def test_a_damaged_state_file_is_refused(lab: Lab, tmp_path: pathlib.Path) -> None:
    pair = Pair(lab, 1, [])
    file = tmp_path / "state"
    agent = ["--agent", lab.agents[0].address]
    assert tscctl(*agent, "get", pair.vm_id, "--out", str(file)).status == 0
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    before = pair.source.offsets()["vcpus"]
    result = tscctl("-o", "json", *agent, "set", pair.vm_id, "--in", str(file), "--mode", "exact")
    assert result.status in (1, 5) and "STATE_CORRUPT" in result.stderr, result
    assert pair.source.offsets()["vcpus"] == before
    pair.quit()


def test_a_running_vm_is_refused_by_name_and_not_disturbed(lab: Lab) -> None:
    pair = Pair(lab, 2, [])
    pair.run_on(pair.source)
    error = error_of(pair.handoff())
    assert error["reason"] == "VM_RUNNING"
    pair.source.wait_rounds(ROUNDS)
    pair.source.pause()
    assert pair.source.verdict().content
    pair.quit()


def test_another_number_of_vcpus_is_refused_before_anything_is_written(lab: Lab) -> None:
    source = lab.witness(0, "three", 3, ["--paused"])
    destination = lab.witness(1, "two", 2, ["--incoming"])
    before = destination.offsets()["vcpus"]
    result = tscctl("-o", "json", "handoff", "three", "--to-vm", "two", "--from", lab.agents[0].address, "--to",
                    lab.agents[1].address)
    error = error_of(result)
    assert error["reason"] == "VCPU_SET_MISMATCH"
    assert error["metadata"]["vcpu_id"] == "2"
    assert destination.offsets()["vcpus"] == before
    source.quit()
    destination.quit()


def test_an_unknown_vm_is_refused(lab: Lab) -> None:
    error = error_of(tscctl("-o", "json", "--agent", lab.agents[0].address, "get", "nobody"))
    assert error["reason"] == "VM_NOT_FOUND"
    assert error["next_step"]


def test_a_killed_vmm_is_forgotten(lab: Lab) -> None:
    lab.witness(0, "doomed", 2, ["--paused"])
    pid = listed(lab, 0)["doomed"]["vmm_pid"]
    lab.cluster.nodes[0].run(["sh", "-c", 'kill -9 "$1"', "sh", str(pid)])  # procps may not be there
    wait_for(lambda: "doomed" not in listed(lab, 0), "the agent forgets the VM")


def test_a_vm_is_found_again_after_its_agent_restarted(lab: Lab) -> None:
    witness = lab.witness(0, "faithful", 2, ["--paused", "--phase-ticks=0,4242"])
    agent = lab.agents[0]
    before = witness.offsets()["vcpus"]
    agent.process.kill()
    agent.process.wait()
    agent.restart()
    agent.wait_serving()
    wait_for(lambda: "faithful" in listed(lab, 0), "the witness registers again")
    state = tscctl("-o", "json", "--agent", agent.address, "get", "faithful").json
    assert state["summary"]["phase_spread_ticks"] == "4242"
    assert witness.offsets()["vcpus"] == before
    witness.quit()


@pytest.mark.parametrize(("journal", "says"), [
    ("/run/another/journal.db", "another tsc-agent already serves"),
    (JOURNAL, "another agent has the journal"),
], ids=["sockets", "journal"])
def test_a_second_agent_takes_nothing_away(lab: Lab, journal: str, says: str) -> None:
    agent = lab.agents[0]
    arguments = [journal if argument == JOURNAL else argument for argument in agent.process.argv]
    done = agent.node.run([*arguments, "--metrics", ""], timeout=20, check=False)
    assert done.returncode == 1
    assert says in done.stderr
    agent.wait_serving()


def test_the_guest_notices_a_disturbed_tsc(lab: Lab) -> None:
    """The witness's own negative control: without it, "no backward step" would prove nothing."""
    witness = lab.witness(0, "disturbed", 2, ["--paused"])
    witness.resume()
    witness.wait_rounds(ROUNDS)
    witness.pause()
    witness.disturb(1, -50_000_000)
    witness.resume()
    witness.wait_rounds(ROUNDS)
    witness.pause()
    verdict = witness.verdict()
    assert verdict.backward_steps > 0 or verdict.warps > 0
    witness.quit()
