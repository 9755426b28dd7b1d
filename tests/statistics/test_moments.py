"""Means and variances, at once or one value at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.statistics.moments import Moments

samples = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


@given(values=samples)
def test_adding_one_by_one_gives_the_moments_of_all(values: list[float]) -> None:
    at_once, one_by_one = Moments.of(values), Moments()
    for x in values:
        one_by_one = one_by_one.add(x)
    scale = max(abs(x) for x in values)

    assert one_by_one.n == at_once.n
    assert one_by_one.mean == pytest.approx(at_once.mean, rel=1e-9, abs=1e-12 * scale)
    assert one_by_one.m2 == pytest.approx(at_once.m2, rel=1e-6, abs=max(1e-12 * scale**2, 1e-300))  # or subnormal


def test_variances_are_numpys() -> None:
    moments = Moments.of([1.0, 2.0, 3.0, 4.0])

    assert moments.variance() == np.var([1, 2, 3, 4])
    assert moments.variance(ddof=1) == np.var([1, 2, 3, 4], ddof=1)


def test_domains() -> None:
    for refused, message in (
        (lambda: Moments.of([]), "values: 0 values, expected 1"),
        (lambda: Moments(-1), "n: -1, expected 0"),
        (lambda: Moments().add(float("inf")), "x: inf is not a finite number"),
        (lambda: Moments(m2=-7.0), "m2: -7.0 is outside"),
        (lambda: Moments.of([1.0]).variance(ddof=1), "n: 1, expected 2"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
