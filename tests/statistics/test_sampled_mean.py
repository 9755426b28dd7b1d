"""Weighted means: the formula, its edges, and unbiased means with valid intervals on simulated traffic."""

from __future__ import annotations

import math
import random
from statistics import fmean, stdev

import numpy as np
import pytest
from fixtures.simulation_bounds import most_misses
from hypothesis import given
from hypothesis import strategies as st

from gateway.statistics.asymptotic import Tuning, half_width
from gateway.statistics.sampled_mean import StratumSums, weighted_mean

UNIT = (0.0, 1.0)
UNBOUNDED = (None, None)


def stratum(name: str, values: list[float], population: float = 0.0, not_applicable: int = 0, nonresponse: int = 0):
    squares = sum(v * v for v in values)
    return StratumSums(name, len(values), sum(values), squares, not_applicable, nonresponse, len(values), population)


def test_equal_weights_give_the_plain_mean_and_its_sequence() -> None:
    values = np.random.default_rng(42).normal(5, 2, 400)

    estimate = weighted_mean([stratum("all", values.tolist(), 400)], UNBOUNDED)
    half = half_width(float(values.std()), 400, Tuning())

    assert estimate.mean == pytest.approx(values.mean())
    assert (estimate.low, estimate.high) == pytest.approx((values.mean() - half, values.mean() + half))
    assert (estimate.n, estimate.effective_n) == (400, pytest.approx(400))


@given(values=st.lists(st.floats(-100, 100), min_size=2, max_size=40), seed=st.integers(0, 1000))
def test_sums_by_stratum_give_the_formulas_over_all_values(values: list[float], seed: int) -> None:
    """Mean, effective n and interval are those of Hajek, Kish and the linearised terms, computed on arrays."""
    names = np.random.default_rng(seed).choice(["a", "b", "c"], len(values))
    population = {h: len(values) * 10.0 + i for i, h in enumerate("abc")}
    y = np.array(values)
    cells = [stratum(h, y[names == h].tolist(), population[h]) for h in sorted(set(names.tolist()))]

    estimate = weighted_mean(cells, UNBOUNDED, Tuning(burn_in=0))

    w = np.array([population[h] / (names == h).sum() for h in names])
    mean, size = (w * y).sum() / w.sum(), w.sum() ** 2 / (w**2).sum()
    terms = y.size * w * (y - mean) / w.sum()
    half = half_width(math.sqrt(float((terms**2).sum()) / y.size**2 * size), size, Tuning(burn_in=0))
    assert estimate.mean == pytest.approx(mean, abs=1e-9)
    assert estimate.effective_n == pytest.approx(size)
    assert estimate.high - estimate.low == pytest.approx(2 * half, rel=1e-6, abs=1e-4)


def test_a_stratum_without_an_answer_leaves_no_mean_and_is_named() -> None:
    cells = [
        stratum("rest", [1.0], 10),
        stratum("error", [], 5, nonresponse=1),
        stratum("slow", [], 3),
        stratum("empty", []),
    ]

    estimate = weighted_mean(cells, UNIT)

    assert estimate.mean is None
    assert (estimate.low, estimate.high) == UNIT
    assert estimate.missing == ("error", "slow")


def test_nothing_applicable_gives_no_mean_but_nothing_is_missing() -> None:
    estimate = weighted_mean([stratum("all", [], 10, not_applicable=1)], UNIT)

    assert (estimate.mean, estimate.missing, estimate.not_applicable, estimate.effective_n) == (None, (), 1, 0.0)
    assert weighted_mean([], UNIT).nonresponse is None


def test_nonresponse_is_a_share_of_the_population() -> None:
    cells = [stratum("rest", [1.0, 0.0], 90, nonresponse=2), stratum("error", [0.0], 10)]

    estimate = weighted_mean(cells, UNIT)

    assert estimate.nonresponse == pytest.approx(0.9 * 0.5)
    assert estimate.mean == pytest.approx(0.9 * 0.5)


