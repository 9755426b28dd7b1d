"""Alarms on served answers, and proofs over all steps: valid at every look, and quick where a candidate breaks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import orjson
import pytest

from gateway.core.exchange import Target
from gateway.core.plan import Guardrail, Plan
from gateway.core.ramp import RampDesign
from gateway.ramps.alarms import AlarmTerms
from gateway.ramps.blocks import ServedBlock, ServedBlocks
from gateway.ramps.callers import blind_to_callers, caller_alarms
from gateway.ramps.evidence import RampEvidence
from gateway.ramps.plan_proofs import proofs_of, served_proofs_of
from gateway.ramps.sample_ratio import RATIO_ALPHA, UnitCount, ratio_alarm
from gateway.ramps.step_values import ServedSums, StepValues
from gateway.statistics.domains import Floats

THUMB = "feedback:thumb"
PLAN = Plan(
    "swap", "chat", Target("a", "old"), (("candidate", Target("b", "new")),), mode="both", primary="quality",
    margin=0.05, guardrails=(Guardrail("cost_per_1k", 0.5), Guardrail(THUMB, 0.1)),
    ramp=RampDesign((0.1, 0.5, 1.0), 0.0, 1),
)  # fmt: skip
TERMS = AlarmTerms.of(PLAN)


def step(metric: str, a: Floats, b: Floats, at: int = 0, sign: float = 1.0, bounded: bool = True) -> StepValues:
    return StepValues(metric, at, sign, bounded, ServedSums.of(a), ServedSums.of(b))


def test_the_alarms_share_a_fifth_of_alpha_among_steps_and_metrics() -> None:
    assert dict(TERMS.margins) == {"error_rate": 0.02, "quality": 0.05, "cost_per_1k": 0.5, THUMB: 0.1}
    assert TERMS.alpha == pytest.approx(0.2 * 0.05 / (3 * 4))
    assert PLAN.verdict_alpha == pytest.approx(0.8 * 0.05)
    assert replace(PLAN, ramp=None).verdict_alpha == 0.05


def test_a_candidate_that_always_fails_is_seen_within_ten_units() -> None:
    control = np.zeros(2000)
    raised = [
        n for n in range(1, 30) if caller_alarms([step("error_rate", control, np.ones(n), sign=-1)], TERMS)[0].raised
    ]
    assert raised, "never seen"
    assert raised[0] <= 10
    assert raised == list(range(raised[0], 30)), "it stays one"


def test_a_step_is_blind_until_total_failure_would_be_seen() -> None:
    control, few, enough = np.zeros(2000), np.zeros(3), np.zeros(10)
    assert blind_to_callers([step("error_rate", control, few, sign=-1)], TERMS, 0)
    assert not blind_to_callers([step("error_rate", control, enough, sign=-1)], TERMS, 0)
    assert blind_to_callers([step("error_rate", control, enough, sign=-1)], TERMS, 1), "of another step"
    assert blind_to_callers([step("error_rate", np.zeros(2), enough, sign=-1)], TERMS, 0), "the control is too short"


def test_failures_as_frequent_as_the_controls_raise_no_alarm() -> None:
    both = np.array([1.0] * 30 + [0.0] * 270)
    assert not caller_alarms([step("error_rate", both, both, sign=-1)], TERMS)[0].raised


def test_worse_scores_and_higher_cost_alarm_after_the_burn_in() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.beta(4, 4, 600), np.clip(rng.beta(4, 4, 600) - 0.3, 0, 1)
    assert caller_alarms([step("quality", a, b)], TERMS)[0].raised
    assert not caller_alarms([step("quality", a[:99], b[:99])], TERMS)[0].raised, "99 units are too few"
    dear = step("cost_per_1k", rng.gamma(2, 1, 500), rng.gamma(2, 1, 500) + 2.0, sign=-1, bounded=False)
    assert caller_alarms([dear], TERMS)[0].raised
    assert caller_alarms([step("first_token_s", a, b)], TERMS) == (), "the plan names no such metric"


def test_false_alarms_are_no_more_frequent_than_their_share() -> None:
    """A candidate like the control, looked at 8 times: 120 runs of an alarm with alpha 0.05 of its own."""
    terms, runs = AlarmTerms({"error_rate": 0.0, "quality": 0.0}, 0.05), 120
    for metric, sign in (("error_rate", -1.0), ("quality", 1.0)):
        rng, wrong = np.random.default_rng(7), 0
        for _ in range(runs):
            a, b = (
                ((rng.random(2000) < 0.05).astype(float) for _ in range(2)) if sign < 0 else rng.beta(2, 2, (2, 2000))
            )
            looks = (
                caller_alarms([step(metric, a[:n], b[:n], sign=sign)], terms)[0].raised for n in range(50, 2001, 270)
            )
            wrong += any(looks)
        assert wrong <= runs * 0.05 + 3 * (runs * 0.05 * 0.95) ** 0.5, metric


def test_a_proof_weighs_the_steps_and_is_not_fooled_by_drift() -> None:
    """Thumbs drift from 0.9 to 0.5 while the share rises: pooled over time the candidate would look worse by far."""
    rng = np.random.default_rng(3)

    def thumbs(n: int, p: float) -> Floats:
        return (rng.random(n) < p).astype(np.float64)

    values = [step(THUMB, thumbs(4500, 0.9), thumbs(500, 0.9), 0), step(THUMB, thumbs(2500, 0.5), thumbs(2500, 0.5), 1)]
    (found,) = proofs_of(values, PLAN)
    assert (found.metric, found.found, found.units) == (THUMB, "equivalent", (7000, 3000))
    assert found.difference.value == pytest.approx(0.0, abs=0.03)
    (worse,) = proofs_of([step(THUMB, thumbs(2500, 0.7), thumbs(2500, 0.4), 1)], PLAN)
    assert worse.raised


def test_feedback_is_needed_for_its_proof() -> None:
    (found,) = proofs_of([], PLAN)
    assert (found.found, found.units) == ("unclear", (0, 0))
    (few,) = proofs_of([step(THUMB, np.ones(50), np.ones(50))], PLAN)
    assert few.found == "unclear"
    assert RampEvidence(1.0, proofs=(few,)).unproven == (few,)


def test_the_snapshot_is_json() -> None:
    alarms = caller_alarms([step("error_rate", np.zeros(500), np.ones(20), sign=-1)], TERMS)
    evidence = RampEvidence(1.0, served=alarms, proofs=proofs_of([], PLAN))
    assert evidence.alarms == alarms
    assert orjson.loads(orjson.dumps(evidence.fields()))["served"][0]["units"] == [500, 20]


def test_frequent_failures_alarm_without_a_control() -> None:
    """A night with 0.5 % failures against a peak with 6 % raises no alarm; a candidate that fails every other time
    raises one.
    """
    plan = replace(PLAN, rules=2)
    terms = AlarmTerms.of(plan)
    night = ServedSums(5000, 25.0, 25.0)
    for failing, raised in ((0.06, False), (0.5, True)):
        day = ServedSums(5000, 5000 * failing, 5000 * failing)
        (found,) = caller_alarms([StepValues("error_rate", 2, -1.0, True, night, day, paired=False)], terms)
        assert found.raised == raised
        assert found.margin == 0.2
    quality = StepValues("quality", 2, 1.0, True, night, ServedSums(5000, 0.0, 0.0), paired=False)
    assert caller_alarms([quality], terms) == ()


def test_rules_2_derive_the_failure_margin_from_the_control() -> None:
    terms = AlarmTerms.of(replace(PLAN, rules=2))
    for rate, margin in ((0.01, 0.005), (0.1, 0.05)):
        arm = ServedSums(1000, 1000 * rate, 1000 * rate)
        assert terms.margin(StepValues("error_rate", 0, -1.0, True, arm, arm)) == margin
    assert TERMS.margin(StepValues("error_rate", 0, -1.0, True, ServedSums(1000, 100.0, 100.0), ServedSums())) == 0.02


def served_blocks(shift: float, friend: bool = False) -> ServedBlocks:
    rng = np.random.default_rng(1)
    made = tuple(
        ServedBlock(0, ServedSums.of(rng.normal(0.5, 0.1, 200)), ServedSums.of(rng.normal(0.5 + shift, 0.1, 200)))
        for _ in range(4)
    )
    return ServedBlocks("quality", 1.0, True, made, friend="ada" if friend else "",
                        without=served_blocks(-0.3) if friend else None)  # fmt: skip


def test_only_rules_2_need_a_proof_on_served_answers() -> None:
    plan = replace(PLAN, rules=2)
    assert served_proofs_of([served_blocks(0.0)], PLAN) == ()
    (good,) = served_proofs_of([served_blocks(0.0)], plan)
    assert (good.found, good.step, good.margin) == ("non_inferior", None, 0.05)
    (bad,) = served_proofs_of([served_blocks(-0.3)], plan)
    assert bad.raised
    (few,) = served_proofs_of(
        [replace(served_blocks(0.0), blocks=served_blocks(0.0).blocks[:1])], replace(plan, margin=0.01)
    )
    assert few.missing().startswith("quality is not shown to be harmless on served answers yet: 200 of about ")


def test_a_proof_that_rests_on_one_caller_is_none() -> None:
    (found,) = served_proofs_of([served_blocks(0.0, friend=True)], replace(PLAN, rules=2))
    assert (found.found, found.rests_on) == ("unclear", "ada")
    assert "without ada" in found.missing()


WEB, BATCH = ("chat", "web", "plain", "chat"), ("chat", "batch", "stream", "chat")


def test_units_as_drawn_raise_nothing_at_any_look() -> None:
    """300 steps with 10 looks each; nominal 0.001, so more than 3 would come in fewer than 1 of 10 000 runs."""
    rng, alarms = np.random.default_rng(1), 0
    for _ in range(300):
        n = b = 0
        for _ in range(10):
            n, b = n + 200, b + int(rng.binomial(200, 0.25))
            if ratio_alarm({"control": n - b, "candidate": b}, (), 0.25) is not None:
                alarms += 1
                break
    assert alarms <= 3
    assert RATIO_ALPHA == 0.001


def test_an_alarm_says_where_the_units_are_missing() -> None:
    counts = [
        UnitCount("control", WEB, 750), UnitCount("candidate", WEB, 250),
        UnitCount("control", BATCH, 750), UnitCount("candidate", BATCH, 90),
    ]  # fmt: skip
    said = ratio_alarm({"control": 1500, "candidate": 340}, counts, 0.25)
    assert said is not None
    assert said.startswith("sample ratio: 340 of 1840 units had the candidate, where 0.25 was planned")
    assert "key batch" in said
    assert "stream stream" in said
    assert "key web" not in said
    assert ratio_alarm({}, (), 0.25) is None
