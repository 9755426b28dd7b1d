"""Quantiles of any distribution, looked at after every value."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.evals.statistics.quantiles import (
    QuantileSequence,
    double_stitching_bound,
    empirical_process_bound,
    quantile_ab_p,
    quantile_ranks,
)

STEPS = 400
RANKS = {p: np.array([quantile_ranks(n, p, 0.05, 200) for n in range(1, STEPS + 1)]) for p in (0.5, 0.95)}


@pytest.mark.parametrize("p", [0.5, 0.95])
@pytest.mark.parametrize("law", ["continuous", "atoms"])
def test_the_true_quantile_is_rarely_ever_missed(p: float, law: str) -> None:
    """Ever-miss <= alpha + 3 SE, also where many values are equal (token counts, rounded latencies)."""
    x = np.random.default_rng(17).random((3000, STEPS))
    x, quantile = (x, p) if law == "continuous" else (np.ceil(x * 8), math.ceil(p * 8))
    at_most, less = (x <= quantile).cumsum(axis=1), (x < quantile).cumsum(axis=1)
    low_rank, high_rank = RANKS[p].T

    ever = ((at_most < low_rank) | (less >= high_rank)).any(axis=1).mean()

    assert ever <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 3000)
    if law == "continuous":
        assert ever >= 0.01, "far too wide"


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.integers(0, 20), min_size=1, max_size=STEPS), p=st.sampled_from([0.5, 0.95]))
def test_the_object_picks_these_ranks_in_any_order_of_arrival(values: list[int], p: float) -> None:
    sequence, left, right = (QuantileSequence(p, n_opt=200) for _ in range(3))
    for i, x in enumerate(values):
        sequence.add(float(x))
        (left if i % 3 else right).add(float(x))
    right.merge(left)
    low, high = RANKS[p][len(values) - 1]
    ordered = sorted(values)

    assert sequence.interval()[0] == (ordered[low - 1] if low >= 1 else -math.inf)
    assert sequence.interval()[1] == (ordered[high - 1] if high <= len(values) else math.inf)
    assert right.interval() == sequence.interval()


def test_too_few_values_bound_nothing() -> None:
    assert QuantileSequence().interval() == (-math.inf, math.inf)
    sequence = QuantileSequence(0.95)
    for x in range(20):
        sequence.add(x)
    assert sequence.interval()[1] == math.inf


@pytest.mark.parametrize("shift", [0.0, 0.8])
def test_equal_medians_are_rarely_ever_told_apart_and_different_ones_are(shift: float) -> None:
    rng, alarms = np.random.default_rng(18), 0
    for _ in range(60):
        a, b = rng.normal(size=(2, 240))
        alarms += any(quantile_ab_p(a[:n], b[:n] + shift, 0.5, 100) <= 0.05 for n in range(40, 241, 40))

    assert alarms <= 60 * 0.05 + 3 * math.sqrt(60 * 0.05 * 0.95) if shift == 0 else alarms >= 54


def test_uniform_bounds_widen_toward_fewer_values_and_smaller_alpha() -> None:
    assert empirical_process_bound(50, 0.05, 100) == math.inf
    assert empirical_process_bound(1000, 0.05, 100) < empirical_process_bound(500, 0.05, 100)
    assert empirical_process_bound(1000, 0.01, 100) > empirical_process_bound(1000, 0.05, 100)
    assert double_stitching_bound(0.5, 1000, 0.01, 100) > double_stitching_bound(0.5, 1000, 0.05, 100)
    assert double_stitching_bound(0.5, 1000, 0.05, 100) / 1000 < double_stitching_bound(0.5, 500, 0.05, 100) / 500


def test_the_whole_distribution_is_rarely_ever_missed() -> None:
    """sup over x and n >= 100 of |F_n - F| against the bound; it is a union bound, so it misses far less than 5 %."""
    rng, missed = np.random.default_rng(19), 0
    times = range(100, 401, 10)
    bounds = [empirical_process_bound(n, 0.05, 100) for n in times]
    for _ in range(200):
        x = rng.random(400)
        for n, bound in zip(times, bounds, strict=True):
            ordered, steps = np.sort(x[:n]), np.arange(n + 1) / n
            if max((steps[1:] - ordered).max(), (ordered - steps[:-1]).max()) > bound:
                missed += 1
                break

    assert missed / 200 <= 0.05


def test_domains() -> None:
    for refused, message in (
        (lambda: QuantileSequence(0.0), "p: 0.0"),
        (lambda: QuantileSequence(alpha=1.0), "alpha: 1.0"),
        (lambda: QuantileSequence(n_opt=0.0), "n_opt: 0.0"),
        (lambda: QuantileSequence(values=[2.0, 1.0]), r"values: \[2.0, 1.0\]... are not in ascending order"),
        (lambda: QuantileSequence().add(math.nan), "x: nan"),
        (lambda: quantile_ranks(-1, 0.5, 0.05, 10), "n: -1"),
        (lambda: empirical_process_bound(10, 0.05, 5, scale=0.7), "scale: 0.7"),
        (lambda: empirical_process_bound(10, 1.5, 5), "alpha: 1.5"),
        (lambda: double_stitching_bound(1.0, 10, 0.05, 5), "p: 1.0"),
        (lambda: quantile_ab_p([], [1.0], 0.5, 10), "a: 0 values"),
        (lambda: quantile_ab_p([1.0], [1.0], 1.0, 10), "p: 1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
