"""The handoff's protocol (handoff.pml), checked by spin: every state that can be reached, and every way to go on for ever.

Each planted mistake must be found: a checker that cannot fail proves nothing.
"""

import re
import subprocess
from pathlib import Path

import pytest

MODEL = Path(__file__).with_name("handoff.pml")
MEMORY_MB = 2000
DEPTH = 2_000_000

ONE = "SCOPE_ONE"
BACK = "SCOPE_BACK"
AGAIN = "SCOPE_AGAIN"
RECLAIM = "SCOPE_RECLAIM"


class Verdict:
    """What spin's verifier said."""

    def __init__(self, output: str) -> None:
        self.output = output
        self.errors = int(re.search(r"errors: (\d+)", output)[1])
        self.states = int(float(re.search(r"([\d.e+]+) states, stored", output)[1]))
        self.complete = not re.search(r"max search depth too small|out of memory|Search not completed", output)
        violated = re.search(r"assertion violated (.*) \(at depth|(acceptance cycle)", output)
        self.violated = (violated[1] or violated[2]) if violated else ""


def check(directory: Path, scope: str, *defines: str, liveness: bool = False) -> Verdict:
    """Explores the model; stops at the first violation."""
    lines = [f"#define {define.replace('=', ' ', 1)}" for define in (scope, *defines, *(["LIVENESS"] if liveness else []))]
    (directory / "model.pml").write_text("\n".join([*lines, f'#include "{MODEL}"', ""]))
    options = ["-DNOCLAIM", "-DSAFETY", "-DCOLLAPSE"]
    arguments = [f"-m{DEPTH}"]
    if liveness:
        # Weak fairness: whoever can always make a step makes one at some time. NFAIR is for up to 62 processes.
        options = ["-DNFAIR=3"]
        arguments += ["-a", "-f"]
    subprocess.run(["spin", "-a", "model.pml"], cwd=directory, check=True, timeout=60)
    subprocess.run(
        ["gcc", "-O2", "-w", f"-DMEMLIM={MEMORY_MB}", *options, "-o", "pan", "pan.c"], cwd=directory, check=True, timeout=120
    )
    run = subprocess.run(["./pan", *arguments], cwd=directory, capture_output=True, text=True, timeout=600)
    verdict = Verdict(run.stdout)
    print(f"{scope} {' '.join(defines)}: {verdict.states:,} states, {verdict.violated or 'no violation'}")
    return verdict


@pytest.mark.parametrize(
    ("scope", "lost", "at_least"), [(ONE, 2, 100_000), (BACK, 2, 400_000), (AGAIN, 1, 1_000_000), (RECLAIM, 2, 100_000)]
)
def test_nothing_bad_happens(tmp_path: Path, scope: str, lost: int, at_least: int) -> None:
    verdict = check(tmp_path, scope, f"MAX_LOST={lost}")
    assert verdict.errors == 0, verdict.output
    assert verdict.complete, verdict.output
    assert verdict.states > at_least


def test_a_fair_orchestrator_always_ends_it(tmp_path: Path) -> None:
    verdict = check(tmp_path, ONE, "MAX_LOST=1", liveness=True)
    assert verdict.errors == 0, verdict.output
    assert verdict.complete, verdict.output
    assert verdict.states > 100_000


@pytest.mark.parametrize(
    ("scope", "state"),
    [
        (ONE, "permit[B] && dst[0] == ACTIVE"),
        (ONE, "permit[A] && src[0] == ABORTED && dst[0] == ABORTED && restored[0] && lost == 2"),
        (ONE, "src[0] == RELEASED && dst[0] == EMPTY && lost == 2"),
        (ONE, "src[0] == RELEASED && dst[0] == APPLYING && doing[B] == IDLE"),
        (BACK, "permit[A] && dst[1] == ACTIVE && dst[0] == NONE && src[0] == RELEASED"),
        (AGAIN, "permit[B] && dst[1] == ACTIVE && src[0] == ABORTED"),
        (RECLAIM, "reclaimed && permit[A] && dst[0] == ACTIVE"),
    ],
)
def test_what_should_be_reached_is_reached(tmp_path: Path, scope: str, state: str) -> None:
    verdict = check(tmp_path, scope, f"NEVER=({state})")
    assert verdict.errors == 1, f"the model never reaches {state}"


@pytest.mark.parametrize(
    ("scope", "mistake"),
    [
        (BACK, "ACCEPTS_LOWER_EPOCH"),
        (ONE, "COMMITS_WITHOUT_PROOF"),
        (ONE, "ABORTS_WITHOUT_PROOF"),
        (ONE, "KEEPS_PERMIT_AT_CAPTURE"),
        (ONE, "FORGETS_TO_UNDO"),
        (ONE, "TAKES_INTENT_FOR_DEED"),
        (ONE, "COMMITS_ANOTHER_VMM"),
        (ONE, "DECIDES_TWICE"),
        (ONE, "RELEASES_IN_MEMORY_ONLY"),
        (AGAIN, "APPLIES_OVER_WHAT_IS_NOT_RESTORED"),
        (RECLAIM, "RECLAIMS_WITHOUT_ASKING"),
    ],
)
def test_a_planted_mistake_is_found(tmp_path: Path, scope: str, mistake: str) -> None:
    verdict = check(tmp_path, scope, f"MISTAKE_{mistake}")
    assert verdict.errors == 1, f"spin did not find {mistake}"
    assert verdict.violated


@pytest.mark.parametrize("mistake", ["DROPS_STATE_WHEN_RELEASED", "LEAVES_APPLYING_AFTER_A_CRASH"])
def test_a_planted_dead_end_is_found(tmp_path: Path, mistake: str) -> None:
    verdict = check(tmp_path, ONE, "MAX_LOST=1", f"MISTAKE_{mistake}", liveness=True)
    assert verdict.errors == 1, f"spin did not find {mistake}"
    assert verdict.violated == "acceptance cycle"