def test_equal_values_do_not_claim_certainty() -> None:
    early = weighted_mean([stratum("all", [1.0] * 29, 29)], UNIT)
    later = weighted_mean([stratum("all", [1.0] * 30, 30)], UNIT)

    assert (early.mean, early.low, early.high) == (1.0, 0.0, 1.0)
    assert later.low == pytest.approx(1 - half_width(1.0, 30, Tuning()) ** 2 / 2)
    assert 0.5 < later.low < 0.9
    assert later.high == 1.0


def test_a_late_tally_counts_at_least_the_samples() -> None:
    late = [stratum("new", [1.0, 1.0, 0.0], 1), stratum("old", [0.0], 6)]

    assert weighted_mean(late, UNIT).mean == pytest.approx(2 / 9)


def test_before_the_first_tally_nominal_rates_apply() -> None:
    """Half of the traffic at pi = 0.5 scored 0, half at 0.1 scored 1: weights 2 and 10."""
    cells = [
        StratumSums("a", 50, 0.0, 0.0, inverse_pi=100.0),
        StratumSums("b", 10, 10.0, 10.0, inverse_pi=100.0),
    ]

    estimate = weighted_mean(cells, UNIT)

    assert estimate.mean == pytest.approx(0.5)
    assert estimate.effective_n == pytest.approx(200**2 / (50 * 4 + 10 * 100))


def test_the_interval_narrows_and_stays_inside_the_bounds() -> None:
    few = weighted_mean([StratumSums("a", 40, 30.0, 30.0, population=40)], UNIT)
    many = weighted_mean([StratumSums("a", 4000, 3000.0, 3000.0, population=4000)], UNIT)
    assert 0.0 <= few.low < many.low < 0.75 < many.high < few.high <= 1.0


def test_few_unbounded_values_have_an_infinite_interval() -> None:
    estimate = weighted_mean([StratumSums("a", 3, 9.0, 29.0, population=3)], (0.0, None))
    assert (estimate.mean, estimate.low, estimate.high) == (3.0, 0.0, math.inf)


