"""The words that an answer has in common with its reference, as SQuAD counts them.

Source: Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text", arXiv:1606.05250, section 6.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from dataclasses import dataclass

from gateway.scorers.reference import ReferenceScorer, golden_case
from gateway.scoring.types import Golden


@dataclass(frozen=True, slots=True)
class F1(ReferenceScorer):
    """SQuAD's F1 of the words, ignoring order, case, punctuation and the articles a, an, the."""

    def compare(self, answer: str, reference: str) -> float:
        return f1_of_words(normalized_words(answer), normalized_words(reference))

    def golden(self) -> tuple[Golden, ...]:
        return (
            golden_case("the same", "The cat.", "cat", 1.0),
            golden_case("one of three", "It is Paris", "Paris", 0.5),
            golden_case("nothing in common", "Rome", "Paris", 0.0),
            golden_case("an empty answer", "", "Paris", 0.0),
            golden_case("no reference", "Paris", None, None),
        )


_PUNCTUATION = re.compile(f"[{re.escape(string.punctuation)}]+")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normalized_words(text: str) -> list[str]:
    """Words without case, punctuation and articles."""
    return _ARTICLES.sub(" ", _PUNCTUATION.sub("", text.lower())).split()


def f1_of_words(answer: list[str], reference: list[str]) -> float:
    """The F1 of the common words, counted with repeats. Two empty lists give 1; an empty and a non-empty one give 0."""
    if not answer or not reference:
        return float(answer == reference)
    common = (Counter(answer) & Counter(reference)).total()
    return 2 * common / (len(answer) + len(reference))
