"""Base of the scorers that compare an answer with a reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gateway.core.completion import Completion
from gateway.core.score import Score, Skipped
from gateway.scorers.preconditions import require_answer
from gateway.scoring.types import Golden, Rule, Subject

NO_REFERENCE = Skipped("a reference")
MAX_CHARACTERS = 100_000  # of each text that are read


@dataclass(frozen=True, slots=True)
class ReferenceScorer(Rule):
    """Compares an answer with its reference. An empty answer counts as wrong, not as skipped."""

    heavy: ClassVar[bool] = True

    def compare(self, answer: str, reference: str) -> float | None:
        """The score; None if the reference contains nothing to compare with."""
        raise NotImplementedError

    def score_immediately(self, subject: Subject) -> Skipped | None:
        return NO_REFERENCE if subject.reference is None else require_answer(subject)

    async def score(self, subject: Subject) -> Score | Skipped:
        skipped = self.score_immediately(subject)
        if skipped is not None or subject.reference is None:
            return skipped or NO_REFERENCE
        value = self.compare(subject.completion.text[:MAX_CHARACTERS], subject.reference[:MAX_CHARACTERS])
        return Skipped("a reference with words in it") if value is None else Score(value)


def golden_case(name: str, answer: str, reference: str | None, expected: float | None) -> Golden:
    return Golden(name, {}, Completion(answer, finish_reason="stop"), expected, reference=reference)