def test_domains() -> None:
    for refused, message in (
        (lambda: StratumSums("h", -1, 0.0, 0.0), "scored: -1"),
        (lambda: StratumSums("h", 1, math.inf, 0.0), "total: inf"),
        (lambda: StratumSums("h", 1, 1.0, math.nan), "squares: nan"),
        (lambda: StratumSums("h", 1, 1.0, 1.0, nonresponse=-1), "nonresponse: -1"),
        (lambda: StratumSums("h", 1, 1.0, 1.0, population=-1.0), "population: -1.0"),
        (lambda: StratumSums("h", 1, 1.0, 1.0, inverse_pi=-1.0), "inverse_pi: -1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()


# Simulated traffic: errors are sampled whole, the rest at 1 %; a full recorder drops 30 % of the errors and 10 % of
# the rest.
SHARE = {"error": 0.05, "rest": 0.95}
PI = {"error": 1.0, "rest": 0.01}
KEPT = {"error": 0.7, "rest": 0.9}
QUALITY = {"error": 0.1, "rest": 0.77}
TRUTH = sum(SHARE[h] * QUALITY[h] for h in SHARE)


def sampled(seed: int, n: int = 20000) -> tuple[dict[str, float], dict[str, list[float]]]:
    """(N_h, scores of what arrived) of one run."""
    rng = np.random.default_rng(seed)
    errors = int(rng.binomial(n, SHARE["error"]))
    population = {"error": float(errors), "rest": float(n - errors)}
    arrived = {h: rng.binomial(int(population[h]), PI[h] * KEPT[h]) for h in SHARE}
    return population, {h: (rng.random(arrived[h]) < QUALITY[h]).astype(float).tolist() for h in SHARE}


def test_realised_rates_are_unbiased_despite_drops() -> None:
    """Means are within 3 standard errors of the truth over 600 seeded runs; naive means and nominal rates are not."""
    ours, naive, nominal = [], [], []
    for population, scores in map(sampled, range(600)):
        ours.append(weighted_mean([stratum(h, scores[h], population[h]) for h in scores], UNIT).mean or 0.0)
        naive.append(fmean([x for values in scores.values() for x in values]))
        weights = {h: 1 / PI[h] for h in scores}
        total = sum(weights[h] * len(scores[h]) for h in scores)
        nominal.append(sum(weights[h] * sum(scores[h]) for h in scores) / total)
    error = stdev(ours) / math.sqrt(600)

    assert pytest.approx(0.7365) == TRUTH
    assert abs(fmean(ours) - TRUTH) <= 3 * error
    assert abs(fmean(nominal) - TRUTH) > 3 * error
    assert abs(fmean(naive) - TRUTH) > 0.3


def test_answers_to_which_a_scorer_does_not_apply_count_in_the_rate() -> None:
    """The truth is 0.747. With n_h = scored alone the mean would be 0.927."""
    share, quality, applies = {"a": 0.05, "b": 0.95}, {"a": 0.02, "b": 0.9747}, {"a": 1.0, "b": 0.168}
    rng, population = np.random.default_rng(40), {"a": 5000.0, "b": 95000.0}
    truth = sum(share[h] * applies[h] * quality[h] for h in share) / sum(share[h] * applies[h] for h in share)
    ours, scored_alone = [], []
    for _ in range(300):
        cells, wrong = [], []
        for h in share:
            samples = int(rng.binomial(int(population[h]), 0.02))
            scored = int(rng.binomial(samples, applies[h]))
            values = (rng.random(scored) < quality[h]).astype(float).tolist()
            cells.append(stratum(h, values, population[h], not_applicable=samples - scored))
            wrong.append(stratum(h, values, population[h]))
        ours.append(weighted_mean(cells, UNIT).mean or 0.0)
        scored_alone.append(weighted_mean(wrong, UNIT).mean or 0.0)

    assert truth == pytest.approx(0.747, abs=5e-4)
    assert abs(fmean(ours) - truth) <= 3 * stdev(ours) / math.sqrt(300)
    assert fmean(scored_alone) == pytest.approx(0.927, abs=0.005)


def test_the_interval_rarely_misses_with_a_look_after_every_answer() -> None:
    """At most alpha of the paths ever miss, from the burn-in on, with N_h as known at each look."""
    paths, rng, missed, widths = 150, np.random.default_rng(41), 0, []
    pi, tuning, truth = {"error": 0.5, "rest": 0.1}, Tuning(0.05, 200, 30), 0.1 * 0.1 + 0.9 * 0.77
    for _ in range(paths):
        seen, scores, wrong = {"error": 0, "rest": 0}, {"error": [0, 0], "rest": [0, 0]}, False
        names = np.where(rng.random(2500) < 0.1, "error", "rest").tolist()
        in_sample = rng.random(2500) < np.array([pi[h] for h in names])
        good = rng.random(2500) < np.array([QUALITY[h] for h in names])
        for h, kept, value in zip(names, in_sample.tolist(), good.tolist(), strict=True):
            seen[h] += 1
            if kept:
                scores[h][0] += 1
                scores[h][1] += value
                cells = [StratumSums(k, n, t, t, population=seen[k]) for k, (n, t) in scores.items()]
                estimate = weighted_mean(cells, UNIT, tuning)
                wrong |= not estimate.low <= truth <= estimate.high
        missed += wrong
        widths.append(estimate.high - estimate.low)

    assert missed / paths <= most_misses(0.05, paths)
    assert np.mean(widths) < 0.25


@pytest.mark.parametrize("passes", [0.97, 0.99, 0.999])
def test_rare_failures_are_not_ruled_out_before_the_first_one(passes: float) -> None:
    """At most alpha of the paths ever miss; the plain asymptotic interval would miss in 24 % at 0.99."""
    paths, looks = 150, range(30, 1501, 10)
    counts = (np.random.default_rng(45).random((paths, 1500)) < passes).cumsum(axis=1)
    missed = 0
    for path in counts[:, 29::10].tolist():
        estimates = (
            weighted_mean([StratumSums("all", n, k, k, population=100 * n)], UNIT)
            for n, k in zip(looks, path, strict=True)
        )
        missed += any(not e.low <= passes <= e.high for e in estimates)

    assert missed / paths <= most_misses(0.05, paths)


def traffic(rng: random.Random) -> list[tuple[str, float | None]]:
    """Errors answer badly and are all sampled; the rest answers well and rarely is; to some it does not apply."""
    made: list[tuple[str, float | None]] = []
    for _ in range(3000):
        error = rng.random() < 0.1
        applies = rng.random() < (0.9 if error else 0.5)
        value = float(rng.random() < (0.1 if error else 0.9))
        made.append(("error" if error else "default", value if applies else None))
    return made


def sample_of(rng: random.Random, calls: list[tuple[str, float | None]], rates: dict[str, float], *, counted: bool):
    cells, chosen = [], []
    for name, rate in rates.items():
        calls_here = [value for stratum, value in calls if stratum == name]
        samples = [value for value in calls_here if rng.random() < rate]
        values = [v for v in samples if v is not None]
        chosen += values
        cells.append(
            StratumSums(
                name=name,
                scored=len(values),
                total=sum(values),
                squares=sum(v * v for v in values),
                not_applicable=len(samples) - len(values),
                inverse_pi=len(samples) / rate,
                population=len(calls_here) if counted else 0,
            )
        )
    return cells, chosen


@pytest.mark.parametrize("counted", [True, False], ids=["realised rates", "nominal rates, before the first Tally"])
def test_weighted_means_are_unbiased_where_the_naive_mean_is_not(counted: bool) -> None:
    rng = random.Random(11)
    off, naive = [], []
    for _ in range(150):
        calls = traffic(rng)
        truth = fmean(v for _, v in calls if v is not None)
        cells, chosen = sample_of(rng, calls, {"error": 1.0, "default": 0.1}, counted=counted)
        mean = weighted_mean(cells, UNIT).mean
        assert mean is not None
        off.append(mean - truth)
        naive.append(fmean(chosen) - truth)
    assert abs(fmean(off)) < 3 * stdev(off) / len(off) ** 0.5
    assert fmean(naive) < -0.3


def conversations(rng: random.Random, count: int) -> list[list[float]]:
    """Each is good or bad overall: one to nine turns that nearly all score alike."""
    made = []
    for _ in range(count):
        good = rng.random()
        made.append([float(rng.random() < good) for _ in range(rng.randint(1, 9))])
    return made


def of(talks: list[list[float]], *, together: bool) -> StratumSums:
    values = [v for talk in talks for v in talk]
    sums = [(len(talk), sum(talk)) for talk in talks]
    units = (float(sum(n * n for n, _ in sums)), sum(n * t for n, t in sums), sum(t * t for _, t in sums))
    squares = sum(v * v for v in values)
    return StratumSums("s", len(values), sum(values), squares, units=units if together else None)


def test_conversations_as_units_count_as_one_observation_each() -> None:
    """Mean, effective n and interval are those of one value for each conversation, weighted by its length."""
    talks = conversations(random.Random(3), 300)
    n, y = np.array([len(talk) for talk in talks]), np.array([fmean(talk) for talk in talks])
    mean, size = (n * y).sum() / n.sum(), n.sum() ** 2 / (n**2).sum()
    width = half_width(1.0, size, Tuning())
    variance = (n**2 * (y - mean) ** 2).sum() / (n**2).sum() + (width / 2) ** 2

    found = weighted_mean([of(talks, together=True)], UNIT)

    assert found.mean == pytest.approx(mean)
    assert found.effective_n == pytest.approx(size)
    assert found.high - found.low == pytest.approx(2 * width * math.sqrt(variance))
    assert found.effective_n < 300
    assert found.mean == weighted_mean([of(talks, together=False)], UNIT).mean


def test_the_interval_over_conversations_rarely_misses() -> None:
    """200 seeded runs with ten looks each; taking exchanges as independent misses in more than twice as many."""
    rng, truth = random.Random(8), fmean(v for talk in conversations(random.Random(1), 50_000) for v in talk)
    wrong = {True: 0, False: 0}
    for _ in range(200):
        talks = conversations(rng, 400)
        for together in wrong:
            looks = (weighted_mean([of(talks[:n], together=together)], UNIT) for n in range(40, 401, 40))
            wrong[together] += any(not e.low <= truth <= e.high for e in looks)
    assert wrong[True] <= 0.08 * 200
    assert wrong[False] > 2 * max(5, wrong[True])
