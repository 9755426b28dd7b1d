"""Word n-grams in common with the reference."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.evals.scorers.reference import ReferenceScorer, case
from gateway.evals.scoring.types import Golden

ORDER = 4


@dataclass(frozen=True, slots=True)
class Bleu(ReferenceScorer):
    """BLEU of one text, in [0, 1]: for whole corpora it means more than for one answer.

    Equal to sacrebleu's sentence BLEU (nrefs:1|case:mixed|eff:yes|tok:13a|smooth:exp), divided by 100.
    Sources: Papineni et al., "BLEU", ACL 2002; Chen & Cherry, "A Systematic Comparison of Smoothing Techniques for
    Sentence-Level BLEU", WMT 2014, method 3.
    """

    def compare(self, answer: str, reference: str) -> float:
        return bleu(count_ngrams(tokenize(answer), [tokenize(reference)]), effective=True)

    def golden(self) -> tuple[Golden, ...]:
        return (
            case("the same", "The cat is on the mat.", "The cat is on the mat.", 1.0),
            case("in part", "the cat sat on the mat", "the cat is on the mat", 0.379917842825798),
            case("nothing in common", "Rome", "Paris", 0.0),
            case("silence", "", "the cat", 0.0),
            case("no reference", "the cat", None, None),
        )


@dataclass(frozen=True, slots=True)
class NgramCounts:
    """Of one text or, added up, of many. right and all: n-grams for n = 1 to ORDER."""

    answer: int = 0
    reference: int = 0
    right: Sequence[int] = field(default=(0,) * ORDER)
    all: Sequence[int] = field(default=(0,) * ORDER)

    def __add__(self, other: NgramCounts) -> NgramCounts:
        right = tuple(a + b for a, b in zip(self.right, other.right, strict=True))
        every = tuple(a + b for a, b in zip(self.all, other.all, strict=True))
        return NgramCounts(self.answer + other.answer, self.reference + other.reference, right, every)


def count_ngrams(answer: Sequence[str], references: Sequence[Sequence[str]]) -> NgramCounts:
    """With several references an n-gram counts as often as in the one that has most of it, and the length that
    matters is the nearest (of two equally near, the shorter)."""
    nearest = min((abs(len(r) - len(answer)), len(r)) for r in references)[1]
    right, every = [], []
    for n in range(1, ORDER + 1):
        said, wanted = _grams(answer, n), Counter[tuple[str, ...]]()
        for reference in references:
            wanted |= _grams(reference, n)
        right.append((said & wanted).total())
        every.append(said.total())
    return NgramCounts(len(answer), nearest, right, every)


def _grams(of: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(of[i:] for i in range(n)), strict=False))


def bleu(counted: NgramCounts, *, effective: bool = False) -> float:
    """The geometric mean of the n-gram precisions, times a penalty for being shorter than the reference.

    An order without a match counts as 1/2, 1/4, … of a match. effective: orders that the answer is too short for are
    left out (for single texts); else they make it 0.
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


# NIST mteval-v13a: symbols stand alone, full stops and commas too unless between digits, dashes after a digit.
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
