"""Means and variances, one value at a time, merged, or from sums."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.evals.statistics.moments import Moments

samples = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


@given(values=samples, cut=st.integers(0, 30))
def test_any_way_of_counting_gives_the_same(values: list[float], cut: int) -> None:
    whole, one_by_one, parts = Moments.of(values), Moments(), [Moments(), Moments()]
    for i, x in enumerate(values):
        one_by_one = one_by_one.add(x)
        parts[i >= cut] = parts[i >= cut].add(x)
    scale = max(abs(x) for x in values)

    for other in (one_by_one, parts[0].merge(parts[1]), parts[1].merge(parts[0])):
        assert other.n == whole.n
        assert other.mean == pytest.approx(whole.mean, rel=1e-9, abs=1e-12 * scale)
        assert other.m2 == pytest.approx(whole.m2, rel=1e-6, abs=1e-12 * scale**2)


def test_variances_and_sums() -> None:
    moments = Moments.from_sums(4, 10.0, 30.0)

    assert moments == Moments.of([1.0, 2.0, 3.0, 4.0])
    assert moments.variance() == np.var([1, 2, 3, 4])
    assert moments.variance(ddof=1) == np.var([1, 2, 3, 4], ddof=1)
    assert Moments.from_sums(3, 0.3, 0.03 * (1 - 1e-12)).m2 == 0.0
    assert Moments().merge(Moments()).n == 0


def test_domains() -> None:
    for refused, message in (
        (lambda: Moments.of([]), "values: 0 values, expected 1"),
        (lambda: Moments(-1), "n: -1, expected 0"),
        (lambda: Moments().add(float("inf")), "x: inf is not a finite number"),
        (lambda: Moments.from_sums(2, 4.0, 1.0), "m2: -7.0 is outside"),
        (lambda: Moments.from_sums(0, 0.0, 0.0), "n: 0, expected 1"),
        (lambda: Moments.of([1.0]).variance(ddof=1), "n: 1, expected 2"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
