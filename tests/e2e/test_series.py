"""The arithmetic by which handoffs in a row are judged, with broken ones among them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from .series import Distribution, Sample, Series, percentile

GOOD = Sample(kind="probe", blackout_ns=1_000_000, elapsed_ns=1_200_000, bound_ns=500, true_error_ns=-500,
              true_uncertainty_ns=0)


@pytest.mark.parametrize("changes, broken", [
    ({}, False),
    ({"true_error_ns": 500}, False),
    ({"true_error_ns": 501}, True),
    ({"true_error_ns": -501}, True),
    ({"true_error_ns": -501, "true_uncertainty_ns": 1}, False),
    ({"elapsed_ns": 999_500}, False),
    ({"elapsed_ns": 999_499}, True),
])
def test_a_broken_bound_is_found(changes: dict[str, Any], broken: bool) -> None:
    sample = dataclasses.replace(GOOD, **changes)
    series = Series(seed=1, samples=[GOOD, sample], refusals={})
    assert series.broken() == ([sample] if broken else [])
    assert len(series.as_json()["broken"]) == broken


@pytest.mark.parametrize("values, percent, expected", [
    ([7], 50, 7), ([7], 99, 7),
    ([3, 1, 2], 50, 2), ([4, 3, 2, 1], 50, 2), ([1, 2, 3, 4], 99, 4),
    (range(1, 101), 50, 50), (range(1, 101), 99, 99), (range(1, 201), 99, 198),
])
def test_percentiles(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == expected


def test_kinds_are_told_apart() -> None:
    slack = dataclasses.replace(GOOD, kind="other", bound_ns=2000, true_error_ns=0)
    kinds = Series(seed=1, samples=[GOOD, slack, slack], refusals={}).distributions()
    assert kinds == {"probe": Distribution(1, 500, 500, 500, 500, 1, 1, 1),
                     "other": Distribution(2, 2000, 2000, 0, 0, 2000, 2000, 0)}
    assert list(Series(seed=1, samples=[GOOD], refusals={}).distributions()) == ["probe"]
