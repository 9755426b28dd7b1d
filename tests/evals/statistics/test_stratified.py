"""Means are as they would be over all traffic: biased sampling does not bias them."""

from __future__ import annotations

import random
from statistics import fmean, stdev

import pytest

from gateway.evals.statistics.stratified import StratumSums, weighted_mean
from gateway.evals.statistics.weights import WeightedMean

UNIT = (0.0, 1.0)


def traffic(rng: random.Random) -> list[tuple[str, float | None]]:
    """Errors answer badly and are all sampled; the rest answers well and rarely is; to some it does not apply."""
    made: list[tuple[str, float | None]] = []
    for _ in range(3000):
        error = rng.random() < 0.1
        applies = rng.random() < (0.9 if error else 0.5)
        value = float(rng.random() < (0.1 if error else 0.9))
        made.append(("error" if error else "default", value if applies else None))
    return made


def sampled(rng: random.Random, calls: list[tuple[str, float | None]], rates: dict[str, float], *, counted: bool):
    strata, chosen = {}, []
    for name, rate in rates.items():
        of = [value for stratum, value in calls if stratum == name]
        here = [value for value in of if rng.random() < rate]
        values = [v for v in here if v is not None]
        chosen += values
        strata[name] = StratumSums(
            name, len(values), sum(values), sum(v * v for v in values), len(here) - len(values), 0,
            len(here) / rate, len(of) if counted else 0,
        )  # fmt: skip
    return strata.values(), chosen


@pytest.mark.parametrize("counted", [True, False], ids=["realised rates", "nominal rates, before the first Tally"])
def test_weighted_means_are_unbiased_where_the_naive_mean_is_far_off(counted):
    rng = random.Random(11)
    off, naive = [], []
    for _ in range(150):
        calls = traffic(rng)
        truth = fmean(v for _, v in calls if v is not None)
        strata, chosen = sampled(rng, calls, {"error": 1.0, "default": 0.1}, counted=counted)
        mean = weighted_mean(strata, UNIT).mean
        assert mean is not None
        off.append(mean - truth)
        naive.append(fmean(chosen) - truth)
    assert abs(fmean(off)) < 3 * stdev(off) / len(off) ** 0.5
    assert fmean(naive) < -0.3


def test_the_interval_narrows_and_stays_inside_the_bounds():
    few = weighted_mean([StratumSums("a", 40, 30.0, 30.0, population=40)], UNIT)
    many = weighted_mean([StratumSums("a", 4000, 3000.0, 3000.0, population=4000)], UNIT)
    assert 0.0 <= few.low < many.low < 0.75 < many.high < few.high <= 1.0


def test_a_stratum_that_was_seen_and_never_scored_leaves_no_mean():
    strata = [StratumSums("a", 40, 30.0, 30.0, population=400), StratumSums("b", 0, 0.0, 0.0, population=3)]
    estimate = weighted_mean(strata, UNIT)
    assert estimate.mean is None
    assert estimate.missing == ("b",)


def test_values_without_bounds_have_intervals_without_ends_at_first():
    estimate = weighted_mean([StratumSums("a", 3, 9.0, 29.0, population=3)], (0.0, None))
    assert (estimate.mean, estimate.low, estimate.high) == (3.0, 0.0, float("inf"))


def conversations(rng: random.Random, count: int) -> list[list[float]]:
    """Each is good or bad as a whole: one to nine turns that nearly all score alike."""
    made = []
    for _ in range(count):
        good = rng.random()
        made.append([float(rng.random() < good) for _ in range(rng.randint(1, 9))])
    return made


def of(talks: list[list[float]], *, together: bool) -> StratumSums:
    values = [v for talk in talks for v in talk]
    sums = [(len(talk), sum(talk)) for talk in talks]
    units = (sum(n * n for n, _ in sums), sum(n * t for n, t in sums), sum(t * t for _, t in sums))
    squares = sum(v * v for v in values)
    return StratumSums("s", len(values), sum(values), squares, units=units if together else None)  # type: ignore[arg-type]


def test_an_interval_over_conversations_is_that_of_one_value_each():
    talks = conversations(random.Random(3), 300)
    one_each = WeightedMean()
    for talk in talks:
        one_each.add("s", fmean(talk), len(talk))
    expected = one_each.estimate()
    found = weighted_mean([of(talks, together=True)], UNIT)
    assert (found.mean, found.low, found.high, found.effective_n) == pytest.approx(
        (expected.mean, expected.low, expected.high, expected.effective_n)
    )
    assert found.effective_n < 300
    assert found.mean == weighted_mean([of(talks, together=False)], UNIT).mean


def test_looked_at_after_every_few_conversations_the_interval_is_rarely_wrong():
    """200 runs, ten looks each: where exchanges were taken as independent, it would miss in many."""
    rng, truth = random.Random(8), fmean(v for talk in conversations(random.Random(1), 50_000) for v in talk)
    wrong = {True: 0, False: 0}
    for _ in range(200):
        talks = conversations(rng, 400)
        for together in wrong:
            looks = (weighted_mean([of(talks[:n], together=together)], UNIT) for n in range(40, 401, 40))
            wrong[together] += any(not e.low <= truth <= e.high for e in looks)
    assert wrong[True] <= 0.08 * 200
    assert wrong[False] > 2 * max(5, wrong[True])
