"""Word n-grams in common with the reference.

Computed here rather than with sacrebleu: its tokenizer keeps the last 65,536 texts in memory for the life of the
process, which a consumer that forgets recorded text cannot allow, and it is not faster. Tests hold both equal.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.scorers.reference import ReferenceScorer, golden_case
from gateway.scoring.types import Golden

ORDER = 4


@dataclass(frozen=True, slots=True)
class Bleu(ReferenceScorer):
    """BLEU of one text, in [0, 1]. It is more meaningful for a corpus than for one answer.

    Equal to sacrebleu's sentence BLEU (nrefs:1|case:mixed|eff:yes|tok:13a|smooth:exp), divided by 100.
    Sources: Papineni et al., "BLEU", ACL 2002; Chen & Cherry, "A Systematic Comparison of Smoothing Techniques for
    Sentence-Level BLEU", WMT 2014, method 3.
    """

    def compare(self, answer: str, reference: str) -> float:
        return bleu(count_ngrams(tokenize(answer), [tokenize(reference)]), effective=True)

    def golden(self) -> tuple[Golden, ...]:
        return (
            golden_case("the same", "The cat is on the mat.", "The cat is on the mat.", 1.0),
            golden_case("in part", "the cat sat on the mat", "the cat is on the mat", 0.379917842825798),
            golden_case("nothing in common", "Rome", "Paris", 0.0),
            golden_case("an empty answer", "", "the cat", 0.0),
            golden_case("no reference", "the cat", None, None),
        )


@dataclass(frozen=True, slots=True)
class NgramCounts:
    """The counts of one text; the sum of several is that of their corpus."""

    answer: int = 0
    """Words of the answer."""
    reference: int = 0
    """Words of the reference."""
    right: Sequence[int] = field(default=(0,) * ORDER)
    """N-grams of the answer that the reference has too, for n = 1 to ORDER."""
    all: Sequence[int] = field(default=(0,) * ORDER)
    """N-grams of the answer, for n = 1 to ORDER."""

    def __add__(self, other: NgramCounts) -> NgramCounts:
        right = tuple(a + b for a, b in zip(self.right, other.right, strict=True))
        every = tuple(a + b for a, b in zip(self.all, other.all, strict=True))
        return NgramCounts(self.answer + other.answer, self.reference + other.reference, right, every)


def count_ngrams(answer: Sequence[str], references: Sequence[Sequence[str]]) -> NgramCounts:
    """Counts n-grams. Of several references, the one that has most of an n-gram counts for it, and the one nearest in
    length to the answer (the shorter of two equally near) for the length.
    """
    nearest = min((abs(len(r) - len(answer)), len(r)) for r in references)[1]
    right, every = [], []
    for n in range(1, ORDER + 1):
        found, wanted = count_grams(answer, n), Counter[tuple[str, ...]]()
        for reference in references:
            wanted |= count_grams(reference, n)
        right.append((found & wanted).total())
        every.append(found.total())
    return NgramCounts(len(answer), nearest, right, every)


def count_grams(of: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    """The runs of n words, with the number of times that each occurs."""
    return Counter(zip(*(of[i:] for i in range(n)), strict=False))


def bleu(counted: NgramCounts, *, effective: bool = False) -> float:
    """The geometric mean of the n-gram precisions, times a penalty for being shorter than the reference.

    The first order without a match counts as 1/2 of a match, the next as 1/4, … effective: leave out orders that the
    answer is too short for (for single texts); otherwise such an answer has BLEU 0.
    """
    if not any(counted.right):
        return 0.0
    logs, halved = [], 1.0
    for right, every in zip(counted.right, counted.all, strict=True):
        if not every:
            break
        halved = halved if right else halved * 2
        logs.append(math.log((right or 1 / halved) / every))
    if len(logs) < ORDER and not effective:
        return 0.0
    short = min(0.0, 1 - counted.reference / counted.answer)
    return min(1.0, math.exp(short + sum(logs) / len(logs)))


# NIST mteval-v13a: symbols are tokens, and so are full stops and commas outside numbers, and dashes after digits.
_SYMBOLS = re.compile(r"([!-&(-+/:-@\[-`{-~])")
_AFTER_OTHERS = re.compile(r"([^0-9])([.,])")
_BEFORE_OTHERS = re.compile(r"([.,])([^0-9])")
_DASH = re.compile(r"([0-9])(-)")
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))


def tokenize(text: str) -> list[str]:
    """The tokens of mteval-v13a, the tokenizer of the WMT evaluations ("13a" in sacrebleu)."""
    line = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, sign in _ENTITIES:
        line = line.replace(entity, sign)
    line = _SYMBOLS.sub(r" \1 ", f" {line} ")
    line = _BEFORE_OTHERS.sub(r" \1 \2", _AFTER_OTHERS.sub(r"\1 \2 ", line))
    return _DASH.sub(r"\1 \2 ", line).split()
