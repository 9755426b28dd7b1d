"""Tests whether an answer gives the number of its reference."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from gateway.core.score import Score, Skipped
from gateway.scorers.reference import MAX_CHARACTERS, ReferenceScorer, golden_case
from gateway.scoring.types import Golden, Subject

NO_NUMBER = Skipped("a reference with a number in it")
_NUMBER = re.compile(r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+|(?<=\d))(?:[eE][-+]?\d{1,3}(?!\d))?")
_MAX_DIGITS = 400  # longer runs are not numbers that a double can hold


@dataclass(frozen=True, slots=True)
class Number(ReferenceScorer):
    """Scores 1 if the answer's number is that of the reference, within the tolerance, else 0, also if it gives none.

    Reads -3, +4.5, 1,234.5 and 6.02e23; units, currencies and percent signs around a number are ignored. Of the
    reference, the last number counts.
    """

    heavy: ClassVar[bool] = True

    which: Literal["last", "first", "any"] = "last"
    """The number of the answer that counts: reasoning usually ends with the result."""
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    relative: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-9
    """Tolerance as a share of the reference; the larger of the two applies."""

    async def score(self, subject: Subject) -> Score | Skipped:
        if skipped := self.score_immediately(subject):
            return skipped
        wanted = numbers((subject.reference or "")[:MAX_CHARACTERS])
        if not wanted:
            return NO_NUMBER
        found = numbers(subject.completion.text[:MAX_CHARACTERS])
        if not found:
            return Score(0.0, "no number", "the answer has no number")
        chosen = {"last": found[-1:], "first": found[:1], "any": found}[self.which]
        right = any(self._close(value, wanted[-1]) for value in chosen)
        return Score(float(right), explanation=f"{chosen[-1]:g}, expected {wanted[-1]:g}")

    def _close(self, value: float, wanted: float) -> bool:
        return math.isclose(value, wanted, rel_tol=self.relative, abs_tol=self.tolerance)

    def golden(self) -> tuple[Golden, ...]:
        return (
            golden_case("in a sentence", "That makes $1,234.50.", "1234.5", 1.0),
            golden_case("a negative number", "It is −7 °C", "-7", 1.0),
            golden_case("no number", "I do not know", "3", 0.0),
            golden_case("no number in the reference", "3", "three", None),
            golden_case("no reference", "3", None, None),
        )


def numbers(text: str) -> list[float]:
    """The numbers in a text, in order."""
    found = (match.group().replace(",", "").replace("−", "-") for match in _NUMBER.finditer(text))
    values = [float(number) for number in found if len(number) <= _MAX_DIGITS]
    return [value for value in values if math.isfinite(value)]
