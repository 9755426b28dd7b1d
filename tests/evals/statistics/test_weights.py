"""What was sampled unequally, shown as it would be over everything."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.evals.statistics.asymptotic import Tuning, half_width
from gateway.evals.statistics.weights import (
    UNBOUNDED,
    Stratum,
    WeightedMean,
    hajek_mean,
    hajek_terms,
    horvitz_thompson_mean,
    kish_size,
    realised_weight,
)

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
    paths, rng, missed, widths = 250, np.random.default_rng(41), 0, []
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


def test_equal_weights_give_the_plain_mean_and_its_confidence_sequence() -> None:
    values = np.random.default_rng(42).normal(5, 2, 400)
    mean = WeightedMean()
    for x in values:
        mean.add("all", float(x))

    estimate = mean.estimate({"all": 400}, Tuning(), UNBOUNDED)
    half = half_width(float(values.std()), 400, Tuning())

    assert estimate.mean == pytest.approx(values.mean())
    assert (estimate.low, estimate.high) == pytest.approx((values.mean() - half, values.mean() + half))
    assert (estimate.n, estimate.effective_n) == (400, pytest.approx(400))


@given(
    values=st.lists(st.floats(-100, 100), min_size=2, max_size=40),
    seed=st.integers(0, 1000),
)
def test_the_accumulator_is_the_array_formulas(values: list[float], seed: int) -> None:
    """Mean, effective n and interval from the sums are those of hajek_mean, kish_size and hajek_terms."""
    rng = np.random.default_rng(seed)
    strata, own = rng.choice(["a", "b", "c"], len(values)).tolist(), rng.uniform(1, 5, len(values)).tolist()
    mean, population = WeightedMean(), {h: float(len(values) * 10 + i) for i, h in enumerate("abc") if h in strata}
    for h, x, u in zip(strata, values, own, strict=True):
        mean.add(h, x, u)
    sums = {h: sum(u for g, u in zip(strata, own, strict=True) if g == h) for h in population}
    weights = [population[h] * u / sums[h] for h, u in zip(strata, own, strict=True)]
    terms, size = hajek_terms(values, weights), kish_size(weights)

    estimate = mean.estimate(population, Tuning(burn_in=0), UNBOUNDED)

    n = len(values)
    half = half_width(math.sqrt(float((terms**2).sum()) / n**2 * size), size, Tuning(burn_in=0))
    assert estimate.mean == pytest.approx(hajek_mean(values, weights), abs=1e-9)
    assert estimate.effective_n == pytest.approx(size)
    assert estimate.high - estimate.low == pytest.approx(2 * half, rel=1e-6, abs=1e-4)
    assert terms.sum() == pytest.approx(0.0, abs=1e-6)


@given(
    values=st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 1)), min_size=1, max_size=30), cut=st.integers(0, 30)
)
def test_the_order_of_arrival_and_of_merging_does_not_matter(values: list[tuple[str, float]], cut: int) -> None:
    population = {"a": 100.0, "b": 200.0}
    forward, backward, left, right = (WeightedMean() for _ in range(4))
    for i, (h, x) in enumerate(values):
        forward.add(h, x)
        (left if i < cut else right).add(h, x)
    for h, x in reversed(values):
        backward.add(h, x)
    merged = WeightedMean.from_state(right.state())
    merged.merge(left)
    left.merge(right)

    one = forward.estimate(population)
    for other in (backward.estimate(population), merged.estimate(population), left.estimate(population)):
        assert (other.n, other.missing) == (one.n, one.missing)
        assert other.mean is one.mean if one.mean is None else other.mean == pytest.approx(one.mean, abs=1e-12)
        assert (other.low, other.high) == pytest.approx((one.low, one.high), abs=1e-9)


def test_a_stratum_without_an_answer_leaves_no_mean_and_says_so() -> None:
    mean = WeightedMean()
    mean.add("rest", 1.0)
    mean.add_nonresponse("error")

    estimate = mean.estimate({"rest": 10, "error": 5, "slow": 3, "empty": 0})

    assert estimate.mean is None
    assert (estimate.low, estimate.high) == (0.0, 1.0)
    assert estimate.missing == ("error", "slow")
    assert mean.estimate({"rest": 10, "error": 5}).missing == ("error",)
    assert mean.estimate().missing == ("error",)


def test_nothing_applicable_is_no_mean_but_nothing_is_missing() -> None:
    mean = WeightedMean()
    mean.add_not_applicable("all")

    estimate = mean.estimate({"all": 10})

    assert (estimate.mean, estimate.missing, estimate.not_applicable, estimate.effective_n) == (None, (), 1, 0.0)
    assert WeightedMean().estimate({}).nonresponse is None


def test_nonresponse_is_a_rate_over_the_population_and_made_up_for_inside_its_stratum() -> None:
    mean = WeightedMean()
    for x in (1.0, 0.0):
        mean.add("rest", x)
    mean.add("error", 0.0)
    for _ in range(2):
        mean.add_nonresponse("rest")

    estimate = mean.estimate({"rest": 90, "error": 10})

    assert estimate.nonresponse == pytest.approx(0.9 * 0.5)
    assert estimate.mean == pytest.approx(0.9 * 0.5)


def test_equal_values_do_not_claim_certainty_and_the_burn_in_claims_nothing() -> None:
    mean = WeightedMean()
    for _ in range(29):
        mean.add("all", 1.0)
    early = mean.estimate({"all": 29})
    mean.add("all", 1.0)
    later = mean.estimate({"all": 30})

    assert (early.mean, early.low, early.high) == (1.0, 0.0, 1.0)
    assert later.low == pytest.approx(1 - half_width(math.sqrt(0.25 / 31), 30, Tuning()))
    assert 0.7 < later.low < 0.98
    assert later.high == 1.0


def test_a_late_tally_counts_at_least_what_arrived() -> None:
    mean = WeightedMean()
    for x in (1.0, 1.0, 0.0):
        mean.add("new", x)

    assert mean.estimate({}).mean == pytest.approx(2 / 3)
    assert mean.totals({"new": 1}).weight == pytest.approx(3)


def test_weights_inside_a_stratum_follow_a_rate_that_changed() -> None:
    """Half the traffic at pi = 0.5 scored 0, half at 0.1 scored 1: nominal weights 2 and 10, scaled to N_h."""
    mean = WeightedMean()
    for _ in range(50):
        mean.add("all", 0.0, weight=2)
    for _ in range(10):
        mean.add("all", 1.0, weight=10)

    assert mean.estimate({"all": 200}).mean == pytest.approx(0.5)
    assert mean.estimate().mean == pytest.approx(0.5)
    assert mean.estimate().effective_n == pytest.approx(200**2 / (50 * 4 + 10 * 100))


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


def test_sums_from_sql_are_the_sums_of_adding() -> None:
    added = WeightedMean()
    for x in (0.25, 0.5, 1.0):
        added.add("h", x)
    added.add_not_applicable("h")
    added.add_nonresponse("h")

    assert WeightedMean({"h": Stratum.from_sums(3, 1.75, 1.3125, 1, 1)}).state() == added.state()


def test_realised_weights() -> None:
    assert realised_weight(100, 4) == 25
    assert realised_weight(0, 0) == 0.0
    assert realised_weight(3, 0) is None


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


def test_domains() -> None:
    for refused, message in (
        (lambda: horvitz_thompson_mean([1.0], [1.5], 1), "pi: 1.5 is outside"),
        (lambda: horvitz_thompson_mean([1.0], [0.5], 0), "population: 0 is outside"),
        (lambda: hajek_mean([1.0], [0.0]), "smallest of weights: 0.0"),
        (lambda: hajek_mean([1.0], [1.0, 1.0]), "values, weights: lengths"),
        (lambda: kish_size([]), "values: 0 values"),
        (lambda: hajek_terms([math.nan], [1.0]), r"values\[0\]: nan"),
        (lambda: realised_weight(-1, 0), "population: -1"),
        (lambda: realised_weight(1, -1), "responded: -1"),
        (lambda: WeightedMean().add("h", math.inf), "value: inf"),
        (lambda: WeightedMean().add("h", 0.5, 0.0), "weight: 0.0"),
        (lambda: WeightedMean().add_not_applicable("h", -1.0), "weight: -1.0"),
        (lambda: WeightedMean().estimate({"h": -1.0}), r"population\['h'\]: -1.0"),
        (lambda: Stratum(n=-1), "n: -1"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
