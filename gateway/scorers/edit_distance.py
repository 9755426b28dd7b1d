"""The share of one answer's characters to edit to obtain the other."""

from __future__ import annotations

from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from gateway.core.completion import Completion
from gateway.core.score import Score, Skipped
from gateway.scorers.preconditions import NO_TEXT
from gateway.scoring.types import DistanceScorer, GoldenPair, Pair

MAX_CHARACTERS = 20_000  # of each text that are read: at most 10 ms of work


@dataclass(frozen=True, slots=True)
class EditDistance(DistanceScorer):
    """Insertions, deletions and replacements of characters, divided by the length of the longer text."""

    white_space: bool = False
    """Whether white space counts as it is; otherwise a run of it equals one blank, and white space at the ends is
    ignored."""

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
            GoldenPair("one is empty", {}, Completion("abc"), Completion(""), 1.0),
            GoldenPair("both are empty", {}, Completion(""), Completion(""), None),
            GoldenPair("one blank more", {}, Completion("a b"), Completion("a  b"), 0.25 if self.white_space else 0.0),
        )

    def _text(self, completion: Completion) -> str:
        text = completion.text[:MAX_CHARACTERS]
        return text if self.white_space else " ".join(text.split())
