"""One lab of two nodes for all tests of this directory: booting it is the dear part."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..demo.lab import Lab


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    with Lab(agent_arguments=["--max-error", "20ms"]) as lab:
        lab.wait_clock_trusted(5_000_000)
        yield lab
