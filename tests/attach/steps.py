"""The failpoints of an injection, in the order in which it comes to them, and what they mean for who dies there."""

from __future__ import annotations

import pytest

STEPS = ("prepared", "stopped", "stub_written", "redirected", "mapped", "payload_written", "told_to_go", "running", "ran",
         "removing", "unmapped", "mask_restored", "registers_restored", "detached", "stub_cleared")
# For parametrize: before the job, in it and after it in the usual run, the others with --all.
_USUAL = ("mapped", "running", "registers_restored")
EACH_STEP = [pytest.param(step, marks=() if step in _USUAL else pytest.mark.slow) for step in STEPS]
FAILPOINTS = tuple(f"attach.{step}" for step in STEPS)


def writes_all(step: str) -> bool:
    """Whether an apply is carried out though the process that attached dies at this step: once the thread was told to go,
    it runs the job to its end by itself. Before that nothing is written."""
    return STEPS.index(step) >= STEPS.index("told_to_go")
