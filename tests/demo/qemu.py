"""A stock QEMU's guest, live-migrated between two nodes with real KVM: by QEMU alone, and with the handoff."""

from __future__ import annotations

from collections.abc import Sequence

from ..guest.anchor import anchor
from ..guest.pair import MigratingGuest, Migration
from .lab import Lab
from .qemu_evidence import Case, QemuEvidence, Run
from .steps import Steps

# Between nodes whose network and clocks are emulated on a busy machine; the product's default is 1 ms.
AGENT_ARGUMENTS = ("--max-error", "20ms", "--attach", "on")
CLOCK_BOUND_NS = 5_000_000
# Far more than a phase error that the guest could take for noise, and so little that its kernel, which compares the TSC
# with its other clock on one CPU after the other and allows half a millisecond, does not mind.
PHASES = ((1, 800_000),)
VCPUS = (2, 4)


def run_of(migration: Migration, host_khz: int) -> Run:
    said, handoff = migration.said, migration.said["handoff"]
    return Run(
        phase_error_ticks=migration.phase_error_ticks,
        time_error_us=max(migration.tsc_error_ticks, key=abs) * 1000 / host_khz,
        bound_us=None if handoff is None or handoff["error_bound_ns"] is None else handoff["error_bound_ns"] / 1000,
        guest_warps=migration.after.warps - migration.before.warps,
        warp_largest_ticks=migration.after.warp_largest_ticks,
        guest_backward_steps=migration.after.backward_steps,
        became_unstable=migration.after.unstable != migration.before.unstable,
        downtime_ms=said["downtime_ms"], added_downtime_ms=said["added_downtime_ms"], held=migration.held)


class Comparison:
    """Migrates one guest back and forth. The distance of the hosts' TSCs never changes, so it is measured once."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._khz = lab.cluster.nodes[0].tsc_khz()
        self.distance = lab.cluster.tsc_distance()

    @property
    def truth_error_us(self) -> float:
        return self.distance.error_ticks * 1000 / self._khz

    def once(self, guest: MigratingGuest, *, plain: bool) -> Run:
        if not plain:
            self._lab.wait_clock_trusted(CLOCK_BOUND_NS)
        return run_of(guest.migrate(self.distance, plain=plain), self._khz)

    def case(self, guest: MigratingGuest, vcpus: int, times: int, phases: Sequence[tuple[int, int]]) -> Case:
        plain, handoff = [], []
        for _ in range(times):
            # Plain QEMU destroys the phases, so they are made anew.
            guest.make_phases(phases)
            handoff.append(self.once(guest, plain=False))
            plain.append(self.once(guest, plain=True))
        return Case(vcpus, tuple(phases), tuple(plain), tuple(handoff))


def run(times: int) -> QemuEvidence:
    steps = Steps()
    lab = Lab(agent_arguments=AGENT_ARGUMENTS, tcg_thread="multi")
    with steps.step("boot", "booting two nodes with real KVM (QEMU TCG), an agent in each"):
        lab.__enter__()
        anchor(lab.cluster.nodes)
    try:
        return _compare(lab, times, steps)
    finally:
        lab.__exit__(None, None, None)


def _compare(lab: Lab, times: int, steps: Steps) -> QemuEvidence:
    with steps.step("truth", "measuring the distance of the two hosts' TSCs: the ground truth"):
        comparison = Comparison(lab)
    cases = []
    version = clocksource = ""
    for vcpus in VCPUS:
        with steps.step(f"guest {vcpus}", f"booting a Linux guest with {vcpus} vCPUs in a stock QEMU on node1"):
            guest = MigratingGuest(lab, f"guest{vcpus}", vcpus)
            guest.__enter__()
        with guest:
            found = guest.guest.qmp("query-version")["qemu"]
            version = ".".join(str(found[part]) for part in ("major", "minor", "micro"))
            clocksource = guest.guest.report().clocksource
            # Out of phase less often: each such migration shows the same, to the tick.
            for phases, name, often in (((), "in phase", times), (PHASES, "out of phase", (times + 2) // 3)):
                with steps.step(f"{vcpus} {name}", f"migrating it both ways, its TSCs {name}, {often} x"):
                    cases.append(comparison.case(guest, vcpus, often, phases))
    return QemuEvidence(version, clocksource, comparison.truth_error_us, cases, steps.done)
