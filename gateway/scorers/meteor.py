"""METEOR of one text with exact and stem matches, without synonyms and paraphrases.

It differs from the METEOR of nltk, which other tools report: WordNet's synonyms do not match, words are runs of letters
and digits, and stems are those of Porter's original algorithm. On texts without synonyms both are equal, and tests hold
them so. Unlike the original program's, the alignment is greedy, as nltk's is.
Source: Banerjee & Lavie, "METEOR", ACL 2005 workshop; the weights are those of Lavie & Agarwal 2007 for English as nltk
has them: α = 0.9, β = 3, γ = 0.5. Stemmer: Porter, "An algorithm for suffix stripping", Program 14(3), 1980; step and
rule names are the paper's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from gateway.scorers.reference import ReferenceScorer, golden_case
from gateway.scoring.types import Golden

Rule = tuple[str, str]
_LONGEST = 64


def _rules(text: str) -> tuple[Rule, ...]:
    """Suffixes and what replaces them, written as "ational>ate"."""
    return tuple((suffix, by) for suffix, _, by in (rule.partition(">") for rule in text.split()))


_STEP_2 = _rules(
    "ational>ate tional>tion enci>ence anci>ance izer>ize abli>able alli>al entli>ent eli>e ousli>ous ization>ize "
    "ation>ate ator>ate alism>al iveness>ive fulness>ful ousness>ous aliti>al iviti>ive biliti>ble"
)
_STEP_3 = _rules("icate>ic ative> alize>al iciti>ic ical>ic ful> ness>")
_STEP_4 = [
    suffix for suffix, _ in _rules("al ance ence er ic able ible ant ement ment ent ion ou ism ate iti ous ive ize")
]


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    """Stems a word in lower case. Words of up to two letters, and of more than _LONGEST, are their own stem."""
    if not 2 < len(word) <= _LONGEST:
        return word
    word = _step_1b(_step_1a(word))
    word = word[:-1] + "i" if word.endswith("y") and _has_vowel(word[:-1]) else word
    word = _replaced(_replaced(word, _STEP_2), _STEP_3)
    return _step_5(_step_4(word))


def _consonant(word: str, at: int) -> bool:
    if word[at] in "aeiou":
        return False
    return word[at] != "y" or at == 0 or not _consonant(word, at - 1)


def _has_vowel(word: str) -> bool:
    return any(not _consonant(word, at) for at in range(len(word)))


def _measure(word: str) -> int:
    """Number of vowels that a consonant follows: m in the paper."""
    kinds = [_consonant(word, at) for at in range(len(word))]
    return sum(now and not before for before, now in pairwise(kinds))


def _double_consonant(word: str) -> bool:
    return len(word) >= 2 and word[-1] == word[-2] and _consonant(word, len(word) - 1)


def _short_end(word: str) -> bool:
    """Consonant, vowel, consonant other than w, x and y: *o in the paper."""
    n = len(word)
    kinds = [_consonant(word, at) for at in range(n - 3, n)] if n >= 3 else []
    return kinds == [True, False, True] and word[-1] not in "wxy"


def _step_1a(word: str) -> str:
    for suffix, instead in (("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", "")):
        if word.endswith(suffix):
            return word.removesuffix(suffix) + instead
    return word


def _step_1b(word: str) -> str:
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for suffix in ("ed", "ing"):
        if word.endswith(suffix):
            rest = word.removesuffix(suffix)
            return _completed(rest) if _has_vowel(rest) else word
    return word


def _completed(rest: str) -> str:
    if rest.endswith(("at", "bl", "iz")):
        return rest + "e"
    if _double_consonant(rest) and rest[-1] not in "lsz":
        return rest[:-1]
    return rest + "e" if _measure(rest) == 1 and _short_end(rest) else rest


def _replaced(word: str, rules: Sequence[Rule]) -> str:
    """The first rule whose suffix the word has decides: it applies if m > 0 before the suffix."""
    for suffix, instead in rules:
        if word.endswith(suffix):
            rest = word.removesuffix(suffix)
            return rest + instead if _measure(rest) > 0 else word
    return word


def _step_4(word: str) -> str:
    for suffix in _STEP_4:
        if word.endswith(suffix):
            rest = word.removesuffix(suffix)
            fits = suffix != "ion" or rest.endswith(("s", "t"))
            return rest if fits and _measure(rest) > 1 else word
    return word


def _step_5(word: str) -> str:
    if word.endswith("e"):
        rest = word[:-1]
        if _measure(rest) > 1 or (_measure(rest) == 1 and not _short_end(rest)):
            word = rest
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word


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
