"""The open conditions of a verdict, with what each still takes, from what an experiment has found."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.plan import Guardrail, StoredPlan
from gateway.reports.model import Comparison, Estimate, Progress
from gateway.store.plan_evidence import StoredEvidence
from gateway.store.query import reading
from gateway.verdict.conditions import (
    Condition,
    Pace,
    conditions_of,
    describe_difference,
    progress,
    progress_of,
)
from gateway.verdict.findings import finding
from gateway.verdict.metrics import ArmObservation, JoinedPair, PairOrigin, StoredScore
from gateway.verdict.report import presentation
from gateway.verdict.states import SequenceStates


@pytest.fixture
def left(begin_experiment: Any, simulation: Any) -> Callable[..., Progress]:
    """The progress after n pairs with noisy scores, a share of them with a repeat. changes: of the plan."""

    def of(n: int, worse: float = 0.0, every: int = 1, **changes: Any) -> Progress:
        rng, experiment = random.Random(5), begin_experiment(**changes)

        def pair(i: int) -> JoinedPair:
            control, candidate, repeat = (
                simulation.seen(rng.choice([0.2, 0.8]) - shift) for shift in (0.0, worse, 0.0)
            )
            return simulation.a_pair(i, control, candidate=candidate, **({} if i % every else {"repeat": repeat}))

        if n:
            experiment.add(pair(i) for i in range(n))
        with experiment.engine.connect() as connection:
            return progress_of(experiment.found(), simulation.looked(connection, experiment.plan))

    return of


def test_a_proof_needs_repeats_in_proportion_to_their_share(left: Callable[..., Progress]) -> None:
    made = left(200, every=4, repeat_control=0.25, shadow=0.5)
    gate = next(each for each in made.open if each.name == "aa")

    assert gate.values == 50
    assert gate.estimate.low is not None
    assert made.waits_for == "aa"
    assert gate.pairs is not None
    assert gate.requests == 2 * gate.pairs
    assert gate.pairs > 500, "only every fourth pair helps"


def test_an_alarm_needs_ten_repeats(left: Callable[..., Progress]) -> None:
    made = left(24, every=4, repeat_control=0.25, aa="alarm", method="anytime")
    gate = next(each for each in made.open if each.name == "aa")
    assert (gate.values, gate.pairs) == (6, 16)


def test_a_worse_candidate_is_said_to_be_worse(left: Callable[..., Progress]) -> None:
    made = left(100, worse=0.15, method="hybrid", max_pairs=400, aa="alarm")
    assert made.standing.startswith("worse by 0.1")
    assert made.standing.endswith("so far, likely")
    assert made.waits_for == "quality"
    assert made.pairs is not None
    assert made.pairs <= 300, "the horizon is the latest"


def test_at_its_horizon_a_plan_needs_a_successor(left: Callable[..., Progress]) -> None:
    made = left(60, worse=0.1, method="hybrid", max_pairs=60, aa="alarm")
    assert made.sentence.endswith("primary quality is undecided at its last pair: only a new plan can decide it")
    assert made.steps == ()


def test_a_guardrail_that_takes_longer_than_the_plan_is_said(left: Callable[..., Progress]) -> None:
    """The primary does not vary less, but its margin is wider by far."""
    rails = (Guardrail("error_rate", 0.002),)
    usual = {"method": "hybrid", "max_pairs": 300, "aa": "alarm", "repeat_control": 0.25, "shadow": 0.5, "margin": 0.2}
    made = left(100, every=4, guardrails=rails, **usual)
    assert made.waits_for == "error_rate"
    assert ", for guardrail error_rate, but the plan ends in about 400 requests: a wider margin of" in made.sentence
    assert "a new plan with `max_pairs: 2" in made.sentence
    enough = left(100, every=4, guardrails=rails, **{**usual, "max_pairs": 3_000})
    assert enough.waits_for == "error_rate"
    assert "the plan ends" not in enough.sentence


def test_before_the_first_pair_nothing_is_known(left: Callable[..., Progress]) -> None:
    made = left(0)
    assert made.standing == "no pair has a value of quality yet"
    assert made.pairs is None


def test_a_scorer_that_sees_a_tenth_is_noticed(begin_experiment: Any, simulation: Any) -> None:
    """A pair whose answers were not scored has no value and is not withheld."""
    experiment = begin_experiment(repeat_control=0.0, guardrails=())

    def seen(i: int) -> ArmObservation:
        return simulation.seen(0.5) if i % 10 == 0 else ArmObservation("ok", "x")

    experiment.add(simulation.a_pair(i, seen(i), candidate=seen(i)) for i in range(100))
    with experiment.engine.connect() as connection:
        primary = conditions_of(experiment.found(), simulation.looked(connection, experiment.plan))[0]
    assert (primary.values, primary.per_pair, primary.by_scorer_share) == (10, 0.1, 0.1)


def test_a_guardrail_that_only_repeats_decide_proposes_more_of_them(begin_experiment: Any, simulation: Any) -> None:
    """Both arms fail in a seventh of the calls, so the candidate's own rate can never be below a margin of 0.05."""
    rails = (Guardrail("error_rate", 0.05),)
    changes = {"method": "anytime", "aa": "alarm", "guardrails": rails, "repeat_control": 0.25, "shadow": 0.5}
    experiment, seen = begin_experiment(rules=2, **changes), simulation.seen

    def pair(i: int) -> JoinedPair:
        again = {} if i % 4 else {"repeat": seen(0.5, failed=i % 28 == 8)}
        return simulation.a_pair(i, seen(0.5), candidate=seen(0.5, failed=i % 7 == 3), **again)

    experiment.add(pair(i) for i in range(400))
    with experiment.engine.connect() as connection:
        made = progress_of(experiment.found(), simulation.looked(connection, experiment.plan))
    rail = next(each for each in made.open if each.name == "error_rate")
    assert rail.values == 100, "a quarter of the pairs has a repeat"
    assert "repeat_control" in {step.setting for step in made.steps}


