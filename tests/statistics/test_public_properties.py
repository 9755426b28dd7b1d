"""Properties of the public library that hold for every input: symmetry, scale, order, splits and restarts."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np
import pytest
from fixtures.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gateway.statistics import (
    AsymptoticMean,
    ChangeDetector,
    GuardedMean,
    JudgeAccuracy,
    benjamini_hochberg,
    few_differences,
    mean_error,
    paired_difference,
    planned_pairs,
    quantile_ranks,
    score_difference,
    usual_range,
)

quick = settings(max_examples=examples(40), deadline=None)
SCORES = st.lists(
    st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32)), min_size=3, max_size=40
)  # (control, candidate) of each item
ALPHA = st.floats(0.001, 0.5)
UNIT = st.floats(0, 1)


def arms(scores: list[tuple[float, float]]) -> tuple[Any, Any]:
    a, b = np.array(scores).T
    return a, b


@quick
@given(scores=SCORES, alpha=ALPHA, shift=st.floats(-3, 3))
def test_a_paired_difference_is_scipys_and_turns_with_its_arms(
    scores: list[tuple[float, float]], alpha: float, shift: float
) -> None:
    a, b = arms(scores)
    found, turned = paired_difference(a, b, alpha), paired_difference(b, a, alpha)
    assert (turned.difference, turned.low, turned.high) == pytest.approx((-found.difference, -found.high, -found.low))
    moved = paired_difference(a + shift, b + shift, alpha)
    assert (moved.low, moved.high) == pytest.approx((found.low, found.high), abs=1e-9)
    if found.se > 1e-6:
        by_hand = stats.ttest_rel(b, a).confidence_interval(1 - alpha)
        assert (found.low, found.high) == pytest.approx((by_hand.low, by_hand.high), rel=1e-6, abs=1e-9)


@quick
@given(scores=SCORES)
def test_clusters_of_one_have_the_error_of_independent_values(scores: list[tuple[float, float]]) -> None:
    a, _ = arms(scores)
    alone, clustered = mean_error(a), mean_error(a, list(range(a.size)))
    assert clustered.se * math.sqrt(a.size / (a.size - 1)) == pytest.approx(alone.se, abs=1e-12)
    doubled = mean_error(np.repeat(a, 2), np.repeat(np.arange(a.size), 2).tolist())
    assert doubled.se == pytest.approx(clustered.se, abs=1e-12), "a copy of each value says nothing new"


@quick
@given(scores=SCORES, alpha=ALPHA, factor=st.floats(0.1, 10))
def test_a_score_difference_turns_and_scales(scores: list[tuple[float, float]], alpha: float, factor: float) -> None:
    a, b = arms(scores)
    found, turned = score_difference(a, b, 1.0, alpha), score_difference(b, a, 1.0, alpha)
    assert found.low <= found.difference <= found.high
    assert (turned.low, turned.high, turned.method) == pytest.approx((-found.high, -found.low, found.method))
    scaled = score_difference(a * factor, b * factor, factor, alpha)
    if scaled.method == found.method:  # a difference next to the scale may round to another side of it
        assert (scaled.low, scaled.high) == pytest.approx((found.low * factor, found.high * factor), abs=1e-9)
    copies = score_difference(np.repeat(a, 3), np.repeat(b, 3), 1.0, alpha, np.repeat(np.arange(a.size), 3).tolist())
    assert (copies.low, copies.high) == pytest.approx((found.low, found.high), abs=1e-9), "copies say nothing new"


@quick
@given(n=st.integers(2, 200), differ=st.floats(0, 1), alpha=ALPHA)
def test_few_differences_give_a_symmetric_interval_inside_the_scale(n: int, differ: float, alpha: float) -> None:
    d = np.zeros(n)
    d[: int(differ * n)] = 1.0
    low, high = few_differences(d, 1.0, alpha)
    assert -1 <= low < high <= 1
    assert few_differences(-d, 1.0, alpha) == pytest.approx((-high, -low))
    assert low - 1e-12 <= few_differences(d, 1.0, min(0.9, alpha * 1.5))[0]


@quick
@given(n=st.integers(0, 5000), p=st.floats(0.01, 0.99), alpha=ALPHA, n_opt=st.floats(10, 5000))
def test_quantile_ranks_mirror_and_widen(n: int, p: float, alpha: float, n_opt: float) -> None:
    low, high = quantile_ranks(n, p, alpha, n_opt)
    assert low <= math.ceil(n * p) <= high or n == 0
    mirrored = quantile_ranks(n, 1 - p, alpha, n_opt)
    assert abs(mirrored[0] + high - n - 1) <= 1
    assert abs(mirrored[1] + low - n - 1) <= 1
    surer = quantile_ranks(n, p, alpha / 2, n_opt)
    assert surer[0] <= low
    assert high <= surer[1]


@quick
@given(p=st.lists(UNIT, min_size=1, max_size=30), q=st.floats(0.001, 0.5), seed=st.integers(0, 999))
def test_discoveries_do_not_depend_on_order_and_grow_with_q(p: list[float], q: float, seed: int) -> None:
    found = benjamini_hochberg(p, q)
    order = np.random.default_rng(seed).permutation(len(p))
    assert benjamini_hochberg([p[i] for i in order], q) == [found[i] for i in order]
    assert all(more for more, one in zip(benjamini_hochberg(p, min(0.9, q * 2)), found, strict=True) if one)
    assert all(one for one, value in zip(found, p, strict=True) if value <= q / len(p)), "Bonferroni's are among them"


@quick
@given(deviation=st.floats(0, 5), gap=st.floats(0.01, 1), alpha=ALPHA, largest=st.sampled_from([0.0, 1.0]))
def test_a_horizon_grows_with_the_spread_and_shrinks_with_the_gap(
    deviation: float, gap: float, alpha: float, largest: float
) -> None:
    found = planned_pairs(deviation, gap, alpha, largest=largest)
    assert found >= 20
    assert planned_pairs(deviation * 2, gap, alpha, largest=largest) >= found
    assert planned_pairs(deviation, gap * 2, alpha, largest=largest) <= found + 1
    assert planned_pairs(deviation, gap, alpha, 0.9, largest) >= found


@quick
@given(values=st.lists(st.floats(-1, 1), min_size=1, max_size=80), cut=st.integers(0, 80), alpha=ALPHA)
@pytest.mark.parametrize("kind", [AsymptoticMean, GuardedMean])
def test_a_sequence_mirrors_and_continues_after_a_restart(
    kind: type[AsymptoticMean | GuardedMean], values: list[float], cut: int, alpha: float
) -> None:
    whole, mirrored, restarted = kind(alpha), kind(alpha), kind(alpha)
    for i, value in enumerate(values):
        if i == cut:
            restarted = type(restarted).from_state(json.loads(json.dumps(restarted.state())))
        for sequence, x in ((whole, value), (mirrored, -value), (restarted, value)):
            sequence.add(x)
    low, high = whole.interval()
    assert low <= whole.mean <= high
    assert restarted.interval() == (low, high)
    assert mirrored.interval() == pytest.approx((-high, -low))
    assert mirrored.log_e_value() == pytest.approx(whole.log_e_value())


STREAMS = st.lists(st.tuples(UNIT, UNIT), min_size=2, max_size=60)


@quick
@given(usual=STREAMS, values=STREAMS, cut=st.integers(0, 60), margin=st.floats(0, 0.2))
def test_a_change_detector_does_not_depend_on_the_batches(
    usual: list[tuple[float, float]], values: list[tuple[float, float]], cut: int, margin: float
) -> None:
    low, high = usual_range(usual, margin)
    mean = np.mean(usual, axis=0)
    assert ((low >= 0) & (low <= mean + 1e-12) & (mean <= high + 1e-12) & (high <= 1)).all()
    whole, parts = ChangeDetector(low, high, 1e-6), ChangeDetector(low, high, 1e-6)
    whole.add(np.array(values))
    parts.add(np.array(values[:cut]))
    parts = ChangeDetector.from_state(json.loads(json.dumps(parts.state())))
    parts.add(np.array(values[cut:]))
    if whole.log_statistic < whole.limit:  # above it, batches are cut at different times
        assert parts.log_statistic == pytest.approx(whole.log_statistic, abs=1e-9)


@quick
@given(tnr=UNIT, tpr=UNIT, sizes=st.tuples(st.integers(1, 500), st.integers(1, 500)), alpha=ALPHA)
def test_error_rates_lie_inside_their_intervals(tnr: float, tpr: float, sizes: tuple[int, int], alpha: float) -> None:
    intervals = JudgeAccuracy(tnr, sizes[0], tpr, sizes[1]).intervals(alpha)
    for rate, (low, high) in zip((tnr, tpr), intervals, strict=True):
        assert -1e-12 <= low <= rate + 1e-9
        assert rate - 1e-9 <= high <= 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: score_difference([0, 1], [1, 0, 1], 1.0), "a, b: lengths [2, 3] differ"),
        (lambda: score_difference([0, 1], [1, 0], 0.0), "scale: 0.0 is outside (0, inf)"),
        (lambda: score_difference([0, 1], [1, 0], 1.0, 2.0), "alpha: 2.0 is outside (0, 1)"),
        (lambda: score_difference([0, 1], [1, 0], 1.0, clusters="cc"), "number of clusters: 1, expected 2 or more"),
        (lambda: score_difference([0, math.nan], [1, 0], 1.0), "a[1]: nan is not a finite number"),
        (lambda: few_differences([], 1.0), "differences: 0 values, expected 1 or more"),
        (lambda: benjamini_hochberg([1.2], 0.1), "p_values: 1.2 is outside [0, 1]"),
        (lambda: usual_range([[0.5], [1.5]], 0.1), "values: 1.5 is outside [0, 1]"),
        (lambda: usual_range([[0.5]], 0.1), "expected (n, k) and (n,), n >= 2"),
        (lambda: ChangeDetector([0.4], [0.6], 0.1).add([[math.nan]]), "values: nan is outside [0, 1]"),
        (lambda: ChangeDetector([0.4], [0.6], 0.1).add([[0.5, 0.5]]), "values: shape (1, 2), expected (n, 1)"),
        (lambda: planned_pairs(0.3, 0.0, 0.05), "gap: 0.0 is outside (0, inf)"),
    ],
)  # fmt: skip
def test_outside_its_domain_a_function_names_argument_and_value(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        call()
