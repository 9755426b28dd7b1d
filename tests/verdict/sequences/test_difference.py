"""The sequence of one metric: its rule follows from the plan, and a restored sequence continues bit-identically."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from fixtures.likelihoods import likelihood_plan
from fixtures.simulated import a_plan
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.plan import REPEAT
from gateway.statistics.past_adjustment import PastAdjustment
from gateway.verdict.metrics import ALONE, Metric, PairOrigin, PairValue
from gateway.verdict.sequences.difference import BURN_IN, DifferenceSequence, SequenceRule, rule_of, trail_point

SCORES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=40)
RULES = [
    *(SequenceRule("bernstein", 0.05), SequenceRule("betting", 0.05), SequenceRule("asymptotic", 0.05)),
    SequenceRule("skewed", 0.05),
    *(SequenceRule("hybrid", 0.05, horizon=100), SequenceRule("guarded", 0.05)),
    *(SequenceRule("hybrid", 0.05, horizon=100, largest=0.1), SequenceRule("guarded", 0.05, largest=0.1)),
]


def taken(a: float, b: float) -> PairValue:
    return PairValue(a, b, b - a)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.method} {rule.largest:g}")
@settings(max_examples=25)
@given(first=SCORES, then=SCORES)
def test_through_the_store_and_back_it_continues_with_the_same_bits(
    rule: SequenceRule, first: list[tuple[float, float]], then: list[tuple[float, float]]
) -> None:
    bounded = rule.method not in ("asymptotic", "skewed")
    whole = DifferenceSequence(rule, bounded, distance=bounded)
    for pair in first:
        whole.add(taken(*pair))
    again = DifferenceSequence.from_state(orjson.loads(orjson.dumps(whole.state())))
    for pair in then:
        whole.add(taken(*pair))
        again.add(taken(*pair))
    assert again.state() == whole.state()
    assert again.rule == whole.rule
    assert again.estimate() == whole.estimate()
    assert (again.arm("a"), again.arm("b")) == (whole.arm("a"), whole.arm("b"))


@pytest.mark.parametrize(
    ("metric", "method", "expected"),
    [
        (Metric("quality", "score"), "guaranteed", "bernstein"),
        (Metric("quality", "score"), "stationary", "betting"),
        (Metric("quality", "score"), "hybrid", "hybrid"),
        (Metric("quality", "score"), "anytime", "guarded"),
        (Metric("other", "score"), "hybrid", "guarded"),
        (Metric("error_rate", "failed"), "hybrid", "rare"),
        (Metric("error_rate", "failed"), "anytime", "rare"),
        (Metric("error_rate", "failed"), "guaranteed", "bernstein"),
        (Metric("edit", "distance"), "guaranteed", "bernstein"),
        (Metric("total_s", "measure"), "guaranteed", "asymptotic"),
        (Metric("total_s", "measure"), "stationary", "asymptotic"),
        (Metric("total_s", "measure"), "hybrid", "asymptotic"),
        (Metric("words", "value"), "guaranteed", "asymptotic"),
    ],
)
def test_the_kind_of_interval_follows_from_the_metric_and_the_plan(metric: Metric, method: Any, expected: str) -> None:
    plan = a_plan(method=method, max_pairs=300 if method == "hybrid" else None)
    assert rule_of(plan, metric, 0.02).method == expected


def test_from_rules_3_on_unbounded_values_wait_for_their_tail() -> None:
    plan, metric = a_plan(method="anytime", rules=3), Metric("cost_per_1k", "measure")
    rule = rule_of(plan, metric, 0.1)
    assert (rule.method, rule_of(replace(plan, rules=2), metric, 0.1).method) == ("skewed", "asymptotic")
    sequence, rng = DifferenceSequence(rule, bounded=False), np.random.default_rng(2)
    for cost in rng.lognormal(size=400).tolist():
        sequence.add(PairValue(cost, 0.1, cost - 0.1))  # a saving
    saved, spent = sequence.estimate(), sequence.arm("a")
    assert (saved.low is None, saved.high) == (False, None), "it saves, and perhaps more than so far"
    assert (spent.low is None, spent.high) == (False, None)


def test_a_guessed_horizon_does_not_end_an_unbounded_sequence() -> None:
    metric = Metric("quality", "value")
    plan = a_plan(method="hybrid", max_pairs=300)
    assert rule_of(plan, metric, 20.0) == SequenceRule("hybrid", 0.05, horizon=300, largest=0.0)
    assert rule_of(replace(plan, auto_horizon=True), metric, 20.0).method == "asymptotic"


def test_likelihoods_have_a_scale_that_the_margin_sets() -> None:
    plan, metric = likelihood_plan(margin=0.04), Metric("nats_per_token", "likelihood")
    rule = rule_of(plan, metric, 0.04)
    assert (rule.method, rule.horizon, rule.largest) == ("hybrid", plan.max_pairs, pytest.approx(0.2))
    noise = rule_of(plan, metric, 0.04, REPEAT)
    assert (noise.method, noise.horizon, noise.largest) == ("guarded", 0, pytest.approx(0.2))


def test_the_repeat_has_its_own_error_and_a_horizon_within_reach() -> None:
    plan = a_plan(method="hybrid", max_pairs=300, aa="alarm", repeat_control=0.25)
    rule = rule_of(plan, Metric("quality", "score"), 0.1, REPEAT)
    assert (rule.method, rule.alpha, rule.horizon) == ("hybrid", 0.01, 65)
    few = rule_of(replace(plan, max_pairs=80), Metric("quality", "score"), 0.1, REPEAT)
    assert (few.method, few.alpha) == ("guarded", 0.01)


def test_two_sequences_about_failures_share_the_error() -> None:
    plan, metric = a_plan(method="hybrid", max_pairs=300, repeat_control=0.25), Metric("error_rate", "failed")
    assert rule_of(plan, metric, 0.02).alpha == pytest.approx(0.01)
    assert rule_of(plan, Metric(ALONE, "failed"), None).alpha == pytest.approx(0.04)
    assert rule_of(replace(plan, repeat_control=1.0), metric, 0.02).alpha == 0.05


def test_a_closed_sequence_says_so() -> None:
    sequence = DifferenceSequence(SequenceRule("hybrid", 0.05, horizon=20), bounded=True)
    for i in range(20):
        assert not sequence.closed
        sequence.add(taken(0.0, i % 2))
    assert sequence.closed
    assert DifferenceSequence.from_state(sequence.state()).closed


def test_a_state_from_before_there_were_horizons_still_loads() -> None:
    sequence = DifferenceSequence(SequenceRule("bernstein", 0.05), bounded=True)
    sequence.add(taken(0.25, 0.5))
    assert sequence.state()["rule"] == ["bernstein", 0.05, 10.0, 500.0]
    assert DifferenceSequence.from_state(sequence.state()).estimate() == sequence.estimate()


def test_failures_are_stored_as_counts_and_continue() -> None:
    sequence = DifferenceSequence(SequenceRule("rare", 0.05), bounded=True)
    for a, b in [(0, 1), (1, 0), (0, 0), (0, 1)] * 30:
        sequence.add(taken(a, b))
    again = DifferenceSequence.from_state(orjson.loads(orjson.dumps(sequence.state())))
    assert again.estimate() == sequence.estimate()
    assert again.interval()[0] < 0.25 < again.interval()[1]
    assert again.log_evalue() == sequence.log_evalue() > 0


def test_it_is_laid_where_its_margin_is_about_decided() -> None:
    plan = a_plan()
    narrow, wide = (rule_of(plan, Metric("quality", "score"), margin).v_opt for margin in (0.02, 0.1))
    assert narrow > wide
    assert rule_of(plan, Metric("error_rate", "failed"), 0.02).v_opt < narrow
    anytime = a_plan(method="anytime")
    early, late = (rule_of(anytime, Metric("quality", "score"), margin).n_opt for margin in (0.1, 0.02))
    assert early < late


@pytest.mark.parametrize("rule", RULES[:2], ids=["bernstein", "betting"])
def test_a_difference_is_found_and_its_evidence_grows(rule: SequenceRule) -> None:
    rng, sequence = random.Random(1), DifferenceSequence(rule, bounded=True)
    assert sequence.log_evalue() == 0.0
    for _ in range(400):
        level = rng.uniform(0.2, 0.6)
        sequence.add(taken(level, level + rng.uniform(0.1, 0.3)))
    low, high = sequence.interval()
    assert 0.05 < low < 0.2 < high < 0.35
    assert sequence.log_evalue() > math.log(1000)
    assert sequence.estimate().value == pytest.approx(0.2, abs=0.01)


def test_before_its_burn_in_an_unbounded_one_says_nothing() -> None:
    sequence = DifferenceSequence(SequenceRule("asymptotic", 0.05), bounded=False)
    for i in range(int(BURN_IN) + 1):
        assert (sequence.estimate().low is None) == (i < BURN_IN)
        sequence.add(PairValue(i % 3, i % 2, i % 3 - i % 2))
    assert sequence.estimate().low is not None


def test_an_empty_sequence_has_no_estimate() -> None:
    empty = DifferenceSequence(RULES[0], bounded=True)
    assert (empty.estimate().value, empty.arm("a").value, empty.n) == (None, None, 0)


def test_trails_are_dense_at_first_and_24_in_a_tenfold() -> None:
    kept = [n for n in range(1, 10_001) if trail_point(n)]
    assert kept[:10] == list(range(1, 11))
    assert sum(1000 < n <= 10_000 for n in kept) == 24


def adjusting(**changes: Any) -> DifferenceSequence:
    return DifferenceSequence(SequenceRule("hybrid", 0.05, horizon=300, compared=4, **changes), True)


def predicted(sequence: DifferenceSequence, rng: random.Random) -> None:
    """A pair whose difference is the control's score but for a little noise, after four requests that are no pairs."""
    for _ in range(4):
        sequence.see((rng.random(), 3.0, 4.0, 0.5), 1.0, 0.0)
    score = rng.random()
    sequence.add(PairValue(score, 0.5, 0.5 - score + rng.uniform(-0.1, 0.1)), (score, 3.0, 4.0, 0.5))


