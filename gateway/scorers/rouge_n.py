"""ROUGE-1, ROUGE-2 and ROUGE-Lsum of one text. Tests hold them equal to rouge-score; rouge_l.py has the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from gateway.scorers.bleu import count_grams
from gateway.scorers.reference import ReferenceScorer, golden_case
from gateway.scorers.rouge_l import MAX_WORDS, lcs_rows, rouge_words
from gateway.scoring.types import Golden

_MAX_LINES = 100
_FOX, _DOG = "The quick brown fox jumps over the lazy dog", "The quick brown dog jumps on the log."


@dataclass(frozen=True, slots=True)
class RougeN(ReferenceScorer):
    """ROUGE-N (F-measure): the runs of n words in common, with repeats. Words as in ROUGE-L, without stemming.

    Source: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", ACL 2004, section 2.
    """

    n: ClassVar[int] = 1

    def compare(self, answer: str, reference: str) -> float | None:
        right = rouge_words(reference)
        return ngram_f_measure(rouge_words(answer), right, self.n) if right else None


@dataclass(frozen=True, slots=True)
class Rouge1(RougeN):
    """Words in common."""

    def golden(self) -> tuple[Golden, ...]:
        return (
            golden_case("the same", _FOX, _FOX, 1.0),
            golden_case("in part", _DOG, _FOX, 12 / 17),
            golden_case("an empty answer", "", _FOX, 0.0),
            golden_case("no reference", _FOX, None, None),
        )


@dataclass(frozen=True, slots=True)
class Rouge2(RougeN):
    """Pairs of neighbouring words in common. A reference of one word has none, and scores 0, as in rouge-score."""

    n: ClassVar[int] = 2

    def golden(self) -> tuple[Golden, ...]:
        return (
            golden_case("the same", _FOX, _FOX, 1.0),
            golden_case("in part", _DOG, _FOX, 4 / 15),
            golden_case("a word", "Rome", "Rome", 0.0),
            golden_case("no reference", _FOX, None, None),
        )


@dataclass(frozen=True, slots=True)
class RougeLsum(ReferenceScorer):
    """ROUGE-Lsum (F-measure): for each line of the reference, the words on a longest common subsequence with any line
    of the answer. Lines are the sentences: put each on a line of its own, as the usual implementations require. What
    follows the hundredth line counts as one line; words after the first 20 000 are left out.

    Source: Lin 2004, section 3.2, with β = 1, as rouge-score computes it (split_summaries=False).
    """

    def compare(self, answer: str, reference: str) -> float | None:
        wanted, found = _lines(reference), _lines(answer)
        return summary_f_measure(found, wanted) if any(wanted) else None

    def golden(self) -> tuple[Golden, ...]:
        two = f"{_FOX}\nIt is late."
        return (
            golden_case("the same", two, two, 1.0),
            golden_case("lines in another order", f"It is late.\n{_FOX}", two, 1.0),
            golden_case("in part", _DOG, _FOX, 10 / 17),
            golden_case("an empty answer", "", two, 0.0),
            golden_case("no reference", two, None, None),
        )


def _lines(text: str) -> list[list[str]]:
    lines, left = [], MAX_WORDS
    for line in text.split("\n", _MAX_LINES):
        lines.append(rouge_words(line)[:left])
        left -= len(lines[-1])
    return lines


def ngram_f_measure(answer: Sequence[str], reference: Sequence[str], n: int) -> float:
    found, wanted = count_grams(answer, n), count_grams(reference, n)
    both = found.total() + wanted.total()
    return 2 * (found & wanted).total() / both if both else 0.0


def summary_f_measure(answer: Sequence[Sequence[str]], reference: Sequence[Sequence[str]]) -> float:
    """answer, reference: the words of each line. A word counts at most as often as each text has it."""
    left = Counter(word for line in answer for word in line) & Counter(word for line in reference for word in line)
    both = sum(map(len, answer)) + sum(map(len, reference))
    hits = 0
    for line in reference:
        for at in sorted(set().union(*(common_positions(line, other) for other in answer))):
            if left[line[at]] > 0:
                left[line[at]] -= 1
                hits += 1
    return 2 * hits / both if both else 0.0


def common_positions(a: Sequence[str], b: Sequence[str]) -> set[int]:
    """Positions in `a` of a longest common subsequence with `b`; of several, the one that rouge-score takes.

    The table of lengths t[i][j], of the first i words of `a` and j of `b`, is kept as a bit vector for each j: bit k is
    clear where t[k + 1][j] is t[k][j] + 1 (lcs_rows).
    """
    rows = list(lcs_rows(a, b))
    found: set[int] = set()
    i, j = len(a), len(b)
    while i and j:
        if a[i - 1] == b[j - 1]:
            i, j = i - 1, j - 1
            found.add(i)
        elif rows[j] >> (i - 1) & 1:  # t[i - 1][j] is t[i][j]
            i -= 1
        else:
            j -= 1
    return found