def test_scores_that_one_arm_lacks_say_how_long_they_take(begin_experiment: Any, simulation: Any) -> None:
    changes = {"method": "anytime", "aa": "alarm", "guardrails": (), "repeat_control": 0.5}
    experiment = begin_experiment(rules=2, **changes)
    bare = ArmObservation("ok", "x", scores={simulation.JUDGE: StoredScore("not_applicable")})
    seen = simulation.seen
    experiment.add(
        simulation.a_pair(i, seen(0.5), candidate=seen(0.5) if i % 25 else bare, repeat=seen(0.5)) for i in range(60)
    )
    with experiment.engine.connect() as connection:
        made = progress_of(experiment.found(), simulation.looked(connection, experiment.plan))
    gate = next(each for each in made.open if each.name == "completeness")
    assert gate.values == 60
    assert gate.pairs is not None


PACE = Pace(pairs=400, pairs_per_request=0.2, pairs_a_day=100.0)
PRIMARY = Condition("primary", "quality", Estimate(-0.01, -0.06, 0.04), 0.05, 400, 200, 1.0)
GATE = Condition("gate", "aa", Estimate(0.0, -0.08, 0.08), 0.05, 100, 300, 0.25, by_repeat=True)


def compared(value: float | None, pairs: int = 100) -> Comparison:
    none = Estimate(None)
    e = Estimate(value, -1.0, 1.0)
    return Comparison("quality", "", "primary", none, none, e, None, pairs, 1.0, 0.05, "unclear", "unclear")


@pytest.fixture
def plan(simulation: Any) -> Any:
    """A plan of shadows with a margin of 0.05."""
    return simulation.a_plan(shadow=0.2, repeat_control=0.25, margin=0.05)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-0.055, "worse by 0.055 so far, likely"),
        (0.02, "better by 0.020 so far, likely"),
        (-0.01, "worse by 0.010 so far, perhaps"),
        (0.001, "no difference visible so far"),
        (0.0, "no difference visible so far"),
        (None, "no pair has a value of quality yet"),
    ],
)
def test_an_undecided_metric_says_how_it_stands(value: float | None, text: str) -> None:
    assert describe_difference(compared(value), 0.01) == text


def test_a_verdict_waits_for_the_slowest_condition(plan: Any) -> None:
    made = progress(plan, "no difference visible so far", [PRIMARY, GATE], PACE, decided=False)

    assert [(each.name, each.pairs, each.requests, each.days) for each in made.open] == [
        ("quality", 200, 1000, 2.0),
        ("aa", 1200, 6000, 12.0),
    ]
    assert (made.waits_for, made.pairs, made.requests, made.days) == ("aa", 1200, 6000, 12.0)
    assert (
        made.sentence
        == "no difference visible so far; about 6\u202f000 requests (12 days) to go until ship, for the gate aa"
    )


def test_a_candidate_that_looks_worse_waits_for_no_gate(plan: Any) -> None:
    worse = replace(PRIMARY, estimate=Estimate(-0.09, -0.14, -0.04))
    assert progress(plan, "", [worse, GATE], PACE, decided=False).waits_for == "quality"


