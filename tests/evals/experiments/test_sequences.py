"""The sequence of one metric: its rule follows from the plan, and a restored sequence continues bit-identically."""

from __future__ import annotations

import math
import random

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.evals.experiments.metrics import Metric, PairValue
from gateway.evals.experiments.sequences import BURN_IN, DifferenceSequence, SequenceRule, rule_of, trail_point

SCORES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=40)
RULES = [SequenceRule("bernstein", 0.05), SequenceRule("betting", 0.05), SequenceRule("asymptotic", 0.05)]


def taken(a: float, b: float) -> PairValue:
    return PairValue(a, b, b - a)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.method)
@settings(max_examples=25)
@given(first=SCORES, then=SCORES)
def test_through_the_store_and_back_it_goes_on_with_the_same_bits(
    rule: SequenceRule, first: list[tuple[float, float]], then: list[tuple[float, float]]
) -> None:
    whole = DifferenceSequence(rule, rule.method != "asymptotic", distance=rule.method != "asymptotic")
    for pair in first:
        whole.add(taken(*pair))
    again = DifferenceSequence.from_state(orjson.loads(orjson.dumps(whole.state())))
    for pair in then:
        whole.add(taken(*pair))
        again.add(taken(*pair))
    assert again.state() == whole.state()
    assert again.estimate() == whole.estimate()
    assert (again.arm("a"), again.arm("b")) == (whole.arm("a"), whole.arm("b"))


@pytest.mark.parametrize(
    ("metric", "stationary", "method"),
    [
        (Metric("quality", "score"), False, "bernstein"),
        (Metric("quality", "score"), True, "betting"),
        (Metric("edit", "distance"), False, "bernstein"),
        (Metric("total_s", "measure"), False, "asymptotic"),
        (Metric("total_s", "measure"), True, "asymptotic"),
        (Metric("words", "value"), False, "asymptotic"),
    ],
)
def test_the_kind_of_interval_follows_from_the_metric_and_the_plan(
    metric: Metric, stationary: bool, method: str
) -> None:
    assert rule_of(metric, 0.05, 0.02, stationary).method == method


def test_it_is_laid_where_its_margin_is_about_decided() -> None:
    narrow, wide = (rule_of(Metric("quality", "score"), 0.05, margin, False).v_opt for margin in (0.02, 0.1))
    assert narrow > wide
    assert rule_of(Metric("error_rate", "failed"), 0.05, 0.02, False).v_opt < narrow


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


def test_nothing_yet_is_no_estimate() -> None:
    empty = DifferenceSequence(RULES[0], bounded=True)
    assert (empty.estimate().value, empty.arm("a").value, empty.n) == (None, None, 0)


def test_trails_are_dense_at_first_and_24_in_a_tenfold() -> None:
    kept = [n for n in range(1, 10_001) if trail_point(n)]
    assert kept[:10] == list(range(1, 11))
    assert sum(1000 < n <= 10_000 for n in kept) == 24