def test_an_adjusted_sequence_closes_earlier_by_what_it_saves() -> None:
    early, planned, rng = adjusting(earlier=True), adjusting(), random.Random(6)
    while not early.closed:
        predicted(early, rng)
    while not planned.closed:
        predicted(planned, rng)
    assert planned.n == 300
    assert planned.saved is not None
    assert early.saved is not None
    assert planned.saved > 0.5
    assert early.n == early.horizon == math.ceil(300 * (1 - early.saved))
    width = [(s.interval()[1] - s.interval()[0]) / s.unadjusted.variance() ** 0.5 for s in (early, planned)]
    plain = 2 * 2.054 / 300**0.5
    assert width[0] == pytest.approx(plain, rel=0.06), "that of 300 pairs as measured"
    assert width[1] < 0.7 * plain
    with pytest.raises(ValueError, match="no further value"):
        predicted(early, rng)


def test_an_adjusted_sequence_continues_with_the_same_bits() -> None:
    whole, rng = adjusting(earlier=True), random.Random(7)
    part, same = adjusting(earlier=True), random.Random(7)
    for _ in range(60):
        predicted(whole, rng)
        predicted(part, same)
        part = DifferenceSequence.from_state(orjson.loads(orjson.dumps(part.state())))
    assert part.state() == whole.state()
    assert part.interval() == whole.interval()


