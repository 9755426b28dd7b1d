"""The Brier loss of an answer's decisions, by their reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from gateway.core.decision import Answer
from gateway.core.score import Direction, Score, Skipped
from gateway.scorers.decision_right import golden_decision, judged
from gateway.scoring.types import Golden, ImmediateRule, Subject


@dataclass(frozen=True, slots=True)
class DecisionBrier(ImmediateRule):
    """Half the squared distance between the probabilities and the right answer, as a mean over the decisions.

    0 for certain and right, 1 for certain and wrong, and for a decision that cannot be read. The answer of a chat is
    certain: it gives no probabilities. Source: Brier, Monthly Weather Review 78(1), 1950.
    """

    direction: ClassVar[Direction] = "minimise"

    def score_immediately(self, subject: Subject) -> Score | Skipped:
        found = judged(subject)
        if isinstance(found, Skipped):
            return found
        losses = [
            1.0 if own is None else loss(own, wanted) for own, wanted in zip(found.stated, found.right, strict=True)
        ]
        return Score(sum(losses) / len(losses), detail={"decisions": float(len(losses))})

    def golden(self) -> tuple[Golden, ...]:
        right = '{"team": "billing", "refund": true}'
        sure = {"team": [0.9, 0.1], "refund": [0.8, 0.2]}
        return (
            golden_decision("certain and right", right, 0.0),
            golden_decision("certain, and one wrong", '{"team": "other", "refund": true}', 0.5),
            golden_decision("by its probabilities", right, (0.01 + 0.04) / 2, probabilities=sure),
            golden_decision("not JSON", "billing", 1.0),
            golden_decision("no reference", right, None, None),
        )


def loss(stated: Answer, right: Answer) -> float:
    """The loss of one decision, between 0 and 1."""
    return _half_squares(stated.probabilities, right.probabilities)


def _half_squares(stated: Sequence[float], right: Sequence[float]) -> float:
    return min(1.0, 0.5 * sum((p - y) ** 2 for p, y in zip(stated, right, strict=True)))
