"""./run demo --qemu fails when something that must hold does not: one row for each."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from .evidence import Step
from .qemu_evidence import Case, QemuEvidence, Run, qemu_as_text, qemu_failures

HANDOFF = Run(phase_error_ticks=0, time_error_us=-20.5, bound_us=20.5, guest_warps=0, warp_largest_ticks=0,
              guest_backward_steps=0, became_unstable=False, downtime_ms=140.0, added_downtime_ms=50.0, held=True)
PLAIN = dataclasses.replace(HANDOFF, time_error_us=-97_531.25, bound_us=None, downtime_ms=98.0, added_downtime_ms=0.0)
PLAIN_OUT = dataclasses.replace(PLAIN, phase_error_ticks=200_000, guest_warps=1234, warp_largest_ticks=199_999)
IN_PHASE = Case(2, (), (PLAIN,), (HANDOFF,))
OUT_OF_PHASE = Case(4, ((1, 200_000),), (PLAIN_OUT, PLAIN_OUT), (HANDOFF, HANDOFF))


def evidence(*cases: Case) -> QemuEvidence:
    return QemuEvidence("7.2.22", "tsc", 0.1, list(cases), [Step("boot", 1.0)])


def test_good_evidence_passes_and_shows_both_columns() -> None:
    good = evidence(IN_PHASE, OUT_OF_PHASE)
    assert qemu_failures(good) == []
    text = qemu_as_text(good)
    for words in ("PASSED", "plain QEMU", "with the handoff", "2 vCPUs, TSCs in phase", "-97 531.2 us", "+-20.5 us",
                  "4 vCPUs, vCPU 1 put 200 000 ticks ahead", "200 000 ticks", "2 468, up to 199 999 ticks", "50.0 ms"):
        assert words in text, words


@pytest.mark.parametrize("changes, words", [
    ({"phase_error_ticks": 1}, "changed by 1 ticks"),
    ({"time_error_us": 20.6}, "more than the stated"),
    ({"time_error_us": -20.6}, "more than the stated"),
    ({"bound_us": None}, "no error bound"),
    ({"guest_warps": 1}, "1 warps"),
    ({"guest_backward_steps": 2}, "go back 2 times"),
    ({"became_unstable": True}, "unstable"),
    ({"held": False}, "after the agent"),
])
def test_each_broken_promise_of_the_handoff_fails(changes: dict[str, Any], words: str) -> None:
    broken = dataclasses.replace(IN_PHASE, handoff=(HANDOFF, dataclasses.replace(HANDOFF, **changes)))
    failures = qemu_failures(evidence(broken))
    assert len(failures) == 1 and words in failures[0] and "2 vCPUs, TSCs in phase, handoff" in failures[0]
    assert "FAILED" in qemu_as_text(evidence(broken))


@pytest.mark.parametrize("changes, words", [
    ({"time_error_us": -20.0}, "QEMU counts it now?"),
    ({"phase_error_ticks": 0}, "kept the phase"),
    ({"guest_warps": 0}, "no warp"),
])
def test_a_comparison_that_shows_nothing_fails(changes: dict[str, Any], words: str) -> None:
    broken = dataclasses.replace(OUT_OF_PHASE, plain=(dataclasses.replace(PLAIN_OUT, **changes),))
    failures = qemu_failures(evidence(broken))
    assert len(failures) == 1 and words in failures[0] and "plain QEMU" in failures[0]


def test_the_json_report_carries_both_columns() -> None:
    report = json.loads(json.dumps(evidence(IN_PHASE, OUT_OF_PHASE).as_json()))
    assert report["plain"]["phase_error_ticks_max"] == 200_000 and report["handoff"]["phase_error_ticks_max"] == 0
    assert report["plain"]["time_error_us"] == -97_531.25 and report["handoff"]["time_error_us"] == -20.5
    assert report["plain"]["guest_warps"] == 2468 and report["handoff"]["guest_warps"] == 0
    assert report["plain"]["added_downtime_ms"] == 0 and report["handoff"]["added_downtime_ms"] == 50.0
    assert [len(case["handoff"]["runs"]) for case in report["cases"]] == [1, 2]
    assert report["failures"] == []
