"""Character n-grams in common with the reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.evals.scorers.reference import ReferenceScorer, case
from gateway.evals.scoring.types import Golden

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
            case("the same", "the cat", "the cat", 1.0),
            case("in part", "the cat sat on the mat", "the cat is on the mat", 0.645779420625287),
            case("nothing in common", "abc", "xyz", 0.0),
            case("silence", "", "the cat", 0.0),
            case("no reference", "the cat", None, None),
        )


def count_ngrams(answer: str, reference: str) -> list[Grams]:
    """For n = 1 to ORDER: how many n-grams each text has, and how many both have. Sums over texts give a corpus."""
    return [_grams("".join(answer.split()), "".join(reference.split()), n) for n in range(1, ORDER + 1)]


def _grams(answer: str, reference: str, n: int) -> Grams:
    said, wanted = _counted(answer, n), _counted(reference, n)
    return said.total(), wanted.total(), (said & wanted).total()


def _counted(text: str, n: int) -> Counter[str]:
    return Counter(text[i : i + n] for i in range(len(text) - n + 1))


def chrf(counted: Iterable[Grams]) -> float:
    """Precision and recall, each averaged over the orders that both texts are long enough for, then F with β."""
    shares = [(both / said, both / wanted) for said, wanted, both in counted if said and wanted]
    if not shares:
        return 0.0
    precision = sum(p for p, _ in shares) / len(shares)
    recall = sum(r for _, r in shares) / len(shares)
    below = BETA**2 * precision + recall
    return (1 + BETA**2) * precision * recall / below if below else 0.0
