"""Comparisons of two arms on the same items cover the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gateway.reports.model import Estimate
from gateway.statistics.paired import paired_difference
from gateway.statistics.score_interval import SPARSE, cluster_means
from gateway.verdict.items.pairs import (
    ComparisonTerms,
    ItemMetric,
    PairedValues,
    betting_trail,
    comparison,
    mean_estimate,
    paired,
    pairs_needed,
    sparse_interval,
)

EXACT = ItemMetric("exact", "maximise", (0.0, 1.0))
SECONDS = ItemMetric("total_s", "minimise", (0.0, None), "s")
TERMS = ComparisonTerms("primary", 0.05, 0.02)


def pairs(a: object, b: object, metric: ItemMetric = EXACT, clusters: list[str] | None = None) -> PairedValues:
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    return paired(metric, first, second, clusters or [f"c{i}" for i in range(first.size)])


def test_items_with_two_numbers_count_and_better_is_positive() -> None:
    nan = float("nan")
    found = pairs([1, nan, 0, 1], [0, 1, nan, 1])
    assert (found.a.tolist(), found.b.tolist(), found.better.tolist()) == ([1, 1], [0, 1], [-1, 0])
    assert found.clusters == ["c0", "c3"]
    assert pairs([2.0], [0.5], SECONDS).better.tolist() == [1.5]


def test_a_complete_replay_has_the_clustered_t_interval() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random(60), rng.random(60)
    clusters = [f"c{i // 3}" for i in range(60)]
    found, _ = comparison(EXACT, pairs(a, b, clusters=clusters), TERMS)
    published = paired_difference(a, b, 0.05, clusters)
    assert (found.difference.low, found.difference.high) == pytest.approx((published.low, published.high))
    assert found.method.startswith("fixed n, paired t over 20 clusters; at any time (betting)")
    assert (found.pairs, found.effective_n) == (60, 20.0)


def test_an_incomplete_replay_has_only_the_betting_interval() -> None:
    rng = np.random.default_rng(2)
    found = pairs(rng.random(80), rng.random(80))
    found, trail = comparison(EXACT, found, ComparisonTerms("primary", 0.05, 0.02, complete=False))
    assert found.method == "betting confidence sequence, one step per cluster"
    assert (found.difference.low, found.difference.high) == trail.points[-1][2:]
    times, _ = comparison(
        SECONDS, pairs(rng.random(80), rng.random(80), SECONDS), ComparisonTerms("other", 0.05, complete=False)
    )
    assert (times.difference.low, times.method) == (None, "no interval before the replay is complete")


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("rates", [(0.6, 0.7), (0.98, 0.96)], ids=["often", "rarely"])
def test_the_true_difference_is_covered(rates: tuple[float, float], whole: bool) -> None:
    """200 replays of 60 rows, where b is right more often, or seldom wrong: misses <= 5 % + 3 SE."""
    rng, missed, runs = np.random.default_rng(3), 0, 200
    for _ in range(runs):
        a, b = (rng.random((2, 60)) < np.array(rates)[:, None]).astype(float)
        found, _ = comparison(EXACT, pairs(a, b), ComparisonTerms("primary", 0.05, 0.02, whole))
        assert found.difference.low is not None
        assert found.difference.high is not None
        missed += not found.difference.low <= rates[1] - rates[0] <= found.difference.high
    assert missed / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


def test_few_differences_do_not_give_an_empty_interval() -> None:
    same = pairs([1.0] * 50, [1.0] * 50)
    found = sparse_interval(same, 1.0, 0.05)
    assert found is not None
    assert found[0] < 0 < found[1]
    assert found == pytest.approx((-1.959964 / 52, 1.959964 / 52))
    found, _ = comparison(EXACT, same, TERMS)
    assert found.margin_found == "unclear", "50 equal answers do not show a margin of 0.02"
    assert sparse_interval(pairs([0.0] * SPARSE + [1.0] * 9, [1.0] * (SPARSE + 9)), 1.0, 0.05) is None


def test_rare_differences_have_agresti_and_mins_interval() -> None:
    """The interval for b, c of n yes-or-no pairs, m = n + 2: (b - c) / m -+ z sqrt(b + c + 1 - (b - c)^2 / m) / m."""
    a, b = [1.0] * 3 + [0.0] * 1 + [1.0] * 36, [0.0] * 3 + [1.0] * 1 + [1.0] * 36
    low, high = sparse_interval(pairs(a, b), 1.0, 0.05) or (0.0, 0.0)
    middle, half = -2 / 42, 1.959964 * math.sqrt(4 + 1 - 4 / 42) / 42
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=1e-6)


def test_a_mean_at_its_bound_has_an_interval() -> None:
    clusters = [f"c{i}" for i in range(100)]
    none = mean_estimate(np.zeros(100), clusters, 0.05, (0.0, 1.0))
    assert (none.value, none.low) == (0.0, 0.0)
    assert none.high == pytest.approx(0.0370, abs=1e-4)
    scaled = mean_estimate(np.full(100, 5.0), clusters, 0.05, (1.0, 5.0))
    assert scaled.high == pytest.approx(5.0)
    assert scaled.low == pytest.approx(5 - 4 * 0.0370, abs=1e-3)
    assert mean_estimate(np.array([3.0]), ["c"], 0.05) == Estimate(3.0)
    assert mean_estimate(np.array([]), [], 0.05) == Estimate(None)


def test_betting_takes_one_step_per_cluster() -> None:
    found = pairs([0.0] * 6, [1.0, 1.0, 0.0, 0.0, 1.0, 1.0], clusters=["x", "x", "y", "y", "z", "z"])
    assert cluster_means(found.better, found.clusters).tolist() == [1.0, 0.0, 1.0]
    trail = betting_trail(EXACT, found, 0.05)
    assert [point[0] for point in trail.points] == [1, 2, 3]
    assert betting_trail(SECONDS, pairs([1.0], [2.0], SECONDS), 0.05).points == ()


def test_too_few_items_have_no_interval() -> None:
    found, _ = comparison(EXACT, pairs([], []), TERMS)
    assert (found.pairs, found.difference, found.margin_found) == (0, Estimate(None), "unclear")
    found, _ = comparison(EXACT, pairs([1.0, 0.0], [1.0, 1.0], clusters=["x", "x"]), TERMS)
    assert (found.difference.value, found.difference.low, found.method) == (0.5, None, "too few items for an interval")


def test_a_neutral_metric_is_neither_better_nor_worse() -> None:
    tokens = ItemMetric("output_tokens", "neutral", (0.0, None))
    found, _ = comparison(tokens, pairs([1.0] * 30, np.arange(30) + 50, tokens), ComparisonTerms("other", 0.05))
    assert found.direction_found == "unclear"


def test_pairs_needed_grow_with_the_width_of_the_interval() -> None:
    assert pairs_needed(Estimate(0.0, -0.04, 0.04), 0.02, 100) == 300
    assert pairs_needed(Estimate(-0.02, -0.06, 0.02), 0.02, 100) is None, "on the margin: never"
    assert pairs_needed(Estimate(None), 0.02, 0) is None


def test_yes_or_no_pairs_have_mcnemars_p() -> None:
    a, b = [1.0] * 10 + [0.0] * 2 + [1.0] * 28, [0.0] * 10 + [1.0] * 2 + [1.0] * 28
    found, _ = comparison(EXACT, pairs(a, b), TERMS)
    assert "; McNemar p 0.039; " in found.method
    several, _ = comparison(EXACT, pairs(a, b, clusters=[f"c{i // 2}" for i in range(40)]), TERMS)
    assert "McNemar" not in several.method, "the pairs of a cluster depend on each other"
    graded, _ = comparison(EXACT, pairs([0.5, *a[1:]], b), TERMS)
    assert "McNemar" not in graded.method
