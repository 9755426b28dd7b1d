"""How many words an answer has in common with the reference."""

from __future__ import annotations

import re
import string
from collections import Counter
from dataclasses import dataclass

from gateway.evals.scorers.reference import ReferenceScorer, case
from gateway.evals.scoring.types import Golden


@dataclass(frozen=True, slots=True)
class F1(ReferenceScorer):
    """SQuAD's F1 of the words, without regard to order, case, punctuation and the articles a, an, the."""

    def compare(self, answer: str, reference: str) -> float:
        return f1_of_words(normalized_words(answer), normalized_words(reference))

    def golden(self) -> tuple[Golden, ...]:
        return (
            case("the same", "The cat.", "cat", 1.0),
            case("one of three", "It is Paris", "Paris", 0.5),
            case("nothing in common", "Rome", "Paris", 0.0),
            case("silence", "", "Paris", 0.0),
            case("no reference", "Paris", None, None),
        )


_PUNCTUATION = re.compile(f"[{re.escape(string.punctuation)}]+")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normalized_words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", _PUNCTUATION.sub("", text.lower())).split()


def f1_of_words(answer: list[str], reference: list[str]) -> float:
    """The harmonic mean of the shares of words, counted with their repeats, that both have in common.

    Two texts without words are alike (1); one of them alone is not (0).
    """
    if not answer or not reference:
        return float(answer == reference)
    common = (Counter(answer) & Counter(reference)).total()
    return 2 * common / (len(answer) + len(reference))
