"""How far it is to a verdict, what it waits for, and what would shorten it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.features.experiments.next_step import Condition, Pace, progress, standing
from gateway.reports.model import Comparison, Estimate

PACE = Pace(pairs=400, pairs_per_request=0.2, pairs_a_day=100.0)
PRIMARY = Condition("primary", "quality", Estimate(-0.01, -0.06, 0.04), 0.05, 400, 200, 1.0)
GATE = Condition("gate", "aa", Estimate(0.0, -0.08, 0.08), 0.05, 100, 300, 0.25, by_repeat=True)


def compared(value: float | None, pairs: int = 100) -> Comparison:
    none = Estimate(None)
    e = Estimate(value, -1.0, 1.0)
    return Comparison("quality", "", "primary", none, none, e, None, pairs, 1.0, 0.05, "unclear", "unclear")


@pytest.fixture
def plan(simulation: Any) -> Any:
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
    assert standing(compared(value), 0.01) == text


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
