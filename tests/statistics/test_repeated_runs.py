"""The two parts of a variance are those of an analysis of variance, and right on average."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.statistics.repeated_runs import variance_split


def test_equal_numbers_of_runs_are_an_analysis_of_variance() -> None:
    """Mean squares of one factor by hand: within = MSW, between = (MSB - MSW) / runs."""
    rng = np.random.default_rng(1)
    values = rng.normal(0, 1, (30, 1)) + rng.normal(0, 0.5, (30, 5))
    msw = ((values - values.mean(axis=1, keepdims=True)) ** 2).sum() / (30 * 4)
    msb = 5 * ((values.mean(axis=1) - values.mean()) ** 2).sum() / 29
    split = variance_split(values.tolist())
    assert split is not None
    assert (split.within, split.between) == pytest.approx((msw, (msb - msw) / 5))
    assert (split.items, split.repeated, split.of_means) == (30, 30, pytest.approx(msw / 5))


def test_the_parts_are_right_on_average() -> None:
    """400 samples of 1 to 4 runs: each mean within 4 standard errors of the truth (1.0 and 0.25)."""
    rng, found = np.random.default_rng(2), []
    for _ in range(400):
        runs = [list(rng.normal(rng.normal(), 0.5, int(rng.integers(1, 5)))) for _ in range(40)]
        split = variance_split(runs)
        assert split is not None
        found.append((split.between, split.within))
    means, errors = np.mean(found, axis=0), np.std(found, axis=0) / 20
    assert np.all(np.abs(means - [1.0, 0.25]) < 4 * errors)


@given(st.lists(st.lists(st.floats(-100, 100), min_size=1, max_size=4), min_size=2, max_size=8))
def test_no_part_is_negative(runs: list[list[float]]) -> None:
    split = variance_split(runs)
    assert (split is None) is (max(map(len, runs)) == 1)
    if split is not None:
        assert split.between >= 0
        assert split.within >= split.of_means >= 0


def test_outside_the_domain_is_an_error() -> None:
    with pytest.raises(ValueError, match="number of items"):
        variance_split([[1.0, 2.0]])
    with pytest.raises(ValueError, match="runs of an item"):
        variance_split([[1.0], []])
