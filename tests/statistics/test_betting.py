"""Betting on a constant mean in [0, 1]."""

import math

import numpy as np
import pytest
from fixtures.simulation_bounds import most_misses
from hypothesis import given
from hypothesis import strategies as st

from gateway.statistics.betting import BettingMean, bet, log_gains, next_squares
from gateway.statistics.empirical_bernstein import EmpiricalBernstein

PATHS, STEPS = 2000, 500


def wealth_peaks(x: np.ndarray, mean: float, alpha: float) -> np.ndarray:
    """ln of the largest max(K+, K-) / 2 that each path of x, shape (paths, steps), ever reaches at this mean."""
    total = squares = np.zeros(x.shape[0])
    wealth, peak = np.zeros((2, x.shape[0])), np.full(x.shape[0], -math.inf)
    for n, column in enumerate(x.T):
        wealth = wealth + log_gains(column, bet(alpha, n, squares), np.array(mean))
        squares = next_squares(column, n, total, squares)
        total = total + column
        peak = np.maximum(peak, wealth.max(axis=0) - math.log(2))
    return peak


@pytest.mark.parametrize("law", ["rare", "coin", "beta"])
def test_the_true_mean_is_rarely_missed(law: str) -> None:
    """At most alpha of the paths ever miss, with a look after every value."""
    rng, size = np.random.default_rng(12), (PATHS, STEPS)
    x, mean = {
        "rare": (rng.random(size) < 0.05, 0.05),
        "coin": (rng.random(size) < 0.5, 0.5),
        "beta": (rng.beta(2, 6, size), 0.25),
    }[law]

    ever = (wealth_peaks(x.astype(float), mean, 0.05) >= -math.log(0.05)).mean()

    assert 0.005 <= ever <= most_misses(0.05, PATHS)


def test_the_interval_is_where_the_wealth_stays_below_its_threshold() -> None:
    x = np.random.default_rng(13).random((6, 80)) < 0.7
    for path in x.astype(float):
        sequence = BettingMean(cells=100)
        for value in path:
            sequence.add(float(value))
        low, high = sequence.running_interval()
        for mean in (0.5, 0.6, 0.7, 0.8):
            inside = wealth_peaks(path[None, :], mean, 0.05)[0] < -math.log(0.05)
            assert inside == (low < mean < high) or abs(mean - low) < 1e-9 or abs(mean - high) < 1e-9


@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_ends_round_outward_and_wealth_is_monotone(values: list[float]) -> None:
    """A coarse grid's interval contains a fine grid's; K+ falls and K- rises, so the set is an interval."""
    coarse, fine = BettingMean(cells=10), BettingMean(cells=500)
    for x in values:
        coarse.add(x)
        fine.add(x)

    assert coarse.interval()[0] <= fine.interval()[0] + 1e-12  # 3/10 and 150/500 differ in the last digit
    assert coarse.interval()[1] >= fine.interval()[1] - 1e-12
    state = fine.state()
    assert np.all(np.diff(state["log_up"]) <= 1e-12)
    assert np.all(np.diff(state["log_down"]) >= -1e-12)


def test_betting_is_narrower_for_a_constant_mean() -> None:
    betting, bernstein = BettingMean(), EmpiricalBernstein()
    for x in np.random.default_rng(14).beta(20, 5, 400):
        betting.add(float(x))
        bernstein.add(float(x))

    widths = [high - low for low, high in (betting.interval(), bernstein.interval())]
    assert widths[0] < 0.85 * widths[1]


def test_a_mean_that_moves_leaves_an_empty_interval() -> None:
    sequence = BettingMean()
    for x in [1.0] * 100 + [0.0] * 300:
        sequence.add(x)

    low, high = sequence.running_interval()
    assert low > high


def test_domains() -> None:
    grid = BettingMean(cells=10).state()
    for refused, message in (
        (lambda: BettingMean(alpha=2.0), "alpha: 2.0"),
        (lambda: BettingMean(cells=1), "cells: 1, expected 2"),
        (lambda: BettingMean().add(1.01), r"x: 1.01 is outside \[0, 1\]"),
        (lambda: BettingMean().add(math.nan), "x: nan is outside"),
        (lambda: BettingMean.from_state(grid | {"cells": 20}), "grid, log_up, log_down: lengths"),
        (lambda: bet(0.0, 1, 0.1), "alpha: 0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
