"""How much of one answer's text must be edited to make the other."""

from __future__ import annotations

from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from gateway.core.completion import Completion
from gateway.core.score import Score, Skipped
from gateway.evals.scorers.preconditions import NO_TEXT
from gateway.evals.scoring.types import DistanceScorer, GoldenPair, Pair

READ = 20_000  # characters of each text: 10 ms of work at most


@dataclass(frozen=True, slots=True)
class EditDistance(DistanceScorer):
    """Insertions, deletions and replacements of characters, over the length of the longer text.

    white_space: false takes every run of it for one blank, and none at the ends.
    """

    white_space: bool = False

    async def compare(self, pair: Pair) -> Score | Skipped:
        a, b = (self._text(each.completion) for each in (pair.a, pair.b))
        if not a and not b:
            return NO_TEXT
        return Score(float(Levenshtein.normalized_distance(a, b)), detail={"edits": float(Levenshtein.distance(a, b))})

    def golden(self) -> tuple[GoldenPair, ...]:
        return (
            GoldenPair("the same", {}, Completion("Paris"), Completion("Paris"), 0.0),
            GoldenPair("three edits of seven", {}, Completion("kitten"), Completion("sitting"), 3 / 7),
            GoldenPair("the other way round", {}, Completion("sitting"), Completion("kitten"), 3 / 7),
            GoldenPair("nothing in common", {}, Completion("abc"), Completion("xyz"), 1.0),
            GoldenPair("one is silent", {}, Completion("abc"), Completion(""), 1.0),
            GoldenPair("both are silent", {}, Completion(""), Completion(""), None),
            GoldenPair("one blank more", {}, Completion("a b"), Completion("a  b"), 0.25 if self.white_space else 0.0),
        )

    def _text(self, said: Completion) -> str:
        text = said.text[:READ]
        return text if self.white_space else " ".join(text.split())
