"""Two engines' likelihoods of one answer are compared only where they are of the same tokens."""

from __future__ import annotations

import pytest
from fixtures.likelihoods import likelihood_plan

from gateway.core.likelihood import AnswerLikelihood
from gateway.core.plan import AGAIN, NATS_PER_TOKEN, REPEAT, TOP1_AGREEMENT
from gateway.features.experiments.likelihood import LikelihoodPair, NotComparable, likelihood_pair
from gateway.features.experiments.metrics import (
    ArmObservation,
    JoinedPair,
    PairValue,
    WithheldPair,
    metrics_of,
    pair_value,
)

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
def test_what_cannot_be_compared_has_a_reason(
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


def test_scores_are_no_metrics_of_a_likelihood_experiment() -> None:
    assert [m.name for m in metrics_of(PLAN, joined(candidate=B, repeat=A))] == [
        "error_rate", "completion", "lost", NATS_PER_TOKEN, TOP1_AGREEMENT,
    ]  # fmt: skip
