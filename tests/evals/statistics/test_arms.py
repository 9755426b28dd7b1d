"""Two arms of a split."""

import math

import numpy as np
import pytest
from scipy import stats

from gateway.evals.statistics.arms import difference, fixed_interval, lift, sequential_interval
from gateway.evals.statistics.asymptotic import Tuning
from gateway.evals.statistics.moments import Moments


def test_the_fixed_interval_is_welchs() -> None:
    rng = np.random.default_rng(10)
    a, b = rng.normal(1, 1, 40), rng.normal(1.3, 3, 25)
    oracle = stats.ttest_ind(b, a, equal_var=False)

    two = fixed_interval(difference(Moments.of(a), Moments.of(b)), 0.05)
    one = fixed_interval(difference(Moments.of(a), Moments.of(b)), 0.05, "greater")

    assert two.p == pytest.approx(oracle.pvalue)
    assert (two.low, two.high) == pytest.approx(tuple(oracle.confidence_interval(0.95)))
    assert one.p == pytest.approx(stats.ttest_ind(b, a, equal_var=False, alternative="greater").pvalue)
    assert one.high == math.inf


def test_lift_is_the_difference_in_units_of_a_and_keeps_its_sign() -> None:
    a, b = Moments.of([2.0, 4.0, 6.0]), Moments.of([5.0, 6.0, 7.0])
    negative = lift(Moments.of([-2.0, -4.0, -6.0]), Moments.of([-5.0, -6.0, -7.0]))

    assert lift(a, b).estimate == pytest.approx(0.5)
    assert negative.estimate == pytest.approx(-0.5)
    assert negative.se == pytest.approx(lift(a, b).se)


def test_a_look_after_every_pair_rarely_ever_finds_a_difference_that_is_not_there() -> None:
    """Ever-miss <= alpha + 3 SE for the sequential interval; the fixed one goes far beyond."""
    rng, paths, n = np.random.default_rng(11), 300, 300
    a, b = rng.exponential(size=(2, paths, n))
    sequential, fixed = 0, 0
    sums = [(x.cumsum(axis=1), (x**2).cumsum(axis=1)) for x in (a, b)]
    for path in range(paths):
        missed = [False, False]
        for k in range(50, n, 5):
            arms = [Moments.from_sums(k, float(s[path, k - 1]), float(q[path, k - 1])) for s, q in sums]
            contrast = difference(*arms)
            low, high = sequential_interval(contrast, Tuning())
            missed[0] |= not low <= 0 <= high
            missed[1] |= abs(contrast.estimate) > 1.96 * contrast.se
        sequential, fixed = sequential + missed[0], fixed + missed[1]

    assert sequential / paths <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / paths)
    assert fixed / paths > 0.15


def test_domains() -> None:
    some, same = Moments.of([1.0, 2.0]), Moments.of([1.0, 1.0])
    for refused, message in (
        (lambda: difference(Moments.of([1.0]), some), "n: 1, expected 2"),
        (lambda: difference(same, same), "neither arm varies: 0.0 and 0.0"),
        (lambda: lift(Moments.of([-1.0, 1.0]), some), "mean of a: 0.0 gives no relative lift"),
        (lambda: fixed_interval(difference(some, some), 1.0), "alpha: 1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