def test_a_failed_gate_is_not_closed_by_more_pairs(plan: Any) -> None:
    made = progress(plan, "better", [PRIMARY, replace(GATE, failed=True, more_values=None)], PACE, decided=False)
    assert made.sentence == "better; the gate aa has failed, and more pairs do not change that"
    assert (made.pairs, made.steps) == (None, ())


def test_steps_count_the_evidence_that_a_new_plan_gives_up(plan: Any) -> None:
    """400 values of the gate in all, each pair with one: 600 pairs of the primary are more, 3 000 requests."""
    steps = progress(plan, "", [PRIMARY, GATE], PACE, decided=False).steps
    assert [(each.setting, each.to, each.requests, each.new_plan) for each in steps] == [
        ("shadow", 1.0, 1600, True),
        ("repeat_control", 1.0, 3000, True),
        ("margin", 0.07500000000000001, 3556, True),
    ]


def test_a_step_that_saves_little_is_not_named(plan: Any) -> None:
    nearly = [replace(PRIMARY, more_values=10)]
    assert progress(plan, "", nearly, PACE, decided=False).steps == ()


def test_a_scorer_that_sees_a_share_is_named_and_keeps_the_plan(plan: Any) -> None:
    judged = replace(PRIMARY, values=40, per_pair=0.1, by_scorer_share=0.1)
    steps = progress(plan, "", [judged], PACE, decided=False).steps
    assert (steps[0].setting, steps[0].requests, steps[0].new_plan) == ("scorers.quality.share", 1000, False)


def test_a_condition_beyond_its_horizon_is_at_most_that_far(plan: Any) -> None:
    late = replace(PRIMARY, at_most=True, chance=0.4)
    assert "; at most 1\u202f000 requests (2.0 days) to go" in progress(plan, "", [late], PACE, decided=False).sentence
    futile = progress(plan, "", [replace(late, chance=0.02)], PACE, decided=False).sentence
    assert futile.endswith("which decides it with a probability of 2% only: stop paying for it")


def test_nothing_is_open_after_a_verdict(plan: Any) -> None:
    made = progress(plan, "better", [PRIMARY, GATE], PACE, decided=True)
    assert (made.sentence, made.open, made.pairs) == ("decided", (), 0)


def test_the_gate_on_hours_waits_for_hours_and_not_for_pairs(begin_experiment: Any, simulation: Any) -> None:
    """A larger share of shadows brings more pairs and no hour sooner."""
    experiment = begin_experiment(rules=2, min_hours=24.0, guardrails=(), aa="alarm", method="hybrid", max_pairs=60)
    seen = simulation.seen
    pairs = (simulation.a_pair(i, seen(0.5), candidate=seen(0.5), repeat=seen(0.5)) for i in range(60))
    experiment.add(replace(pair, origin=PairOrigin(240.0 * i)) for i, pair in enumerate(pairs))
    with experiment.engine.connect() as connection:
        made = progress_of(experiment.found(), simulation.looked(connection, experiment.plan))
    gate = next(each for each in made.open if each.name == "hours")
    assert gate.hours == pytest.approx(24.0 - 59 * 240 / 3600)
    assert presentation.condition_line(gate) == "gate hours: 3.9 hours so far; 21 hours more"
    assert made.waits_for == "hours"
    assert made.sentence.endswith("; 21 hours of traffic to go until ship, for the gate hours")
    assert presentation.left(made) == "21 hours of traffic"
    assert made.steps == ()


def test_an_open_sample_ratio_says_nothing_once_it_has_its_units(plan: Any, keep: Any, exchange: Any) -> None:
    """1 700 units, which shares as planned would take to close the gate; but chance has moved them."""
    halves = replace(plan, mode="split", split=0.5, shadow=0.0, repeat_control=0.0, unit="user", rules=2)
    arms = ["control"] * 820 + ["candidate"] * 880
    of = {"experiment": halves.name, "plan": halves.hash}
    made = [exchange("0.5", arm=arm, target=halves.target(arm), cluster=f"u{i}", **of) for i, arm in enumerate(arms)]
    with reading(keep(made)) as connection:
        stored = StoredPlan(halves, halves.hash, "running", 0.0)
        found = finding(StoredEvidence(connection, stored), "candidate")
        (gate,) = (
            each
            for each in conditions_of(found, SequenceStates(StoredEvidence(connection, stored)))
            if each.name == "srm"
        )
    assert (gate.values, gate.more_values) == (1_700, None)
