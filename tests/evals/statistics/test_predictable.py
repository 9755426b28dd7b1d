"""Closed-form confidence sequences for a constant mean."""

import math

import numpy as np
import pytest

from gateway.evals.statistics.betting import BettingMean
from gateway.evals.statistics.predictable import plug_in_bernstein, plug_in_hoeffding


@pytest.mark.parametrize("sequence", [plug_in_bernstein, plug_in_hoeffding])
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_the_true_mean_is_rarely_ever_missed(sequence, p: float) -> None:
    x = (np.random.default_rng(15).random((1500, 300)) < p).astype(float)
    missed = 0
    for path in x:
        low, high = sequence(path, 0.05)
        missed += bool(((low > p) | (high < p)).any())

    assert missed / 1500 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1500)


def test_bernstein_beats_hoeffding_on_calm_values_and_betting_beats_both() -> None:
    x = 0.5 + 0.1 * np.sin(np.arange(500))
    betting = BettingMean()
    for value in x:
        betting.add(float(value))
    widths = [float(high[-1] - low[-1]) for low, high in (plug_in_bernstein(x, 0.05), plug_in_hoeffding(x, 0.05))]

    assert betting.interval()[1] - betting.interval()[0] < widths[0] < widths[1]


def test_later_values_change_nothing_earlier() -> None:
    x = np.random.default_rng(16).random(50)
    for sequence in (plug_in_bernstein, plug_in_hoeffding):
        np.testing.assert_array_equal(sequence(x, 0.05)[0][:20], sequence(x[:20], 0.05)[0])


def test_domains() -> None:
    for sequence in (plug_in_bernstein, plug_in_hoeffding):
        for values, alpha, message in (
            ([0.5, 1.5], 0.05, "largest value: 1.5"),
            ([-0.5], 0.05, "smallest value: -0.5"),
            ([], 0.05, "values: 0 values"),
            ([0.5], 0.0, "alpha: 0.0"),
        ):
            with pytest.raises(ValueError, match=message):
                sequence(values, alpha)
