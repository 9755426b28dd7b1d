"""Rates of detectors from weighted calls."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.statistics.detection import (
    PartSums,
    ShareEstimate,
    WeightSums,
    recall,
    share_of_calls,
)
from gateway.statistics.paired import wilson


@given(st.integers(0, 60), st.integers(1, 60))
def test_equal_weights_give_the_plain_interval(hits: int, others: int) -> None:
    found = share_of_calls(WeightSums(hits, hits), WeightSums(others, others))
    assert (found.low, found.high) == pytest.approx(wilson(hits, hits + others, 0.05), abs=1e-9)


WEIGHTED = st.lists(st.tuples(st.booleans(), st.floats(1, 1000)), min_size=1, max_size=50)


@given(WEIGHTED)
def test_a_share_is_inside_its_interval(calls: list[tuple[bool, float]]) -> None:
    these, others = (
        WeightSums(sum(w), sum(x * x for x in w))
        for w in ([x for h, x in calls if h == kind] for kind in (True, False))
    )
    found = share_of_calls(these, others)
    assert 0 <= found.low <= found.share + 1e-9
    assert found.share - 1e-9 <= found.high <= 1
    assert found.share == pytest.approx(sum(w for h, w in calls if h) / sum(w for _, w in calls))


@pytest.mark.parametrize("pi", [1.0, 0.1])
def test_the_interval_of_the_share_of_hits_covers_it(pi: float) -> None:
    """4 000 samples of 2 000 calls, of which 3 % have a hit and are always recorded, the others with π."""
    rng = np.random.default_rng(7)
    hits = rng.binomial(2000, 0.03, 4000)
    kept = rng.binomial(2000 - hits, pi)
    found = [share_of_calls(WeightSums(h, h), WeightSums(k / pi, k / pi**2)) for h, k in zip(hits, kept, strict=True)]
    assert np.mean([each.low <= 0.03 <= each.high for each in found]) >= 0.935


SHARES = st.tuples(st.floats(0, 1), st.integers(1, 200)).map(
    lambda x: ShareEstimate(x[0], *wilson(x[0] * x[1], x[1], 0.05))
)
PARTS = st.tuples(st.floats(1, 1e5), st.floats(1, 50), SHARES).map(
    lambda x: PartSums(WeightSums(x[0], x[0] * x[1]), x[2])
)


@given(PARTS, st.lists(PARTS, max_size=3))
def test_recall_is_inside_its_interval(hits: PartSums, others: list[PartSums]) -> None:
    found = recall(hits, others)
    if found is not None:
        assert 0 <= found.low <= found.share <= found.high <= 1


def test_recall_without_a_miss_has_an_upper_end_of_one() -> None:
    right = ShareEstimate(0.8, *wilson(32, 40, 0.05))
    nothing = ShareEstimate(0.0, *wilson(0, 300, 0.05))
    found = recall(PartSums(WeightSums(1000, 1000), right), [PartSums(WeightSums(9000, 9000), nothing)])
    assert found is not None
    assert (found.share, found.high) == (1.0, 1.0)
    assert 0.80 < found.low < 0.90
    none = ShareEstimate(0.0, *wilson(0, 40, 0.05))
    assert recall(PartSums(WeightSums(10, 10), none), [PartSums(WeightSums(10, 10), none)]) is None


def test_rarely_recorded_calls_have_a_wider_interval() -> None:
    hits, often, rarely = WeightSums(50, 50), WeightSums(950, 950), WeightSums(950, 95_000)
    assert share_of_calls(hits, rarely).high > share_of_calls(hits, often).high
    assert (often.se, rarely.se) == (0.0, pytest.approx(306.7, abs=0.1))


def test_domains_of_a_share() -> None:
    with pytest.raises(ValueError, match="weight"):
        share_of_calls(WeightSums(), WeightSums())
    with pytest.raises(ValueError, match="squares"):
        WeightSums(1.0, -1.0)
