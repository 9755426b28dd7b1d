"""What was sampled unequally, shown as it would be over everything: the formulas and their edges."""

import math

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
    assert later.low == pytest.approx(1 - half_width(1.0, 30, Tuning()) ** 2 / 2)
    assert 0.5 < later.low < 0.9
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
