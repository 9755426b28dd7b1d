"""Scorers of a recording, used as a plug-in: an answer names its own score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gateway.core.completion import Completion
from gateway.core.score import Kind, Score, Skipped
from gateway.scoring.types import Golden, GoldenPair, Pair, Rule, Subject


def stated(subject: Subject) -> str:
    return subject.completion.text.partition(" ")[0]


@dataclass(frozen=True, slots=True)
class StatedScore(Rule):
    """The number that an answer begins with; "n/a": not applicable."""

    async def score(self, subject: Subject) -> Score | Skipped:
        number = stated(subject)
        return Skipped("a number") if number == "n/a" else Score(float(number), "number", f"it says {number}")

    def golden(self) -> tuple[Golden, ...]:
        return (Golden("half", {}, Completion("0.5 of it"), 0.5),)


@dataclass(frozen=True, slots=True)
class StatedJudge(StatedScore):
    """A judge that reads the number."""

    kind: ClassVar[Kind] = "llm"


@dataclass(frozen=True, slots=True)
class StatedPreference(Rule):
    """The preference for the answer with the larger number."""

    async def compare(self, pair: Pair) -> Score | Skipped:
        rise = float(stated(pair.b)) - float(stated(pair.a))
        return Score(0.5 + rise / 2, "second" if rise > 0 else "first", "by the numbers")

    def golden(self) -> tuple[GoldenPair, ...]:
        return (GoldenPair("alike", {}, Completion("0.5"), Completion("0.5"), 0.5),)
