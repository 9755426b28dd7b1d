"""What scorers with a reference share: when there is one, and how their golden cases are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gateway.core.completion import Completion
from gateway.core.score import Score, Skipped
from gateway.evals.scorers.preconditions import require_answer
from gateway.evals.scoring.types import Golden, Rule, Subject

NO_REFERENCE = Skipped("a reference")
READ = 100_000  # characters of each text


@dataclass(frozen=True, slots=True)
class ReferenceScorer(Rule):
    """An answer compared with its reference. A failed or silent answer counts as an empty text, and so as wrong."""

    heavy: ClassVar[bool] = True

    def compare(self, answer: str, reference: str) -> float | None:
        """None: the reference has nothing in it that could be compared."""
        raise NotImplementedError

    def score_immediately(self, subject: Subject) -> Skipped | None:
        return NO_REFERENCE if subject.reference is None else require_answer(subject)

    async def score(self, subject: Subject) -> Score | Skipped:
        skipped = self.score_immediately(subject)
        if skipped is not None or subject.reference is None:
            return skipped or NO_REFERENCE
        value = self.compare(subject.completion.text[:READ], subject.reference[:READ])
        return Skipped("a reference with words in it") if value is None else Score(value)


def case(name: str, answer: str, reference: str | None, expected: float | None) -> Golden:
    return Golden(name, {}, Completion(answer, finish_reason="stop"), expected, reference=reference)
