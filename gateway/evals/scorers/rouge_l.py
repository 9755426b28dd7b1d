"""The longest common subsequence of words with the reference."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.evals.scorers.reference import ReferenceScorer, case
from gateway.evals.scoring.types import Golden

_WORDS = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class RougeL(ReferenceScorer):
    """ROUGE-L (F-measure) of one text: words are runs of a–z and 0–9 in lower case, without stemming.

    A reference in a script without such letters is not applicable. Equal to `rouge_score` with use_stemmer=False.
    Source: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", ACL 2004, section 3.1, with β = 1.
    """

    def compare(self, answer: str, reference: str) -> float | None:
        right = _WORDS.findall(reference.lower())
        return f_measure(_WORDS.findall(answer.lower()), right) if right else None

    def golden(self) -> tuple[Golden, ...]:
        fox, dog = "The quick brown fox jumps over the lazy dog", "The quick brown dog jumps on the log."
        return (
            case("the same", fox, fox, 1.0),
            case("in part", dog, fox, 10 / 17),
            case("the other way round", fox, dog, 10 / 17),
            case("nothing in common", "Rome", "Paris", 0.0),
            case("another script", "Москва", "Москва", None),
            case("no reference", fox, None, None),
        )


def f_measure(answer: Sequence[str], reference: Sequence[str]) -> float:
    """2 · LCS / (words of both), which is the harmonic mean of LCS / answer and LCS / reference."""
    both = len(answer) + len(reference)
    return 2 * lcs_length(answer, reference) / both if both else 0.0


def lcs_length(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest common subsequence, by bits: each word of b is one step over all of a at once.

    Source: Hyyrö, "Bit-parallel LCS-length computation revisited", AWOCA 2004, section 3: V ← (V + (V & M)) | (V & ~M).
    """
    places: dict[str, int] = {}
    for at, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << at
    row = full = (1 << len(a)) - 1
    for word in b:
        match = row & places.get(word, 0)
        row = ((row + match) | (row - match)) & full
    return len(a) - row.bit_count()
