"""Tests whether an answer is the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gateway.scorers.f1 import normalized_words
from gateway.scorers.reference import ReferenceScorer, golden_case
from gateway.scoring.types import Golden


@dataclass(frozen=True, slots=True)
class Exact(ReferenceScorer):
    """Scores 1 for the words of the reference, ignoring case, punctuation and the articles a, an, the, as SQuAD does,
    else 0.
    """

    heavy: ClassVar[bool] = False

    literal: bool = False
    """Compare the characters instead, ignoring only white space at the ends."""

    def compare(self, answer: str, reference: str) -> float:
        if self.literal:
            return float(answer.strip() == reference.strip())
        return float(normalized_words(answer) == normalized_words(reference))

    def golden(self) -> tuple[Golden, ...]:
        return (
            golden_case("the same", "Paris", "Paris", 1.0),
            golden_case("an article, case and a full stop", "The paris.", "Paris", float(not self.literal)),
            golden_case("more words", "It is Paris", "Paris", 0.0),
            golden_case("no reference", "Paris", None, None),
        )
