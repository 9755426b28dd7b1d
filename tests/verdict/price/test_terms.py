"""The price of a verdict and a ramp beyond their pairs is stated before anything is paid."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fixtures.simulated import a_pair, a_plan, seen

from gateway.core.exchange import Target
from gateway.core.plan import Guardrail, Plan, StoredPlan
from gateway.core.ramp import RampDesign
from gateway.features.experiments.start.price import price_evidence
from gateway.store.query import reading
from gateway.verdict.metrics import ArmObservation, StoredScore
from gateway.verdict.price.forecast import Terms, forecast
from gateway.verdict.price.terms import (
    GUARD,
    TrafficPace,
    error_margin,
    error_proof_units,
    look_z,
    price_terms,
    proof_hours,
    proof_units,
    range_of,
    reached,
)

SOON = TrafficPace(300, 7_200.0, 72_000.0)


def new_plan(**changes: Any) -> Plan:
    usual = {"rules": 2, "method": "hybrid", "aa": "alarm", "max_pairs": 400, "auto_horizon": True, "min_hours": 24.0}
    return a_plan(**{**usual, "margin": 0.05, "shadow": 0.1, "repeat_control": 0.25, "empty": "failed", **changes})


def said(plan: Plan, pace: TrafficPace = SOON) -> dict[str, str]:
    return {term.name: term.says for term in price_terms(plan, pace)}


def test_a_plan_with_the_first_rules_has_no_further_terms() -> None:
    assert said(new_plan(rules=1)) == {}


def test_a_lower_share_spreads_pairs_over_the_hours() -> None:
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


def test_the_horizon_names_metrics_that_it_comes_too_early_for() -> None:
    """400 pairs are planned, and 1 600 the most; a guardrail has until the primary is done, and the planned pairs."""

    def horizon(plan: Plan, needs: dict[str, int | None]) -> str:
        return {term.name: term.says for term in price_terms(plan, SOON, needs)}.get("horizon", "")

    assert horizon(new_plan(), {"quality": 1_500, "refusal": 1_400}) == horizon(new_plan(), {})
    assert horizon(new_plan(), {"quality": 1_725}).endswith(
        "; quality needs about 1 725 pairs, and the plan ends at 1 600: widen its margin, or set `max_pairs: 1800`"
    )
    assert "refusal needs about 2 305 pairs, and the plan ends at 500" in horizon(
        new_plan(), {"quality": 500, "refusal": 2_305}
    )
    assert horizon(new_plan(auto_horizon=False), {"quality": 390, "refusal": None}) == ""
    assert horizon(new_plan(auto_horizon=False), {"quality": 500}).startswith("quality needs about 500 pairs, and")


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ("assumed", "is checked from 50 of a kind on"),
        ("checked", "they are not so far"),
        ("alarm", "the calls of one user or key are alike"),
    ],
)
def test_the_term_on_units_says_what_pairs_have_shown(known: Any, words: str) -> None:
    assert words in said(new_plan(), replace(SOON, independence=known))["units"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "where they name keys alone, the verdict is about these keys as they use it now"),
        ({"population": "others"}, "the last look takes 3 effective ones, earlier looks 10"),
        ({"population": "these"}, "the verdict is about the users or keys seen"),
        ({"independent": True}, "`unit: request` declares"),
    ],
)
def test_the_term_on_units_names_the_population(changes: Any, words: str) -> None:
    assert words in said(new_plan(rules=3, **changes))["units"]


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
    assert "an error rate at most 0.5 points higher" in text["served proof"]
    assert "an arm (conversation) at 1.00% errors of the control (so far)" in text["served proof"]
    assert "from the first step with one call a conversation" in text["served proof"]
    assert "(assumed)" in said(plan)["served proof"]
    assert text["holdout"] == "0.02 of the units keep the control for 28 days after the promotion"
    assert said(replace(plan, ramp=replace(ramp, holdout=0.0)))["holdout"].startswith("none")
    assert "holdout" not in said(new_plan())


def test_the_forecast_has_the_terms_and_waits_for_the_hours() -> None:
    plan = new_plan()
    found = forecast(StoredPlan(plan, plan.hash, "stopped", 0.0), Terms(requests_a_day=1_000_000.0))
    assert {term.name for term in found.terms} == {"horizon", "hours", "units", "completeness"}
    assert found.prices[0].days == 1.0


def test_scores_that_one_arm_lacks_are_a_condition_with_a_price(begin_experiment: Any) -> None:
    run = begin_experiment(rules=2, method="anytime", aa="alarm", repeat_control=0.2, margin=0.1)
    bare = ArmObservation("ok", "x", scores={("quality", "1 c1"): StoredScore("not_applicable")})
    run.add(a_pair(i, seen(0.5), candidate=seen(0.5) if i % 20 else bare) for i in range(60))
    with reading(run.url) as connection:
        plan = StoredPlan(run.plan, run.hash, "running", 1.0)
        found = forecast(plan, evidence=price_evidence(connection, plan))
    (gate,) = [each for each in found.metrics if each.metric == "completeness"]
    assert gate.role == "gate"
    assert gate.basis == "5.0% have a value for one arm only so far, 60 pairs"
    assert gate.needed is not None
    assert gate.needed > 60


DESIGN = RampDesign((0.01, 0.05, 0.25, 0.5, 1.0), 3600.0, 100)
PLAN = Plan(
    "swap", "chat", Target("a", "m"), (("candidate", Target("b", "m")),), "both", primary="quality", margin=0.05,
    ramp=DESIGN, rules=2,
)  # fmt: skip


def test_the_margin_of_errors_is_half_a_point_or_half_the_rate() -> None:
    assert [error_margin(PLAN, rate) for rate in (0.0, 0.01, 0.06)] == [0.005, 0.005, 0.03]
    stated = replace(PLAN, guardrails=(Guardrail("error_rate", 0.002),))
    assert error_margin(stated, 0.06) == 0.002


@pytest.mark.parametrize(("rate", "units"), [(0.01, 7260), (0.005, 3930), (0.001, 1603)])
def test_errors_are_proved_with_the_units_of_a_fixed_test(rate: float, units: int) -> None:
    """One-sided 0.016 and power 0.8. A fixed test of two proportions without any guard against arms that have hardly
    failed yet needs 7060, 3550 and 710."""
    assert look_z(PLAN.verdict_alpha) == pytest.approx(2.144, abs=1e-3)
    assert error_proof_units(PLAN, rate) == pytest.approx(units, rel=0.01)


def test_progress_is_the_share_of_the_needed_units() -> None:
    n, alpha = proof_units(0.04, 0.05, 0.04), 0.04
    assert n is not None
    error = (2 * (0.04 * n + GUARD) / n**2) ** 0.5
    assert reached(error, 0.05, alpha) == pytest.approx(1.0, rel=0.02)
    assert reached(2 * error, 0.05, alpha) == pytest.approx(0.25, rel=0.02)
    assert proof_units(0.04, 0.0, 0.04) is None


def test_the_hours_follow_from_the_steps() -> None:
    """7160 units an arm: 3580 of s (1 - s): 60 + 285 + 1125 in the first three hours, then 1500 an hour."""
    hours = proof_hours(7160, 6000.0, DESIGN)
    assert hours == pytest.approx(3 + (3580 - 59.4 - 285 - 1125) / 1500, rel=0.01)
    assert proof_hours(10, 6000.0, DESIGN) == 4.0, "each step lasts its soak time"
    assert proof_hours(10, 0.0, DESIGN) is None
    assert proof_hours(10, 100.0, RampDesign((1.0,), 0.0, 1)) is None


def test_alike_calls_of_a_unit_move_the_latest_end() -> None:
    long = new_plan(rules=3, max_pairs=300)
    apart, alike, rare = (range_of(long, inflation) for inflation in (1.0, 2.5, 40.0))
    assert [found.high for found in (apart, alike, rare) if found] == [1200, 3000, 4800]
    older = range_of(replace(long, rules=2), 2.5)
    assert older is not None
    assert older.high == 1200
    assert "200 at most, and up to 4 times that" in said(long)["horizon"]
    assert "3\u202f000 at most" in said(long, replace(SOON, inflation=2.5))["horizon"]
