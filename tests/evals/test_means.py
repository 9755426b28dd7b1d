"""Means are as they would be over all traffic: biased sampling does not bias them."""

from __future__ import annotations

import random
from statistics import fmean, stdev

import pytest

from gateway.evals.means import StratumSums, weighted_mean

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
