"""The values of each metric on a pair: asked and failed counts, lost or unjudged is withheld, and nothing is
guessed."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.likelihoods import likelihood_plan

from gateway.core.exchange import Target
from gateway.core.likelihood import AnswerLikelihood
from gateway.core.plan import AGAIN, NATS_PER_TOKEN, REPEAT, TOP1_AGREEMENT, Plan
from gateway.verdict.metrics import (
    ALONE,
    JUDGED,
    LOST,
    ArmObservation,
    JoinedPair,
    LikelihoodPair,
    Metric,
    NotComparable,
    PairValue,
    StoredScore,
    WithheldPair,
    likelihood_pair,
    metrics_of,
    noise_metrics,
    pair_value,
)

KEY = ("quality", "1 c1")
QUALITY = Metric("quality", "score", "1 c1")
EDIT = Metric("edit", "distance", "1 c1", "repeat")
PREFERS = Metric("prefers", "preference", "1 c1")


def plan(**changes: Any) -> Plan:
    candidate = (("candidate", Target("b", "n")),)
    return Plan(**{"name": "swap", "model": "chat", "control": Target("a", "m"), "candidates": candidate,
                   "repeat_control": 0.5, "primary": "quality", **changes})  # fmt: skip


def seen(value: float | None = None, status: str = "scored", state: Any = "ok", **more: Any) -> ArmObservation:
    return ArmObservation(state, "x", scores={KEY: StoredScore(status, value, value)}, **more)


def paired_with(status: str, value: float | None, direction: str, name: str) -> ArmObservation:
    return ArmObservation("ok", "x", pair_scores={(name, "1 c1"): StoredScore(status, value, value, direction)})


def taken(
    metric: Metric,
    control: ArmObservation,
    candidate: ArmObservation,
    repeat: ArmObservation | None = None,
    arm: str = "candidate",
) -> Any:
    arms = {"candidate": candidate} | ({"repeat": repeat} if repeat else {})
    return pair_value(plan(), metric, JoinedPair("p", control, arms), arm)


LOST_ARM = ArmObservation("lost")
FAILED = ArmObservation("failed", "x", "upstream_error", 0.1, scores={KEY: StoredScore("scored", 0.9, 0.9)})


@pytest.mark.parametrize(
    ("control", "candidate", "expected"),
    [
        (seen(0.5), seen(0.75), PairValue(0.5, 0.75, 0.25)),
        (seen(0.5), FAILED, PairValue(0.5, 0.0, -0.5)),
        (FAILED, seen(0.5), PairValue(0.0, 0.5, 0.5)),
        (seen(0.5), LOST_ARM, WithheldPair("lost", "candidate")),
        (seen(0.5), seen(None, "error"), WithheldPair("judge_failed", "candidate")),
        (seen(None, "timeout"), seen(0.5), WithheldPair("judge_failed", "control")),
        (seen(0.5), seen(None, "not_applicable"), WithheldPair("not_applicable")),
        (seen(0.5), ArmObservation("ok", "x"), None),
    ],
    ids=[
        "better",
        "failed",
        "the control failed",
        "lost",
        "no judgement",
        "no control score",
        "n/a",
        "not drawn",
    ],
)
def test_a_score(control: ArmObservation, candidate: ArmObservation, expected: Any) -> None:
    assert taken(QUALITY, control, candidate) == expected


def test_failure_and_completion_are_opposites() -> None:
    errors, completion = Metric("error_rate", "failed"), Metric("completion", "completed")
    assert taken(errors, seen(1), FAILED) == PairValue(0.0, 1.0, -1.0)
    assert taken(completion, seen(1), FAILED) == PairValue(1.0, 0.0, -1.0)
    assert taken(errors, FAILED, seen(1)) == PairValue(1.0, 0.0, 1.0)


def test_a_lost_record_counts_only_in_the_loss_metric() -> None:
    lost = Metric(LOST, "lost")
    assert taken(lost, seen(1), LOST_ARM) == PairValue(0.0, 1.0, -1.0)
    assert taken(lost, seen(1), seen(1)) == PairValue(0.0, 0.0, 0.0)


def test_a_distance_is_compared_with_the_controls_own() -> None:
    near, far = paired_with("scored", 0.2, "minimise", "edit"), paired_with("scored", 0.5, "minimise", "edit")
    assert taken(EDIT, seen(1), far, near) == PairValue(0.2, 0.5, -0.3)
    assert taken(EDIT, seen(1), far) is None, "the control was not asked again"
    assert taken(EDIT, seen(1), far, paired_with("error", None, "minimise", "edit")) == WithheldPair(
        "judge_failed", "repeat"
    )


def test_a_preference_is_a_share_of_wins() -> None:
    assert taken(PREFERS, seen(1), paired_with("scored", 1.0, "maximise", "prefers")) == PairValue(0.0, 1.0, 1.0)
    assert taken(PREFERS, seen(1), paired_with("scored", 0.5, "maximise", "prefers")) == PairValue(0.5, 0.5, 0.0)
    assert taken(PREFERS, seen(1), paired_with("budget", None, "maximise", "prefers")) == WithheldPair(
        "judge_failed", "candidate"
    )


def test_an_abandoned_answer_counts_with_its_latency() -> None:
    total, cost = Metric("total_s", "measure"), Metric("cost_per_1k", "measure")
    quick, late = ArmObservation("ok", "x", total_s=1.0, cost_usd=0.002), ArmObservation("failed", "x", "timeout", 9.0)
    assert taken(total, quick, late) == PairValue(1.0, 9.0, -8.0)
    assert taken(total, quick, FAILED) == WithheldPair("incomplete", "candidate"), "an error is not a fast answer"
    assert taken(cost, quick, ArmObservation("ok", "x", cost_usd=0.0005)) == PairValue(2.0, 0.5, 1.5)
    assert taken(cost, quick, ArmObservation("ok", "x")) == WithheldPair("incomplete", "candidate")


def test_claims_of_latency_need_the_control_asked_again() -> None:
    joined = JoinedPair("p", seen(0.5), {"candidate": seen(0.5)})
    names = {m.name: m.against for m in metrics_of(plan(), joined)}
    assert (names["total_s"], names["error_rate"], names["quality"]) == ("repeat", "repeat", "control")
    without = {m.name for m in metrics_of(plan(repeat_control=0.0), joined)}
    assert "total_s" not in without
    assert {"error_rate", "cost_per_1k", "quality", LOST, JUDGED} <= without


@pytest.mark.parametrize(
    ("changes", "known"),
    [
        ({"method": "hybrid"}, True),
        ({"method": "anytime"}, True),
        ({"method": "hybrid", "repeat_control": 1.0}, False),
        ({"method": "hybrid", "repeat_control": 0.0}, False),
        ({}, False),
    ],
    ids=["hybrid", "anytime", "every pair has a repeat", "none has", "a plan without a method"],
)
def test_the_candidates_failures_are_known_from_every_pair(changes: dict[str, Any], known: bool) -> None:
    joined = JoinedPair("p", seen(0.5), {"candidate": FAILED})
    found = {m.name: m for m in metrics_of(plan(**changes), joined)}
    assert (ALONE in found) == known
    if known:
        assert pair_value(plan(**changes), found[ALONE], joined, "candidate") == PairValue(0.0, 1.0, -1.0)
        assert pair_value(plan(**changes), found["error_rate"], joined, "candidate") is None, "there is no repeat"
        assert ALONE not in {m.name for m in noise_metrics(found.values())}


def test_scores_are_compared_with_the_repeat_where_the_plan_says_so() -> None:
    compared = plan(method="hybrid", compare="repeat", repeat_control=1.0)
    joined = JoinedPair("p", seen(0.5), {"candidate": seen(0.75), "repeat": seen(0.25)})
    found = {m.name: m for m in metrics_of(compared, joined)}
    assert pair_value(compared, found["quality"], joined, "candidate") == PairValue(0.25, 0.75, 0.5)
    assert noise_metrics(found.values()) == []


def test_noise_metrics_compare_with_the_served_answer() -> None:
    joined = JoinedPair("p", seen(0.5), {"candidate": seen(0.5), "repeat": seen(0.5)})
    assert [m.name for m in noise_metrics(metrics_of(plan(), joined))] == ["cost_per_1k", "output_tokens", "quality"]


def test_a_judge_that_fails_is_seen_by_arm() -> None:
    judge = Metric(JUDGED, "judge", "1 c1")
    assert taken(judge, seen(1), seen(None, "error")) == PairValue(0.0, 1.0, -1.0)
    assert taken(judge, seen(None, "timeout"), seen(1)) == PairValue(1.0, 0.0, 1.0)
    assert taken(judge, seen(1), ArmObservation("ok", "x")) is None


A = AnswerLikelihood(4, 2.0, 3, "x", "aaaabbbbccccdddd")
B = AnswerLikelihood(4, 3.0, 2, "x", "aaaabbbbccccffff")
REFUSED = AnswerLikelihood(refused="rejected")
PLAN = likelihood_plan()


def test_a_pair_is_nats_per_token_and_agreement() -> None:
    assert likelihood_pair(A, B) == LikelihoodPair(0.5, 0.75, 0.75, 4)


@pytest.mark.parametrize(
    ("a", "b", "why"),
    [
        (A, AnswerLikelihood(4, 3.0, 2, "y", B.best), NotComparable("tokenizers_differ", True)),
        (A, AnswerLikelihood(5, 3.0, 2, "x", B.best), NotComparable("tokenizers_differ", True)),
        (A, REFUSED, NotComparable("rejected", True)),
        (REFUSED, B, NotComparable("rejected", False)),
        (None, B, NotComparable("not_recorded", False)),
        (A, None, NotComparable("not_recorded", True)),
        (A, AnswerLikelihood(), NotComparable("not_recorded", True)),
    ],
)
def test_a_likelihood_without_a_value_has_a_reason(
    a: AnswerLikelihood | None, b: AnswerLikelihood | None, why: NotComparable
) -> None:
    assert likelihood_pair(a, b) == why


def joined(**arms: AnswerLikelihood | None) -> JoinedPair:
    seen = {arm: ArmObservation("ok", likelihood=likelihood) for arm, likelihood in arms.items()}
    return JoinedPair("p", ArmObservation("ok"), seen)


def values(pair: JoinedPair, arm: str) -> dict[str, PairValue | WithheldPair | None]:
    return {m.name: pair_value(PLAN, m, pair, arm) for m in metrics_of(PLAN, pair)}


def test_the_candidate_is_compared_with_the_controls_own_scoring() -> None:
    found = values(joined(candidate=B, repeat=A), "candidate")
    assert found[NATS_PER_TOKEN] == PairValue(0.5, 0.75, -0.25)
    assert found[TOP1_AGREEMENT] == PairValue(1.0, 0.75, -0.25)
    assert found["error_rate"] == PairValue(0.0, 0.0, 0.0)


def test_the_noise_floor_is_the_control_scored_twice() -> None:
    pair = joined(candidate=B, repeat=A, **{AGAIN: A})
    assert values(pair, REPEAT)[NATS_PER_TOKEN] == PairValue(0.5, 0.5, 0.0)
    assert values(joined(candidate=B, repeat=A), REPEAT)[NATS_PER_TOKEN] is None


def test_an_arm_that_failed_has_no_likelihood() -> None:
    failed = ArmObservation("failed", likelihood=AnswerLikelihood(refused="no_prompt_logprobs"))
    pair = JoinedPair("p", ArmObservation("ok"), {"candidate": failed, "repeat": ArmObservation("ok", likelihood=A)})
    assert values(pair, "candidate")[NATS_PER_TOKEN] == WithheldPair("incomplete", "candidate")
    assert values(pair, "candidate")["error_rate"] == PairValue(0.0, 1.0, -1.0)


def test_scores_are_not_metrics_of_a_likelihood_experiment() -> None:
    assert [m.name for m in metrics_of(PLAN, joined(candidate=B, repeat=A))] == [
        "error_rate", "completion", "lost", NATS_PER_TOKEN, TOP1_AGREEMENT,
    ]  # fmt: skip
