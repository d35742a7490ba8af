"""Two nodes for all tests of this directory, fit for Linux guests, with agents that attach."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..demo.lab import Lab
from ..demo.qemu import AGENT_ARGUMENTS, Comparison
from ..guest.anchor import anchor


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    with Lab(agent_arguments=AGENT_ARGUMENTS, tcg_thread="multi") as lab:
        anchor(lab.cluster.nodes)
        yield lab


@pytest.fixture(scope="session")
def comparison(lab: Lab) -> Comparison:
    return Comparison(lab)
