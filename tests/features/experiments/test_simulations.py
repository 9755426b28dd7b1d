"""Measures how often an experiment is wrong with a look after every pair, over many simulated experiments. All seeds
are fixed.

The intervals are computed on arrays, for many experiments at once; the first test compares them with the sequences.
Whole experiments, through the store and the verdict, are in tests/verdict/test_findings.py.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from fixtures.simulated import a_plan
from fixtures.simulation_bounds import most_misses

from gateway.statistics.domains import Floats
from gateway.statistics.empirical_bernstein import bernstein_bound
from gateway.verdict.metrics import Metric, PairValue
from gateway.verdict.sequences.difference import DifferenceSequence, rule_of

ALPHA, MARGIN = 0.05, 0.1
RULE = rule_of(a_plan(alpha=ALPHA), Metric("quality", "score"), MARGIN)


def intervals(x: Floats) -> tuple[Floats, Floats]:
    """(low, high) after each of the differences in [−1, 1]; x: shape (experiments, pairs)."""
    n = np.arange(1, x.shape[1] + 1)
    totals = np.cumsum(x, axis=1)
    predicted = (totals - x) / n
    v = np.cumsum((x - predicted) ** 2, axis=1)
    grid = np.geomspace(1e-3, v.max() + 1, 1500)
    bound = np.array([bernstein_bound(float(each), ALPHA, 2.0, RULE.v_opt) for each in grid])
    half = np.interp(v, grid, bound) / n
    mean = totals / n
    return mean - half, mean + half


def naive(x: Floats, at_least: int = 20) -> tuple[Floats, Floats]:
    """The naive interval: mean ± 1.96 standard errors, with a look after every pair."""
    n = np.arange(1, x.shape[1] + 1)
    mean = np.cumsum(x, axis=1) / n
    deviation = np.sqrt(np.maximum(np.cumsum(x**2, axis=1) / n - mean**2, 1e-12))
    half = 1.96 * deviation / np.sqrt(n)
    half[:, : at_least - 1] = math.inf
    return mean - half, mean + half


def ever(hits: Floats) -> float:
    return float(hits.any(axis=1).mean())


def differences(rng: np.random.Generator, mean: float, runs: int, pairs: int) -> Floats:
    """Differences of scores in [0, 1] around a question's own difficulty."""
    level = rng.uniform(0.3, 0.7, (runs, pairs))
    a, b = (np.clip(level + rng.normal(0, 0.2, (runs, pairs)), 0, 1) for _ in range(2))
    return np.asarray(np.clip(b - a + mean, -1, 1))


def test_the_arrays_are_the_sequences() -> None:
    x = differences(np.random.default_rng(1), 0.03, 1, 400)
    sequence = DifferenceSequence(RULE, bounded=True)
    low, high = intervals(x)
    for i, difference in enumerate(x[0]):
        sequence.add(PairValue(0.0, max(0.0, float(difference)), float(difference)))
        if i % 50 == 49:
            assert sequence.interval() == pytest.approx((max(-1, low[0, i]), min(1, high[0, i])), abs=1e-4)


RUNS, PAIRS = 1500, 1000


def test_peeking_after_every_pair_is_wrong_at_most_alpha(capsys: pytest.CaptureFixture[str]) -> None:
    """A candidate that is worse by exactly the margin must not be shipped; one that is the same, called neither better
    nor worse. The rates of the naive interval are printed for comparison."""
    rng = np.random.default_rng(2)
    at_margin, same = (differences(rng, mean, RUNS, PAIRS) for mean in (-MARGIN, 0.0))
    rows = []
    for what, x, wrong in (
        ("shipped though worse by the margin", at_margin, lambda low, high: low > -MARGIN),
        ("rejected though worse by no more than it", at_margin, lambda low, high: high < -MARGIN),
        ("called better or worse though the same", same, lambda low, high: (low > 0) | (high < 0)),
    ):
        ours, theirs = ever(wrong(*intervals(x))), ever(wrong(*naive(x)))
        rows.append(f"{what}: {ours:.3f}; naive {theirs:.3f}")
        assert ours <= most_misses(ALPHA, RUNS), what
    assert ever((lambda low, high: (low > 0) | (high < 0))(*naive(same))) > 0.25, "the naive one is wrong"
    with capsys.disabled():
        print(f"\n{RUNS} experiments of {PAIRS} pairs, a look after each (alpha {ALPHA})", *rows, sep="\n  ")  # noqa: T201


def test_twice_the_margin_is_found() -> None:
    rng = np.random.default_rng(3)
    worse, better = (intervals(differences(rng, mean, 200, 800)) for mean in (-2 * MARGIN, 2 * MARGIN))
    assert ever(worse[1] < -MARGIN) > 0.98, "rejected"
    assert ever(worse[0] > -MARGIN) == 0.0, "and never shipped"
    assert ever(better[0] > 0) > 0.98, "better"


def test_under_drift_the_interval_covers_the_running_average() -> None:
    """The candidate is better in the morning and worse in the evening; the running mean is estimated."""
    rng = np.random.default_rng(4)
    n = np.arange(PAIRS)
    truth = 0.15 * np.cos(2 * np.pi * n / 700)
    noise = differences(rng, 0.0, RUNS, PAIRS)
    x = np.clip(noise + truth, -1, 1)
    so_far = np.cumsum(x.mean(axis=0)) / (n + 1)  # of the very values, clipping included
    low, high = intervals(x)
    assert ever((low > so_far) | (high < so_far)) <= most_misses(ALPHA, RUNS)
    flat_low, flat_high = naive(x)
    assert ever((flat_low > so_far) | (flat_high < so_far)) > 0.25


def test_one_value_per_conversation_keeps_alpha() -> None:
    """Requests of one conversation share their difference: only the first of ten is independent."""
    rng = np.random.default_rng(5)
    conversations, turns = 300, 10
    shared = rng.choice([-0.4, 0.4], (RUNS // 3, conversations))
    within = rng.normal(0, 0.05, (RUNS // 3, conversations, turns))
    every = np.clip(shared[:, :, None] + within, -1, 1)

    def wrong(x: Floats) -> float:
        low, high = intervals(x)
        return ever((low > 0) | (high < 0))

    assert wrong(every[:, :, 0]) <= most_misses(ALPHA, RUNS // 3)
    assert wrong(every.reshape(RUNS // 3, -1)) > 3 * ALPHA
