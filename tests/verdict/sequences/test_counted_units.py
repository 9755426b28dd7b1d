"""Rules 3: the interval counts units from the first pair on, or the calls of the units seen."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fixtures.simulated import a_plan

from gateway.core.plan import Plan
from gateway.statistics.special import student_quantile
from gateway.verdict.decision import Decision
from gateway.verdict.metrics import Metric, PairOrigin, PairValue
from gateway.verdict.sequences.difference import EARLY_UNITS, DifferenceSequence, rule_of
from gateway.verdict.sequences.independence import MOST_NAMES
from gateway.verdict.traffic_facts import ASSUMED, facts_of, sentences, units_gate, with_first_lines

QUALITY, FAILED = Metric("quality", "score"), Metric("error_rate", "failed", against="repeat")
START = 1_790_000_000.0


def plan_3(**changes: Any) -> Plan:
    usual = {"rules": 3, "method": "hybrid", "aa": "alarm", "auto_horizon": True, "max_pairs": 200, "margin": 0.05}
    return a_plan(**{**usual, **changes})


def sequence_of(plan: Plan, metric: Metric = QUALITY) -> DifferenceSequence:
    return DifferenceSequence(rule_of(plan, metric, plan.margin), bounded=True)


def origin(i: int, users: int | None, keys: int | None = 1, conversations: int | None = None) -> PairOrigin:
    def name(kind: str, n: int | None) -> str | None:
        return None if n is None else f"{kind}{i % n}"

    return PairOrigin(START + 60.0 * i, name("k", keys), name("u", users), name("c", conversations))


def fed(plan: Plan, n: int, metric: Metric = QUALITY, **units: int | None) -> DifferenceSequence:
    """A sequence after n pairs, or until it closes."""
    sequence, rng = sequence_of(plan, metric), np.random.default_rng(1)
    for i in range(n):
        if sequence.closed:
            break
        d = float(np.clip(rng.normal(0.01, 0.3), -1, 1))
        d = float(rng.integers(-1, 2)) if metric is FAILED else d
        sequence.add(PairValue(0.5, min(max(0.5 + d, 0.0), 1.0), d), None, origin(i, **units))
    return sequence


@pytest.mark.parametrize(
    ("changes", "units", "kind", "population"),
    [
        ({}, {"users": 5, "conversations": 30}, "conversation", "others"),
        ({}, {"users": 5}, "user", "others"),
        ({}, {"users": None, "keys": 25}, "key", "these"),
        ({}, {"users": None, "keys": None}, None, "these"),
        ({"population": "these"}, {"users": 5}, "user", "these"),
        ({"population": "others"}, {"users": None, "keys": 25}, "key", "others"),
        ({"independent": True}, {"users": 5}, None, None),
        ({"independent": True, "population": "others"}, {"users": 5}, "user", "others"),
        ({"rules": 2}, {"users": 5}, None, None),
    ],
)
def test_the_first_unit_that_exists_counts(changes: Any, units: Any, kind: str | None, population: str | None) -> None:
    plan = plan_3(**changes)
    sequence = fed(plan, 60, **{"users": None, **units})
    check = sequence.independence
    assert check.population == population
    counted = [each.group for each in check.applied() if each.always]
    assert counted == ([kind] if population == "others" else [])
    facts = facts_of(plan, {"quality": sequence})
    assert facts is not None
    assert (facts.population, facts.unit) == (population, kind)
    restored = DifferenceSequence.from_state(json.loads(json.dumps(sequence.state())))
    assert restored.state() == sequence.state()
    assert restored.interval() == sequence.interval()


def test_a_kind_exists_if_half_of_the_values_name_it() -> None:
    for named, expected in ((29, "key"), (30, "user")):
        sequence = sequence_of(plan_3())
        for i in range(60):
            sequence.add(PairValue(0.5, 0.5, 0.0), None, origin(i, 60 if i < named else None))
        assert sequence.independence.unit == expected


def test_whole_conversations_are_units_of_their_own() -> None:
    sequence = sequence_of(plan_3())
    for i in range(60):
        sequence.add(PairValue(0.5, 0.5, 0.0), None, replace(origin(i, 2), whole=True))
    assert sequence.independence.unit == "conversation"
    counted = sequence.independence.counted
    assert counted is not None
    assert counted.sums.groups == pytest.approx(60)


@pytest.mark.parametrize("metric", [QUALITY, FAILED])
def test_two_users_are_too_few_for_an_interval(metric: Metric) -> None:
    plan = plan_3()
    sequence = fed(plan, 2000, metric, users=2)
    assert sequence.interval() == (-math.inf, math.inf)
    assert sequence.standard_error == math.inf
    gate = units_gate(sequence)
    assert gate is not None
    assert gate.state == 0
    assert "2 effective users so far; 3 are needed; `population: these`" in gate.says


def test_nothing_is_said_about_others_where_nobody_is_named() -> None:
    sequence = fed(plan_3(population="others"), 300, users=None, keys=None)
    assert sequence.interval() == (-math.inf, math.inf)
    gate = units_gate(sequence)
    assert gate is not None
    assert gate.state == 0


def test_one_user_with_most_calls_raises_nothing() -> None:
    """Sums of so few groups have no variance, with any rules."""
    for rules in (2, 3):
        sequence, rng = sequence_of(plan_3(rules=rules)), np.random.default_rng(2)
        while not sequence.closed:
            user = 0 if rng.random() < 0.6 else int(rng.integers(1, 40))
            d = float(np.clip(rng.normal(0.2 if user == 0 else -0.2, 0.2), -1, 1))
            at = PairOrigin(START + sequence.n, "k", f"u{user}")
            sequence.add(PairValue(0.5, min(max(0.5 + d, 0.0), 1.0), d), None, at)
            assert sequence.horizon >= sequence.n
            assert sequence.estimate().value is not None


def test_the_last_look_has_students_quantile() -> None:
    sequence = fed(plan_3(), 1000, users=5)
    assert sequence.closed
    sums = sequence.independence.applied()[0].sums
    assert sums.groups == pytest.approx(5, rel=0.01)
    low, high = sequence.interval()
    t = student_quantile(1 - 0.05 * 0.8 / 2, sums.groups - 1)
    assert (high - low) / 2 >= t * math.sqrt(sums.spread(sequence.moments.mean)) / sequence.n * (1 - 1e-9)


def test_an_early_look_needs_more_units() -> None:
    plan = plan_3(max_pairs=2000)
    few, many = fed(plan, 200, users=int(EARLY_UNITS) - 1), fed(plan, 200, users=int(EARLY_UNITS) + 1)
    assert not few.closed
    assert few.interval() == (-math.inf, math.inf)
    assert math.isfinite(many.interval()[0])


def test_the_interval_is_never_narrower_than_by_call() -> None:
    for metric in (QUALITY, FAILED):
        for users in (12, 60, 10_000):
            others = fed(plan_3(), 150, metric, users=users)
            these = fed(plan_3(population="these"), 150, metric, users=users)
            assert others.interval()[0] <= these.interval()[0]
            assert others.interval()[1] >= these.interval()[1]


def test_dependent_values_count_as_fewer_independent_ones() -> None:
    two, each = fed(plan_3(), 400, users=2), fed(plan_3(), 150, users=10_000)
    assert two.effective_n == pytest.approx(2, rel=0.01)
    assert each.effective_n == each.n
    alike = sequence_of(plan_3())
    for i in range(400):
        value = 0.2 if i % 20 < 10 else -0.2
        alike.add(PairValue(0.5, 0.5 + value, value), None, origin(i, 20))
    assert alike.effective_n == pytest.approx(20, rel=0.3)
    assert fed(plan_3(rules=2), 100, users=2).effective_n == 100


def test_the_units_seen_are_counted_one_by_one() -> None:
    plan = plan_3()
    for n, shown in ((25, 25), (300, MOST_NAMES)):
        facts = facts_of(plan, {"quality": fed(plan, 400, users=None, keys=n)})
        assert facts is not None
        assert (facts.independence, facts.units) == ("assumed", shown)
    declared = plan_3(population="these")
    facts = facts_of(declared, {"quality": fed(declared, 400, users=12)})
    assert facts is not None
    assert (facts.independence, facts.units, facts.unit) == ("declared", 12, "user")


@pytest.mark.parametrize(
    ("changes", "units", "words"),
    [
        (
            {},
            {"users": None, "keys": 25},
            "It holds for these 25 keys as they use it now; for one about others, send",
        ),
        ({}, {"users": None, "keys": 1}, "It holds for this key as it uses it now; for one about others, send"),
        (
            {"population": "these"},
            {"users": 12},
            "It holds for these 12 users as they use it now; `population",
        ),
        ({}, {"users": None, "keys": None}, ASSUMED),
    ],
)
def test_the_first_line_says_for_whom_a_verdict_holds(changes: Any, units: Any, words: str) -> None:
    plan = plan_3(**changes)
    facts = facts_of(plan, {"quality": fed(plan, 400, **units)})
    assert facts is not None
    decided = with_first_lines(Decision("ship", "Ship.", ()), facts)
    assert words in decided.sentence
    assert any(words in sentence for sentence in sentences(facts))
    assert with_first_lines(Decision("hold", "Hold.", ()), facts).sentence == "Hold."