def test_a_sequence_from_before_the_predictor_continues_without_it() -> None:
    """The state has three covariates; the fourth is left out."""
    begun = adjusting()
    begun.adjustment = PastAdjustment(3, 4)
    stored, rng = DifferenceSequence.from_state(orjson.loads(orjson.dumps(begun.state()))), random.Random(8)
    for _ in range(40):
        predicted(stored, rng)
    assert stored.adjustment is not None
    assert (stored.adjustment.size, stored.adjustment.n) == (3, 40)
    assert stored.adjustment.weight > 0.8


def test_only_the_primary_of_a_partly_shadowed_plan_is_adjusted() -> None:
    plan = a_plan(method="hybrid", max_pairs=300, auto_horizon=True, shadow=0.2, adjust=True)
    assert rule_of(plan, Metric("quality", "score"), 0.1).compared == 4
    assert rule_of(plan, Metric("quality", "score"), 0.1).earlier
    assert not rule_of(replace(plan, auto_horizon=False), Metric("quality", "score"), 0.1).earlier
    for other, metric, arm in (
        (replace(plan, shadow=1.0), Metric("quality", "score"), "candidate"),
        (replace(plan, adjust=False), Metric("quality", "score"), "candidate"),
        (replace(plan, method="guaranteed", max_pairs=None), Metric("quality", "score"), "candidate"),
        (plan, Metric("quality", "score"), "repeat"),
        (plan, Metric("refusal", "score"), "candidate"),
        (plan, Metric("error_rate", "failed"), "candidate"),
    ):
        assert rule_of(other, metric, 0.1, arm).compared == 0


def one_heavy_user(share: float, n: int) -> Iterator[PairOrigin]:
    """Calls of a user with this share of them, and of others with a few each."""
    rng = random.Random(9)
    for i in range(n):
        yield PairOrigin(float(i), "app", "heavy" if rng.random() < share else f"u{rng.randrange(n // 8)}")


@pytest.mark.parametrize("share", [0.55, 0.65, 0.7])
def test_one_heavy_user_makes_the_error_infinite_and_raises_nothing(share: float) -> None:
    """A user whose values depend on each other, with most calls, leaves fewer than three groups."""
    plan = a_plan(method="hybrid", max_pairs=400, auto_horizon=True, shadow=1.0, rules=2)
    sequence = DifferenceSequence(rule_of(plan, Metric("quality", "score"), 0.05), bounded=True)
    rng, effects, infinite = random.Random(10), dict[str, float](), 0
    for origin in one_heavy_user(share, 800):
        if sequence.closed:
            break
        effect = effects.setdefault(str(origin.user), rng.choice((-0.4, 0.4)) if effects else -0.4)
        sequence.add(taken(0.5, 0.5 + effect + rng.uniform(-0.1, 0.1)), None, origin)
        infinite += math.isinf(sequence.standard_error)
        assert sequence.horizon >= sequence.n
        assert math.isfinite(sequence.variance)
        low, high = sequence.interval()
        assert low <= sequence.moments.mean <= high
    assert infinite > 0, "the world has no alarm with fewer than three groups"
