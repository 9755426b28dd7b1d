"""A harmful candidate is stopped from 50 pairs in three quarters of an hour on, and only then."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fixtures.simulated import a_plan

from gateway.core.exchange import Target
from gateway.core.guards import GUARD
from gateway.core.horizon import likelihood_scale
from gateway.core.plan import HarmStop, Plan
from gateway.core.ramp import RampDesign
from gateway.reports.model import Estimate
from gateway.verdict.harm import (
    harm_in_pairs,
    harm_in_split,
    harm_sentence,
    of_all,
    past_harm_sentence,
    stops_for_harm,
)
from gateway.verdict.metrics import Metric, PairOrigin, PairValue
from gateway.verdict.sequences.difference import DifferenceSequence, rule_of

BLOCK = 900.0
STOP = HarmStop(5.0, 60, -0.25, 7.5)


@pytest.fixture
def plan() -> Plan:
    """A plan with a margin of 0.1 and 24 hours."""
    return a_plan(rules=3, method="hybrid", max_pairs=300, auto_horizon=True, aa="alarm", min_hours=24.0)


def sequence(
    plan: Plan, pairs: int, difference: float, apart_s: float = 60.0
) -> tuple[DifferenceSequence, list[float]]:
    made, times = DifferenceSequence(rule_of(plan, Metric("quality", "score"), 0.1), bounded=True), list[float]()
    for i in range(pairs):
        value = difference + (0.1 if i % 2 else -0.1)
        times.append(1_000_000 * BLOCK + i * apart_s)
        made.add(PairValue((1 - value) / 2, (1 + value) / 2, value), None, PairOrigin(times[-1], "web", f"u{i}"))
    return made, times


@pytest.mark.parametrize(
    ("pairs", "difference", "apart_s", "stops"),
    [
        (60, -0.5, 60.0, True),
        (49, -0.5, 60.0, False),  # few pairs
        (60, -0.5, 20.0, False),  # within two quarters of an hour
        (60, -0.2, 60.0, False),  # two margins, but not shown to be worse than that
        (60, 0.5, 60.0, False),
    ],
)
def test_pairs_stop_a_candidate(plan: Plan, pairs: int, difference: float, apart_s: float, stops: bool) -> None:
    found = harm_in_pairs(plan, *sequence(plan, pairs, difference, apart_s), now=5.0)
    assert (found is not None) == stops
    if found is not None:
        assert found.pairs == pairs
        assert found.high < -2 * plan.margin
        assert 0 < found.hours < plan.min_hours


def test_a_split_needs_fifty_units_of_each_arm(plan: Plan) -> None:
    split = replace(plan, mode="split", split=0.25)
    harmful = Estimate(-0.5, -0.6, -0.4)
    assert harm_in_split(split, harmful, 199, 1.0) is None
    assert harm_in_split(split, harmful, 200, 1.0) == HarmStop(1.0, 200, -0.4, 0.0)
    most = replace(split, split=0.75)
    assert harm_in_split(most, harmful, 199, 1.0) is None, "the control has as many as the candidate had"
    assert harm_in_split(most, harmful, 200, 1.0) is not None
    assert harm_in_split(split, Estimate(-0.3, -0.5, -0.1), 200, 1.0) is None


def test_plans_of_older_rules_and_of_guards_are_not_stopped(plan: Plan) -> None:
    assert stops_for_harm(plan)
    assert not stops_for_harm(replace(plan, rules=2))
    assert not stops_for_harm(replace(plan, primary=None))
    guard = (("candidate", Target(GUARD, "strict")),)
    assert not stops_for_harm(replace(plan, candidates=guard)), "its copies are sent nowhere"


def test_several_candidates_are_stopped_once_all_do_harm(plan: Plan) -> None:
    """The weakest evidence is that of the plan."""
    other = HarmStop(5.0, 55, -0.4, 3.0)
    assert of_all([STOP, other]) == HarmStop(5.0, 55, -0.25, 7.5)
    assert of_all([STOP, None]) is None, "one of them may still be shown to be harmless"
    assert of_all([]) is None
    several = replace(plan, mode="split", split=0.5, candidates=(*plan.candidates, ("other", Target("a", "other"))))
    assert stops_for_harm(several)
    harmful = Estimate(-0.5, -0.6, -0.4)
    assert harm_in_split(several, harmful, 149, 1.0) is None, "of the control and one candidate, with half of its units"
    assert harm_in_split(several, harmful, 150, 1.0) is not None
    assert "of every candidate is below" in harm_sentence(several, STOP)


@pytest.mark.parametrize(("margins", "most"), [(0.0, 8), (-1.0, 8)])
def test_likelihoods_seldom_stop_a_candidate_that_does_no_harm(plan: Plan, margins: float, most: int) -> None:
    """300 plans of heavy tails, t(3), at the spread that plans assume: 0.01 and 3 standard errors are 8."""
    likelihood = replace(plan, mode="likelihood", primary="nats_per_token", margin=0.02)
    assert stops_for_harm(likelihood)
    rng, rule = np.random.default_rng(47), rule_of(likelihood, Metric("nats_per_token", "likelihood"), 0.02)
    times, stopped = [1_000_000 * BLOCK + BLOCK * i for i in range(3)], 0
    for _ in range(300):
        made = DifferenceSequence(rule, bounded=False)
        for x in (0.02 * margins + likelihood_scale(0.02)[0] * rng.standard_t(3, 200) / 3**0.5).tolist():
            made.add(PairValue(0.0, x, x))
            if made.n >= 50 and harm_in_pairs(likelihood, made, times, 1.0) is not None:
                stopped += 1
                break
    assert stopped <= most, stopped


def test_the_sentence_has_the_rate_and_the_hours(plan: Plan) -> None:
    text = harm_sentence(replace(plan, shadow=0.2), STOP)
    assert "After 60 pairs the difference in quality is below −0.250" in text
    assert "shadow is 0.01 instead of 0.2, and a reject takes about 7.5 more hours of traffic" in text
    assert text.endswith("`gateway ab resume swap --reason …` goes on"), "the command needs its reason"


def test_the_sentence_says_whom_units_get(plan: Plan) -> None:
    ramp = replace(plan, mode="both", ramp=RampDesign((0.1, 1.0), 60.0, 10))
    every = {
        "shadow is": {"shadow", "both", "ramp"}, "every unit gets the control": {"both", "split", "ramp"},
        "begins again with shadows": {"ramp"},
    }  # fmt: skip
    for name, of in {
        "shadow": plan,
        "both": replace(plan, mode="both"),
        "split": replace(plan, mode="split"),
        "ramp": ramp,
    }.items():
        text = harm_sentence(of, STOP)
        assert {words for words, kinds in every.items() if name in kinds} == {words for words in every if words in text}
    assert past_harm_sentence(plan, STOP) == (
        "The candidate was stopped for harm. After 60 pairs the difference in quality was below −0.250."
    )
