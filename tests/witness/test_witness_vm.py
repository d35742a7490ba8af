"""The witness on real KVM in one node: that it is content on a healthy host, and that it objects to an unhealthy one.

Without an agent: what is under test here is the witness, on which the cluster's other tests rely.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..cluster import EXCHANGE, Cluster, Node
from . import WitnessControl, WitnessError, WitnessProcess, start_witness

_MODULUS = 1 << 64
_FAR_TICKS = 1 << 45  # hours: more than the guest's TSC can have moved on between two readings


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Cluster(nodes=1) as cluster:
        yield cluster.nodes[0]


def start(node: Node, vm_id: str, *arguments: str, vcpus: int = 4) -> WitnessProcess:
    return start_witness(node, vm_id, vcpus=vcpus, agent_socket="none", arguments=arguments, timeout=60)


def relative_offsets(control: WitnessControl) -> list[int]:
    offsets = [vcpu["tsc_offset_ticks"] for vcpu in control.offsets()["vcpus"]]
    return [(offset - offsets[0]) % _MODULUS for offset in offsets]


def test_phases_and_adjust_are_what_was_asked_for(node: Node) -> None:
    process, control = start(node, "phases", "--phase-ticks", "0,1000,-2500,123456789",
                             "--tsc-adjust", "0,-77,88")
    control.wait_rounds(1000)
    control.pause()
    assert relative_offsets(control) == [0, 1000, _MODULUS - 2500, 123456789]
    for vcpu in control.offsets()["vcpus"]:
        assert vcpu["debugfs_offset_ticks"] == vcpu["tsc_offset_ticks"]
    verdict = control.verdict()
    assert verdict.content and verdict.check_across
    assert [vcpu["tsc_adjust_ticks"] for vcpu in verdict.vcpus] == [0, _MODULUS - 77, 88, 0]
    control.quit()
    assert process.wait() == 0


def test_guest_notices_a_tsc_that_went_back_and_nothing_else(node: Node) -> None:
    process, control = start(node, "back", "--vcpu-ids", "0,2,5,9", "--phase-spread", "70000")
    control.wait_rounds(100)
    control.pause()
    control.disturb(vcpu=5, ticks=-_FAR_TICKS)
    control.resume()
    control.wait_rounds(1000)
    control.pause()
    verdict = control.verdict()
    assert {vcpu["id"]: vcpu["backward_steps"] for vcpu in verdict.vcpus} == {0: 0, 2: 0, 5: 1, 9: 0}
    assert _FAR_TICKS // 2 < verdict.backward_largest_ticks <= _FAR_TICKS
    assert verdict.warps > 0 and not verdict.content
    control.quit()
    assert process.wait() == 0


def test_guest_notices_a_phase_that_was_lost(node: Node) -> None:
    """A vCPU that is set ahead never steps back itself: only the comparison across vCPUs tells."""
    process, control = start(node, "ahead")
    control.wait_rounds(100)
    control.pause()
    control.disturb(vcpu=1, ticks=_FAR_TICKS)
    control.resume()
    control.wait_rounds(1000)
    control.pause()
    verdict = control.verdict()
    assert verdict.backward_steps == 0
    assert verdict.warps > 0
    assert _FAR_TICKS // 2 < verdict.warp_largest_ticks <= _FAR_TICKS
    control.quit()
    assert process.wait() == 0


def test_saved_vm_goes_on_in_another_process(node: Node) -> None:
    source_process, source = start(node, "source", "--phase-spread", "50000", "--deadline-ticks", "2600000")
    source.wait_rounds(1000)
    source.pause()
    before = source.verdict()
    file = EXCHANGE / "vm"
    source.save(file)
    process, control = start(node, "destination", "--incoming", "--irqchip")
    with pytest.raises(WitnessError, match='send "load" first'):
        control.resume()
    control.load(file)
    assert control.verdict().vcpus == [{**vcpu, "beats": 0} for vcpu in before.vcpus]
    # Same host: the source's offsets are the right ones, and this stands in for the agent.
    wanted = [vcpu["tsc_offset_ticks"] for vcpu in source.offsets()["vcpus"]]
    for vcpu, offset in zip(control.offsets()["vcpus"], wanted, strict=True):
        control.disturb(vcpu["id"], _signed(offset - vcpu["tsc_offset_ticks"]))
    control.resume()
    control.wait_rounds(1000)
    control.pause()
    after = control.verdict()
    assert after.content
    assert after.iterations_total > before.iterations_total
    source.quit()
    control.quit()
    assert (source_process.wait(), process.wait()) == (0, 0)


def test_damaged_file_is_refused_and_a_good_one_still_loads(node: Node) -> None:
    source_process, source = start(node, "good", "--paused")
    process, control = start(node, "careful", "--incoming")
    source.save("/tmp/vm")
    good = node.read_file("/tmp/vm")
    node.write_file("/tmp/vm", good[:-1])
    with pytest.raises(WitnessError, match="truncated"):
        control.load("/tmp/vm")
    with pytest.raises(WitnessError, match="cannot open"):
        control.load("/nonexistent")
    node.write_file("/tmp/vm", good)
    control.load("/tmp/vm")
    control.resume()
    control.wait_rounds(1)
    for one in (source_process, process):
        one.terminate()
        assert one.wait() == 0


def test_64_vcpus_make_progress_and_pause(node: Node) -> None:
    process, control = start(node, "many", "--phase-spread", "1000000", vcpus=64)
    control.wait_rounds(1000, timeout=120)
    control.pause()
    verdict = control.verdict()
    assert verdict.content and len(verdict.vcpus) == 64
    control.quit()
    assert process.wait() == 0


def test_unreachable_agent_is_a_clear_refusal(node: Node) -> None:
    with pytest.raises(WitnessError, match="(?s)ended with 4: .*not registered at the agent"):
        start_witness(node, "lonely", vcpus=1, agent_socket="/run/nobody.sock",
                      arguments=["--register-timeout-ms", "500"], timeout=60)


def test_missing_kvm_is_a_clear_refusal(node: Node) -> None:
    node.run(["mv", "/dev/kvm", "/dev/kvm.away"])
    try:
        with pytest.raises(WitnessError, match="(?s)ended with 3: .*/dev/kvm"):
            start(node, "without")
    finally:
        node.run(["mv", "/dev/kvm.away", "/dev/kvm"])


def _signed(ticks: int) -> int:
    ticks %= _MODULUS
    return ticks - _MODULUS if ticks >= _MODULUS // 2 else ticks
