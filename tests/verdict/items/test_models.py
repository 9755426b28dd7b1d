"""Verdicts equal those of a calculation by hand with scipy; intervals cover; several pairs share the error."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from gateway.features.compare.pairing import pair
from gateway.features.compare.score_files import ScoreFile
from gateway.features.compare.scores import ModelScores, ScoreOptions
from gateway.verdict.items.models import VerdictTerms, compare, paired_interval
from gateway.verdict.items.pairs import PairedValues
from gateway.verdict.items.scores import Columns, PairedScores

CHOSEN = Columns("id", "score", None)


def scores(
    *models: Sequence[Any], clusters: Sequence[str] | None = None, bounds: tuple[float, float] | None = None
) -> PairedScores:
    """The models a, b, …; a score that is a list is of several runs."""
    made = []
    for name, values in zip("abcdef", models, strict=False):
        runs = {f"q{i}": list(v) if isinstance(v, list | tuple) else [float(v)] for i, v in enumerate(values)}
        of = {f"q{i}": c for i, c in enumerate(clusters or [])}
        made.append(ModelScores(ScoreFile(Path(f"{name}.csv"), "CSV", lambda: iter(())), runs, of))
    columns = Columns("id", "score", "topic") if clusters else CHOSEN
    return pair(made, columns, ScoreOptions(bounds=bounds))


@pytest.mark.parametrize(
    ("shift", "margin", "verdict"),
    [(0.1, 0.02, "ship"), (0.0, 0.2, "ship"), (-0.3, 0.02, "reject"), (0.0, 0.02, "hold")],
)
def test_two_models_have_the_verdict_of_scipys_paired_t_test(shift: float, margin: float, verdict: str) -> None:
    rng = np.random.default_rng(11)
    a = rng.normal(0.5, 0.2, 80)
    b = a + rng.normal(shift, 0.2, 80)
    by_hand = stats.ttest_rel(b, a).confidence_interval(0.95)
    expected = "ship" if by_hand.low > -margin else "reject" if by_hand.high < -margin else "hold"
    [found] = compare(scores(a, b), VerdictTerms(margin)).pairs
    assert expected == verdict
    assert found.verdict == expected
    assert (found.comparison.difference.low, found.comparison.difference.high) == pytest.approx(tuple(by_hand))


def test_lower_is_better_turns_the_difference() -> None:
    rng = np.random.default_rng(12)
    a, b = rng.normal(2.0, 0.5, 60), rng.normal(3.0, 0.5, 60)
    [found] = compare(scores(a, b), VerdictTerms(0.1, lower_is_better=True)).pairs
    low, high = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (found.comparison.difference.low, found.comparison.difference.high) == pytest.approx((low, high))
    assert found.verdict == "reject"


@pytest.mark.parametrize("groups", [6, 40])
def test_clusters_have_students_quantile_of_their_number(groups: int) -> None:
    """Computed by hand: se = sqrt(sum over clusters of (sum of deviations)^2) / n * sqrt(G / (G - 1)), t with G - 1
    df."""
    rng = np.random.default_rng(13)
    labels = [f"t{i % groups}" for i in range(240)]
    a = rng.normal(0, 1, 240)
    b = a + rng.normal(0.1, 1, 240) + np.array([rng.normal() for _ in range(groups)])[np.arange(240) % groups]
    d = b - a
    sums = [sum(v - d.mean() for v, label in zip(d, labels, strict=True) if label == f"t{g}") for g in range(groups)]
    se = math.sqrt(sum(s**2 for s in sums)) / 240 * math.sqrt(groups / (groups - 1))
    half = stats.t.ppf(0.975, groups - 1) * se
    result = compare(scores(a, b, clusters=labels), VerdictTerms())
    [found] = result.pairs
    assert (found.comparison.difference.low, found.comparison.difference.high) == pytest.approx(
        (d.mean() - half, d.mean() + half)
    )
    assert found.clusters == groups
    assert any(f"With {groups} clusters" in note for note in result.notes) is (groups < 10)


def test_all_pairs_share_the_error_by_holms_procedure() -> None:
    """Computed by hand, with one-sided p values from scipy: ship where p of "worse by the margin" passes Holm's
    step."""
    rng = np.random.default_rng(393)
    base = rng.normal(0.5, 0.2, 120)
    models = [
        base,
        base + rng.normal(0.035, 0.2, 120),
        base + rng.normal(0.05, 0.2, 120),
        base + rng.normal(-0.02, 0.2, 120),
    ]
    margin, alpha = 0.01, 0.05
    tests = {
        (i, j): stats.ttest_1samp(models[j] - models[i], -margin, alternative="greater").pvalue
        for i, j in itertools.combinations(range(4), 2)
    }
    worse = {
        (i, j): stats.ttest_1samp(models[j] - models[i], -margin, alternative="less").pvalue
        for i, j in itertools.combinations(range(4), 2)
    }

    def passed(p: dict[tuple[int, int], float]) -> set[tuple[int, int]]:
        kept: set[tuple[int, int]] = set()
        for step, key in enumerate(sorted(p, key=p.__getitem__)):
            if p[key] >= alpha / 2 / (len(p) - step):
                break
            kept.add(key)
        return kept

    result = compare(scores(*models), VerdictTerms(margin, alpha))
    verdicts = {("abcd".index(p.control), "abcd".index(p.candidate)): p.verdict for p in result.pairs}
    assert {key for key, v in verdicts.items() if v == "ship"} == passed(tests)
    assert {key for key, v in verdicts.items() if v == "reject"} == passed(worse)
    uncorrected, even = ({key for key, p in tests.items() if p < alpha / 2 / k} for k in (1, 6))
    assert even < passed(tests) < uncorrected, "the case tells Holm from Bonferroni, and from no correction"


@pytest.mark.parametrize("worlds", [60, pytest.param(1000, marks=pytest.mark.long)])
def test_no_worse_model_ships_more_often_than_alpha(worlds: int) -> None:
    """Each of three models is worse by the margin than the previous one: alpha / 2 + 3 SE of the worlds."""
    rng, wrong = np.random.default_rng(15), 0
    for _ in range(worlds):
        a = rng.normal(0, 0.3, 40)
        models = [a, a - 0.1 + rng.normal(0, 0.3, 40), a - 0.2 + rng.normal(0, 0.3, 40)]
        found = compare(scores(*models), VerdictTerms(0.1, 0.05)).pairs
        wrong += any(p.verdict == "ship" for p in found)
    assert wrong / worlds <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / worlds)


@pytest.mark.parametrize(
    ("n", "rates"), [(8, (0.5, 0.7)), (12, (0.2, 0.9)), (20, (0.9, 0.95)), (60, (0.5, 0.5))], ids=str
)
def test_few_yes_or_no_items_have_an_interval_that_covers(n: int, rates: tuple[float, float]) -> None:
    """500 runs: misses at most 5 % + 3 SE. McNemar's interval from a standard error alone misses 12 % at n = 12."""
    rng, missed = np.random.default_rng(16), 0
    for _ in range(500):
        a, b = (rng.random((2, n)) < np.array(rates)[:, None]).astype(float)
        found, _ = paired_interval(PairedValues(a, b, [str(i) for i in range(n)], b - a), 1.0, 0.05)
        assert found.low is not None
        assert found.high is not None
        missed += not found.low <= rates[1] - rates[0] <= found.high
    assert missed / 500 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 500)


