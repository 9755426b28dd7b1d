"""Whether an answer is the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gateway.evals.scorers.f1 import normalized_words
from gateway.evals.scorers.reference import ReferenceScorer, case
from gateway.evals.scoring.types import Golden


@dataclass(frozen=True, slots=True)
class Exact(ReferenceScorer):
    """1: the same words, without regard to case, punctuation and the articles a, an, the, as SQuAD counts; 0: not.

    literal: only white space at the ends is disregarded.
    """

    heavy: ClassVar[bool] = False

    literal: bool = False

    def compare(self, answer: str, reference: str) -> float:
        if self.literal:
            return float(answer.strip() == reference.strip())
        return float(normalized_words(answer) == normalized_words(reference))

    def golden(self) -> tuple[Golden, ...]:
        return (
            case("the same", "Paris", "Paris", 1.0),
            case("an article, case and a full stop", "The paris.", "Paris", float(not self.literal)),
            case("more words", "It is Paris", "Paris", 0.0),
            case("no reference", "Paris", None, None),
        )
