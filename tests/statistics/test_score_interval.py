"""The interval of `gateway compare` is scipy's paired t test, or Agresti and Min's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from gateway.statistics.score_interval import cluster_means, few_differences, score_difference


def test_many_graded_scores_have_the_interval_of_scipys_paired_t_test() -> None:
    rng = np.random.default_rng(5)
    a = rng.normal(0.5, 0.2, 50)
    b = a + rng.normal(0.02, 0.1, 50)
    found = score_difference(a, b, scale=2.0, alpha=0.1)
    by_hand = stats.ttest_rel(b, a).confidence_interval(0.9)
    assert found.method == "paired t"
    assert (found.low, found.high) == pytest.approx((by_hand.low, by_hand.high))


def test_few_yes_or_no_differences_have_agresti_and_mins_interval() -> None:
    """The interval for b, c of n yes-or-no pairs, m = n + 2: (c - b) / m -+ z sqrt(b + c + 1 - (c - b)^2 / m) / m."""
    a, b = np.array([1.0] * 3 + [0.0] + [1.0] * 36), np.array([0.0] * 3 + [1.0] + [1.0] * 36)
    middle, half = -2 / 42, stats.norm.ppf(0.975) * np.sqrt(4 + 1 - 4 / 42) / 42
    found = score_difference(a, b, scale=1.0)
    assert (found.method, found.clusters) == ("Agresti-Min", 40)
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half))
    assert few_differences(b - a, 1.0) == pytest.approx((found.low, found.high))


def test_fewer_than_ten_clusters_have_students_quantile() -> None:
    d = np.array([0.0, 0.0, 0.0, 0.0, 1.0])
    found = score_difference(np.zeros(5), d, scale=1.0)
    half = stats.t.ppf(0.975, 4) * np.sqrt(1 + 1 - 1 / 7) / 7
    assert found.high == pytest.approx(1 / 7 + half)


def test_cluster_means_are_in_the_order_of_their_first_value() -> None:
    assert cluster_means(np.array([1.0, 1.0, 0.0, 3.0]), ["x", "x", "y", "x"]).tolist() == [5 / 3, 0.0]
