"""The interval of `gateway compare`: Tango's for yes-or-no items, else scipy's paired t test, or Agresti and Min's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gateway.statistics.score_interval import cluster_means, few_differences, paired_proportions, score_difference


def test_many_graded_scores_have_the_interval_of_scipys_paired_t_test() -> None:
    rng = np.random.default_rng(5)
    a = rng.normal(0.5, 0.2, 50)
    b = a + rng.normal(0.02, 0.1, 50)
    found = score_difference(a, b, scale=2.0, alpha=0.1)
    by_hand = stats.ttest_rel(b, a).confidence_interval(0.9)
    assert found.method == "paired t"
    assert (found.low, found.high) == pytest.approx((by_hand.low, by_hand.high))


def test_few_differences_have_agresti_and_mins_interval() -> None:
    """The interval for b, c of n pairs that differ by d, m = n + 2: S / m -+ z sqrt(Q + 1 - S^2 / m) / m, S and Q the
    sums of d and d^2."""
    a, b = np.array([0.5] * 3 + [0.0] + [1.0] * 36), np.array([0.0] * 3 + [0.5] + [1.0] * 36)
    middle, half = -1 / 42, stats.norm.ppf(0.975) * np.sqrt(1 + 1 - 1 / 42) / 42
    found = score_difference(a, b, scale=1.0)
    assert (found.method, found.clusters) == ("Agresti-Min", 40)
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half))
    assert few_differences(b - a, 1.0) == pytest.approx((found.low, found.high))


def test_fewer_than_ten_clusters_have_students_quantile() -> None:
    d = np.array([0.0, 0.0, 0.0, 0.0, 0.5])
    found = score_difference(np.zeros(5), d, scale=1.0)
    half = stats.t.ppf(0.975, 4) * np.sqrt(0.25 + 1 - 0.25 / 7) / 7
    assert found.high == pytest.approx(0.5 / 7 + half)
    yes = score_difference(np.zeros(5), d / 0.5, scale=1.0)
    assert (yes.low, yes.high) == pytest.approx(paired_proportions(1, 0, 5, float(stats.t.ppf(0.975, 4))))


def test_yes_or_no_items_have_tangos_interval_on_any_scale() -> None:
    d = np.repeat([2.0, -2.0, 0.0], [7, 1, 13])
    found = score_difference(np.zeros(21), d, scale=2.0)
    assert found.method == "Tango"
    assert (found.low, found.high) == pytest.approx((2 * 0.026, 2 * 0.517), abs=1e-3)
    copies = score_difference(np.zeros(42), np.repeat(d, 2), scale=2.0, clusters=[f"{i // 2}" for i in range(42)])
    assert (copies.low, copies.high, copies.method) == (found.low, found.high, "Tango")
    unlike = score_difference(np.zeros(21), d, scale=2.0, clusters=[f"{i // 2}" for i in range(21)])
    assert unlike.method == "Agresti-Min", "clusters of several sizes have no number of pairs"


@given(n=st.integers(1, 40), data=st.data())
def test_tangos_interval_holds_what_the_score_test_allows(n: int, data: st.DataObject) -> None:
    """Compares with brute force: for each difference, a grid maximises the likelihood of the counts under it."""
    better = data.draw(st.integers(0, n))
    worse = data.draw(st.integers(0, n - better))
    low, high = paired_proportions(better, worse, n, 1.96)
    assert -1 <= low <= (better - worse) / n <= high <= 1
    assert paired_proportions(worse, better, n, 1.96) == pytest.approx((-high, -low))
    for difference in np.linspace(-0.95, 0.95, 20):
        if min(abs(difference - low), abs(difference - high)) > 0.01:
            assert (low < difference < high) == (abs(distance(better, worse, n, difference)) < 1.96)


def distance(better: int, worse: int, n: int, difference: float) -> float:
    only_first = np.linspace(max(0.0, -difference), (1 - difference) / 2, 20_001)[1:-1]
    only_second = only_first + difference
    counts, shares = (better, worse, n - better - worse), (only_second, only_first, 1 - only_first - only_second)
    likely = sum(k * np.log(np.maximum(p, 1e-12)) for k, p in zip(counts, shares, strict=True) if k)
    variance = (only_first + only_second - difference**2)[np.argmax(likely)]
    return float((better - worse - n * difference) / np.sqrt(n * variance))


def missed(n: int, better: float, worse: float) -> float:
    """The exact probability that the lower bound for n items lies above the true difference."""
    total = 0.0
    for lost in range(n + 1):
        for won in range(n - lost + 1):
            p = float(stats.multinomial.pmf([won, lost, n - won - lost], n, [better, worse, 1 - better - worse]))
            if p > 1e-7:
                total += p * (paired_proportions(won, lost, n, 1.959964)[0] > better - worse)
    return total


@pytest.mark.parametrize(
    ("n", "better", "worse"),
    [(200, 0.0, 0.1), (200, 0.0, 0.02), (50, 0.0, 0.05), (20, 0.0, 0.1), (50, 0.05, 0.1), (20, 0.1, 0.3)],
)
def test_a_model_worse_by_the_margin_is_rarely_shipped(n: int, better: float, worse: float) -> None:
    """The exact rate: 0.017 where a tenth of 200 items is lost and none won, and 0.057 by the paired t."""
    assert missed(n, better, worse) <= 0.031


def test_cluster_means_are_in_the_order_of_their_first_value() -> None:
    assert cluster_means(np.array([1.0, 1.0, 0.0, 3.0]), ["x", "x", "y", "x"]).tolist() == [5 / 3, 0.0]