def test_items_needed_would_decide_the_margin() -> None:
    """The margin is decided with as many more items of the same differences, and not with 10 % fewer."""
    d = np.array([0.3, -0.3, 0.2, -0.16] * 15)
    [found] = compare(scores(np.zeros(60), d, bounds=(-1, 1)), VerdictTerms(0.02)).pairs
    assert found.items_needed is not None
    total = 60 + found.items_needed
    for n, decided in ((math.ceil(total / 4) * 4, True), (int(total * 0.9) // 4 * 4, False)):
        [more] = compare(scores(np.zeros(n), np.resize(d, n), bounds=(-1, 1)), VerdictTerms(0.02)).pairs
        assert (more.comparison.margin_found != "unclear") is decided


def test_the_margin_that_items_decide_has_a_power_of_80_percent() -> None:
    """An equal candidate with the same spread is shown within that margin in 80 %, by the noncentral t of scipy."""
    rng = np.random.default_rng(17)
    a = rng.normal(0, 1, 100)
    b = a + rng.normal(0, 0.4, 100)
    [found] = compare(scores(a, b), VerdictTerms()).pairs
    assert found.decides is not None
    noncentrality = found.decides / (np.std(b - a, ddof=1) / 10)
    power = 1 - stats.nct.cdf(stats.t.ppf(0.975, 99), 99, noncentrality)
    assert power == pytest.approx(0.8, abs=0.01)


def test_runs_of_an_item_are_averaged_and_their_variance_is_shown() -> None:
    rng = np.random.default_rng(18)
    levels = rng.normal(0, 1, 50)
    a, b = ([[float(level + rng.normal(0, 0.5)) for _ in range(4)] for level in levels] for _ in range(2))
    result = compare(scores(a, b), VerdictTerms(0.5))
    [found] = result.pairs
    low, high = stats.ttest_rel(np.mean(b, axis=1), np.mean(a, axis=1)).confidence_interval(0.95)
    assert (found.comparison.difference.low, found.comparison.difference.high) == pytest.approx((low, high))
    assert found.runs is not None
    assert found.runs.share > 0.6, "the models differ by their runs alone"
    assert found.runs.twice_as_many_runs == pytest.approx(1 - math.sqrt(1 - found.runs.share / 2))
    assert result.models[0].variance is not None
    assert compare(scores(levels, levels + 0.1), VerdictTerms()).pairs[0].runs is None


@pytest.mark.parametrize(
    ("a", "b", "bounds", "words"),
    [
        ([0.7] * 30, [0.7] * 30, None, "within"),
        ([3.0] * 30, [3.0] * 30, None, "every score is 3, which does not distinguish the models"),
        ([0.0] * 30, [0.0] * 30, (0.0, 1.0), "every score of both is the worst one, 0"),
        ([0.5], [0.9], (0.0, 1.0), "1 independent item gives no interval"),
    ],
)
def test_scores_that_tell_nothing_apart_give_no_verdict(a: Any, b: Any, bounds: Any, words: str) -> None:
    [found] = compare(scores(a, b, bounds=bounds), VerdictTerms(0.02 if words != "within" else 0.2)).pairs
    assert words in found.sentence
    assert found.verdict == ("ship" if words == "within" else "hold")


def test_equal_differences_do_not_give_an_empty_interval() -> None:
    [found] = compare(scores([0.5] * 40, [0.4] * 40), VerdictTerms(0.2)).pairs
    difference = found.comparison.difference
    assert difference.low is not None
    assert difference.high is not None
    assert difference.low < -0.1 < difference.high
