"""Weighted means over simulated traffic: unbiased, and with intervals that are rarely ever wrong."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from gateway.evals.statistics.asymptotic import Tuning
from gateway.evals.statistics.weights import Stratum, WeightedMean, hajek_mean, horvitz_thompson_mean

# Errors are kept whole, the rest at 1 %; a full recorder drops 30 % of the errors and 10 % of the rest.
SHARE = {"error": 0.05, "rest": 0.95}
PI = {"error": 1.0, "rest": 0.01}
KEPT = {"error": 0.7, "rest": 0.9}
QUALITY = {"error": 0.1, "rest": 0.77}
TRUTH = sum(SHARE[h] * QUALITY[h] for h in SHARE)


@dataclass(frozen=True)
class Traffic:
    """One run: N_h, and the scores of what arrived."""

    population: dict[str, float]
    scores: dict[str, np.ndarray]


def traffic(seed: int, n: int = 20000) -> Traffic:
    rng = np.random.default_rng(seed)
    errors = int(rng.binomial(n, SHARE["error"]))
    population = {"error": errors, "rest": n - errors}
    scores = {h: (rng.random(rng.binomial(population[h], PI[h] * KEPT[h])) < QUALITY[h]).astype(float) for h in SHARE}
    return Traffic(population, scores)


def of(scores: dict[str, np.ndarray], not_applicable: dict[str, int] | None = None) -> WeightedMean:
    aside = not_applicable or {}
    sums = {h: Stratum.from_sums(x.size, x.sum(), (x**2).sum(), aside.get(h, 0)) for h, x in scores.items()}
    return WeightedMean(sums)


def test_realised_rates_are_unbiased_where_naive_means_and_nominal_rates_are_not() -> None:
    """Errors kept at 100 %, the rest at 1 %, drops on both: within 3 SE of the truth over 600 runs."""
    runs = [traffic(seed) for seed in range(600)]
    naive = np.array([np.concatenate(list(run.scores.values())).mean() for run in runs])
    nominal = np.array(
        [
            hajek_mean(
                np.concatenate(list(run.scores.values())),
                np.concatenate([np.full(run.scores[h].size, 1 / PI[h]) for h in run.scores]),
            )
            for run in runs
        ]
    )
    ours = np.array([of(run.scores).estimate(run.population).mean for run in runs])
    error = ours.std() / math.sqrt(600)

    assert pytest.approx(0.7365) == TRUTH
    assert abs(ours.mean() - TRUTH) <= 3 * error
    assert abs(nominal.mean() - TRUTH) > 3 * error
    assert abs(naive.mean() - TRUTH) > 0.3, f"the naive mean is {naive.mean():.3f}"


def test_what_does_not_apply_counts_in_the_rate_or_the_mean_is_wrong() -> None:
    """Truth 0.747. With n_h = scored alone, those that apply speak for those that do not: 0.927."""
    share, quality, applies = {"a": 0.05, "b": 0.95}, {"a": 0.02, "b": 0.9747}, {"a": 1.0, "b": 0.168}
    rng, population = np.random.default_rng(40), {"a": 5000.0, "b": 95000.0}
    truth = sum(share[h] * applies[h] * quality[h] for h in share) / sum(share[h] * applies[h] for h in share)
    ours, scored_alone = [], []
    for _ in range(300):
        scores, aside = {}, {}
        for h in share:
            sampled = rng.binomial(int(population[h]), 0.02)
            scored = rng.binomial(sampled, applies[h])
            scores[h], aside[h] = (rng.random(scored) < quality[h]).astype(float), sampled - scored
        ours.append(of(scores, aside).estimate(population).mean)
        scored_alone.append(of(scores).estimate(population).mean)

    assert truth == pytest.approx(0.747, abs=5e-4)
    assert abs(np.mean(ours) - truth) <= 3 * np.std(ours) / math.sqrt(300)
    assert np.mean(scored_alone) == pytest.approx(0.927, abs=0.005)


def test_the_interval_is_rarely_ever_wrong_while_looking_after_every_answer() -> None:
    """Ever-miss <= alpha + 3 SE from the burn-in on, N_h read at each look, values arriving as sampled."""
    paths, rng, missed, widths = 150, np.random.default_rng(41), 0, []
    pi, tuning = {"error": 0.5, "rest": 0.1}, Tuning(0.05, 200, 30)
    for _ in range(paths):
        mean, seen, wrong = WeightedMean(), {"error": 0, "rest": 0}, False
        stratum = np.where(rng.random(2500) < 0.1, "error", "rest").tolist()
        sampled = rng.random(2500) < np.array([pi[h] for h in stratum])
        good = rng.random(2500) < np.array([QUALITY[h] for h in stratum])
        for h, in_sample, value in zip(stratum, sampled.tolist(), good.tolist(), strict=True):
            seen[h] += 1
            if in_sample:
                mean.add(h, float(value))
                estimate = mean.estimate(seen, tuning)
                wrong |= not estimate.low <= 0.1 * 0.1 + 0.9 * 0.77 <= estimate.high
        missed += wrong
        widths.append(estimate.high - estimate.low)

    assert missed / paths <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / paths)
    assert np.mean(widths) < 0.25


@pytest.mark.parametrize("passes", [0.97, 0.99, 0.999])
def test_rare_failures_are_not_ruled_out_before_the_first_one(passes: float) -> None:
    """Ever-miss <= alpha + 3 SE for what a rule mostly finds right: the plain asymptotic interval misses 24 % there."""
    paths, looks = 150, range(30, 1501, 10)
    counts = (np.random.default_rng(45).random((paths, 1500)) < passes).cumsum(axis=1)
    missed = 0
    for path in counts[:, 29::10].tolist():
        for n, k in zip(looks, path, strict=True):
            estimate = WeightedMean({"all": Stratum.from_sums(n, k, k)}).estimate({"all": 100 * n})
            if not estimate.low <= passes <= estimate.high:
                missed += 1
                break

    assert missed / paths <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / paths)


def test_closed_intervals_add_up_to_the_mean_and_what_is_not_yet_represented_is_carried() -> None:
    rng, carried = np.random.default_rng(43), {"error": 0.0, "rest": 0.0}
    weighted_sum, weight, seen = 0.0, 0.0, 0
    for _ in range(3000):
        interval = WeightedMean()
        population = dict(carried)
        for h, count in (("error", rng.poisson(2)), ("rest", rng.poisson(38))):
            population[h] += count
            seen += count
            for value in rng.random(rng.binomial(count, PI[h])) < QUALITY[h]:
                interval.add(h, float(value))
        totals = interval.totals(population)
        weighted_sum, weight = weighted_sum + totals.weighted_sum, weight + totals.weight
        carried = {h: totals.unspent.get(h, 0.0) for h in carried}

    assert weight + sum(carried.values()) == pytest.approx(seen)
    assert weighted_sum / weight == pytest.approx(TRUTH, abs=0.05)


def test_horvitz_thompson_is_unbiased_and_hajek_stays_within_the_values() -> None:
    rng = np.random.default_rng(44)
    y, pi = rng.random(200) + 3, rng.uniform(0.05, 1, 200)
    ht, hajek = [], []
    for _ in range(2000):
        kept = rng.random(200) < pi
        ht.append(horvitz_thompson_mean(y[kept], pi[kept], 200))
        hajek.append(hajek_mean(y[kept], 1 / pi[kept]))

    assert abs(np.mean(ht) - y.mean()) <= 3 * np.std(ht) / math.sqrt(2000)
    assert abs(np.mean(hajek) - y.mean()) <= 3 * np.std(hajek) / math.sqrt(2000) + 0.002
    assert np.std(hajek) < 0.3 * np.std(ht)
    assert y.min() <= min(hajek) <= max(hajek) <= y.max()
