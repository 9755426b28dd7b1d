"""Quantiles of any distribution, looked at after every value."""

import functools
import math

import numpy as np
import pytest
from fixtures.simulation_bounds import most_misses

from gateway.statistics.quantiles import quantile_ranks

STEPS = 400


@functools.cache
def ranks(p: float) -> np.ndarray:
    return np.array([quantile_ranks(n, p, 0.05, 200) for n in range(1, STEPS + 1)])


@pytest.mark.parametrize("p", [0.5, 0.95])
@pytest.mark.parametrize("law", ["continuous", "atoms"])
def test_the_true_quantile_is_rarely_missed(p: float, law: str) -> None:
    """At most alpha of the paths ever miss, also where many values are equal (token counts, rounded latencies)."""
    x = np.random.default_rng(17).random((3000, STEPS))
    x, quantile = (x, p) if law == "continuous" else (np.ceil(x * 8), math.ceil(p * 8))
    at_most, less = (x <= quantile).cumsum(axis=1), (x < quantile).cumsum(axis=1)
    low_rank, high_rank = ranks(p).T

    ever = ((at_most < low_rank) | (less >= high_rank)).any(axis=1).mean()

    assert ever <= most_misses(0.05, 3000)
    if law == "continuous":
        assert ever >= 0.01, "far too wide"


def test_too_few_values_bound_nothing() -> None:
    assert quantile_ranks(0, 0.5, 0.05, 200) == (0, 1)
    low, high = quantile_ranks(20, 0.95, 0.05, 500)
    assert low <= 20 < high


def test_the_ranks_of_a_median_mirror() -> None:
    for n in (10, 101, 400):
        low, high = quantile_ranks(n, 0.5, 0.05, 200)
        assert low + high == n + 1


def test_domains() -> None:
    for refused, message in (
        (lambda: quantile_ranks(-1, 0.5, 0.05, 10), "n: -1"),
        (lambda: quantile_ranks(5, 0.0, 0.05, 10), "p: 0.0"),
        (lambda: quantile_ranks(5, 0.5, 1.0, 10), "alpha: 1.0"),
        (lambda: quantile_ranks(5, 0.5, 0.05, 0.0), "v_opt: 0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
