"""What a verdict and a ramp take beyond their pairs is said before anything is paid."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fixtures.simulated import a_pair, a_plan, seen

from gateway.core.plan import Plan
from gateway.core.ramp import RampDesign
from gateway.features.experiments.metrics import ArmObservation, StoredScore
from gateway.features.experiments.power import Terms, forecast
from gateway.features.experiments.price_terms import TrafficPace, price_terms, range_of
from gateway.store.plans import StoredPlan
from gateway.store.query import reading

SOON = TrafficPace(300, 7_200.0, 72_000.0)


def new_plan(**changes: Any) -> Plan:
    usual = {"rules": 2, "method": "hybrid", "aa": "alarm", "max_pairs": 400, "auto_horizon": True, "min_hours": 24.0}
    return a_plan(**{**usual, "margin": 0.05, "shadow": 0.1, "repeat_control": 0.25, "empty": "failed", **changes})


def said(plan: Plan, pace: TrafficPace = SOON) -> dict[str, str]:
    return {term.name: term.says for term in price_terms(plan, pace)}


def test_a_plan_with_the_first_rules_has_no_further_terms() -> None:
    assert said(new_plan(rules=1)) == {}


def test_pairs_that_come_faster_than_the_hours_are_spread_by_a_lower_share() -> None:
    """300 pairs come in an hour; a share of 0.0042 takes a day for them."""
    assert said(new_plan())["hours"] == (
        "`ship` waits for 24 hours of traffic; `reject` only while the hours left could make up for the harm seen; the "
        "pairs come in 1 hour: `shadow: 0.0042` spreads them over these hours"
    )
    assert "shadow" not in said(new_plan(), TrafficPace(300, 100.0, 1_000.0))["hours"]
    assert "says nothing about other hours" in said(new_plan(min_hours=0.0))["hours"]


def test_a_split_waits_for_hours_that_no_share_of_shadows_changes() -> None:
    text = said(new_plan(mode="split", split=0.5, shadow=0.0, repeat_control=0.0, max_pairs=None))["hours"]
    assert (
        text
        == "`ship` waits for 24 hours of traffic; `reject` only while the hours left could make up for the harm seen"
    )


def test_the_horizon_has_a_range_where_it_follows_the_variance() -> None:
    found = range_of(new_plan())
    assert found is not None
    assert found.low < found.expected == 400 < found.high
    assert f"{found.low} pairs if the arms hardly differ, 400 as planned" in said(new_plan())["horizon"]
    assert range_of(new_plan(auto_horizon=False)) is None
    assert range_of(new_plan(primary="total_s")) is None


@pytest.mark.parametrize(("empty", "words"), [("failed", "counts as failed"), ("allowed", "counts as an answer")])
def test_completeness_names_what_may_be_missing(empty: Any, words: str) -> None:
    text = said(new_plan(empty=empty))["completeness"]
    assert words in text
    assert "more than 1.25% of the pairs" in text


def test_a_split_must_show_that_what_is_missing_is_alike() -> None:
    split = new_plan(mode="split", split=0.5, shadow=0.0, repeat_control=0.0, max_pairs=None)
    text = said(split)["completeness"]
    assert "does not apply to more than 1.25% of the answers (both arms together)" in text
    assert "or the arms must be shown to be alike in that" in text
    for primary in ("feedback:thumb", "completion"):
        assert "completeness" not in said(replace(split, primary=primary)), "no scorer decides"


def test_a_ramp_names_its_proof_and_its_holdout() -> None:
    ramp = RampDesign((0.1, 0.5, 1.0), 3600.0, 100, holdout=0.02, holdout_days=28.0)
    plan = new_plan(mode="both", ramp=ramp, guardrails=(), unit="conversation")
    text = said(plan, replace(SOON, control_errors=0.01))
    assert "at most 0.50% more errors" in text["served proof"]
    assert "an arm (conversation) at 1.00% errors of the control (so far)" in text["served proof"]
    assert "from the first step with one call a conversation" in text["served proof"]
    assert "(assumed)" in said(plan)["served proof"]
    assert text["holdout"] == "0.02 of the units keep the control for 28 days after the promotion"
    assert said(replace(plan, ramp=replace(ramp, holdout=0.0)))["holdout"].startswith("none")
    assert "holdout" not in said(new_plan())


def test_the_forecast_has_the_terms_and_waits_for_the_hours() -> None:
    plan = new_plan()
    found = forecast(None, StoredPlan(plan, plan.hash, "stopped", 0.0), Terms(requests_a_day=1_000_000.0))
    assert {term.name for term in found.terms} == {"horizon", "hours", "units", "completeness"}
    assert found.prices[0].days == 1.0


def test_scores_that_one_arm_lacks_are_a_condition_with_a_price(begin_experiment: Any) -> None:
    run = begin_experiment(rules=2, method="anytime", aa="alarm", repeat_control=0.2, margin=0.1)
    bare = ArmObservation("ok", "x", scores={("quality", "1 c1"): StoredScore("not_applicable")})
    run.add(a_pair(i, seen(0.5), candidate=seen(0.5) if i % 20 else bare) for i in range(60))
    with reading(run.url) as connection:
        found = forecast(connection, StoredPlan(run.plan, run.hash, "running", 1.0))
    (gate,) = [each for each in found.metrics if each.metric == "completeness"]
    assert gate.role == "gate"
    assert gate.basis == "5.0% have a value of one arm alone so far, 60 pairs"
    assert gate.needed is not None
    assert gate.needed > 60
