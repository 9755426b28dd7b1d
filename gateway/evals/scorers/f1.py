"""How many words an answer has in common with the reference."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.evals.scorers.reference import ReferenceScorer, case
from gateway.evals.scorers.squad import f1, words
from gateway.evals.scoring.types import Golden


@dataclass(frozen=True, slots=True)
class F1(ReferenceScorer):
    """SQuAD's F1 of the words, without regard to order, case, punctuation and the articles a, an, the."""

    def compare(self, answer: str, reference: str) -> float:
        return f1(words(answer), words(reference))

    def golden(self) -> tuple[Golden, ...]:
        return (
            case("the same", "The cat.", "cat", 1.0),
            case("one of three", "It is Paris", "Paris", 0.5),
            case("nothing in common", "Rome", "Paris", 0.0),
            case("silence", "", "Paris", 0.0),
            case("no reference", "Paris", None, None),
        )
