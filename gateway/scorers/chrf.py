"""Character n-grams in common with the reference.

Computed here rather than with sacrebleu, which adds 18 MB (lxml, regex) for these few lines. Tests hold both equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.scorers.reference import ReferenceScorer, golden_case
from gateway.scoring.types import Golden

ORDER = 6
BETA = 2.0  # recall counts for β² times precision
Grams = tuple[int, int, int]  # of the answer, of the reference, of both


@dataclass(frozen=True, slots=True)
class Chrf(ReferenceScorer):
    """chrF2 of one text: character n-grams up to 6 without white space, recall weighted 4 to 1. In [0, 1].

    Equal to sacrebleu's sentence chrF (nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no), divided by 100.
    Source: Popović, "chrF: character n-gram F-score for automatic MT evaluation", WMT 2015.
    """

    def compare(self, answer: str, reference: str) -> float:
        return chrf(count_ngrams(answer, reference))

    def golden(self) -> tuple[Golden, ...]:
        return (
            golden_case("the same", "the cat", "the cat", 1.0),
            golden_case("in part", "the cat sat on the mat", "the cat is on the mat", 0.645779420625287),
            golden_case("nothing in common", "abc", "xyz", 0.0),
            golden_case("an empty answer", "", "the cat", 0.0),
            golden_case("no reference", "the cat", None, None),
        )


def count_ngrams(answer: str, reference: str) -> list[Grams]:
    """Counts the n-grams of each text and of both, for n = 1 to ORDER. Sums over texts give the counts of a corpus."""
    return [_grams("".join(answer.split()), "".join(reference.split()), n) for n in range(1, ORDER + 1)]


def _grams(answer: str, reference: str, n: int) -> Grams:
    found, wanted = _counted(answer, n), _counted(reference, n)
    return found.total(), wanted.total(), (found & wanted).total()


def _counted(text: str, n: int) -> Counter[str]:
    return Counter(text[i : i + n] for i in range(len(text) - n + 1))


def chrf(counted: Iterable[Grams]) -> float:
    """The F-score, with β, of precision and recall averaged over the orders that both texts are long enough for."""
    shares = [(both / found, both / wanted) for found, wanted, both in counted if found and wanted]
    if not shares:
        return 0.0
    precision = sum(p for p, _ in shares) / len(shares)
    recall = sum(r for _, r in shares) / len(shares)
    denominator = BETA**2 * precision + recall
    return (1 + BETA**2) * precision * recall / denominator if denominator else 0.0
