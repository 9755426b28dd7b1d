"""METEOR of one text with exact and stem matches, without synonyms and paraphrases.

It differs from the METEOR of nltk, which other tools report: WordNet's synonyms do not match, words are runs of letters
and digits, and stems are those of Porter's original algorithm. On texts without synonyms both are equal, and tests hold
them so. Unlike the original program's, the alignment is greedy, as nltk's is.
Source: Banerjee & Lavie, "METEOR", ACL 2005 workshop; the weights are those of Lavie & Agarwal 2007 for English as nltk
has them: α = 0.9, β = 3, γ = 0.5.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from gateway.scorers.porter_stemmer import stem
from gateway.scorers.reference import ReferenceScorer, golden_case
from gateway.scoring.types import Golden

ALPHA, BETA, GAMMA = 0.9, 3.0, 0.5
_WORDS = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Meteor(ReferenceScorer):
    """Words that match the reference exactly or by their stem, recall weighted 9 to 1, less for scattered matches."""

    def compare(self, answer: str, reference: str) -> float | None:
        right = meteor_words(reference)
        return meteor(meteor_words(answer), right) if right else None

    def golden(self) -> tuple[Golden, ...]:
        return (
            golden_case("the same", "the cat sat on the mat", "the cat sat on the mat", 1 - GAMMA / 6**BETA),
            golden_case("by stem", "cats", "cat", 1 - GAMMA),
            golden_case("nothing in common", "Rome", "Paris", 0.0),
            golden_case("no synonyms", "a big dog", "a large dog", 2 / 3 * (1 - GAMMA)),
            golden_case("an empty answer", "", "cat", 0.0),
            golden_case("no reference", "cat", None, None),
        )


def meteor_words(text: str) -> list[str]:
    return _WORDS.findall(text.lower())


def meteor(answer: Sequence[str], reference: Sequence[str]) -> float:
    """answer, reference: words in lower case."""
    matches = aligned(answer, reference)
    if not matches:
        return 0.0
    precision, recall = len(matches) / len(answer), len(matches) / len(reference)
    f_mean = precision * recall / (ALPHA * precision + (1 - ALPHA) * recall)
    penalty: float = GAMMA * (chunks(matches) / len(matches)) ** BETA
    return (1 - penalty) * f_mean


def aligned(answer: Sequence[str], reference: Sequence[str]) -> list[tuple[int, int]]:
    """Positions of matching words: first the equal ones, then those of the same stem; each from the end of both."""
    found: list[tuple[int, int]] = []
    left, open_ = list(enumerate(answer)), list(enumerate(reference))
    for form in (str, stem):
        places: dict[str, list[int]] = {}
        for at, word in open_:
            places.setdefault(form(word), []).append(at)
        unmatched = []
        for at, word in reversed(left):
            if others := places.get(form(word)):
                found.append((at, others.pop()))
            else:
                unmatched.append((at, word))
        taken = {other for _, other in found}
        left, open_ = unmatched[::-1], [(at, word) for at, word in open_ if at not in taken]
    return sorted(found)


def chunks(matches: Sequence[tuple[int, int]]) -> int:
    """The number of runs of matches that are neighbours in both texts. matches: in order of the answer."""
    followed = sum(b == (a[0] + 1, a[1] + 1) for a, b in pairwise(matches))
    return len(matches) - followed
