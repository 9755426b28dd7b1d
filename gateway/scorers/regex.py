"""Tests whether an answer matches a regular expression."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from gateway.config.privacy import compile_pattern
from gateway.core.completion import Completion
from gateway.core.score import Score, Skipped
from gateway.scorers.preconditions import require_answer
from gateway.scorers.reference import MAX_CHARACTERS
from gateway.scoring.types import Golden, Rule, Subject


@dataclass(frozen=True, slots=True)
class Regex(Rule):
    """Scores 1 if the pattern is found in the answer, else 0. RE2's syntax: linear time, no backreferences, no
    look-around.
    """

    heavy: ClassVar[bool] = True

    pattern: Annotated[str, Field(min_length=1)]
    """`(?i)` at its start ignores case, `(?s)` lets a dot match line breaks; \\A and \\z are the ends of the answer."""
    need: Literal["match", "no_match"] = "match"
    """no_match: 1 if the pattern is not found."""
    examples: tuple[str, ...] = ()
    """Texts in which the pattern must be found: `gateway check` refuses the section where it is not."""
    counterexamples: tuple[str, ...] = ()
    """Texts in which it must not be found."""
    _compiled: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._compiled.append(compile_pattern(self.pattern))

    def score_immediately(self, subject: Subject) -> Skipped | None:
        return require_answer(subject)

    async def score(self, subject: Subject) -> Score | Skipped:
        if skipped := self.score_immediately(subject):
            return skipped
        text = subject.completion.text[:MAX_CHARACTERS].encode("utf-8", "replace").decode()
        found = self._compiled[0].search(text)
        explanation = f"found {found.group(0)[:200]!r}" if found else "not found"
        return Score(float((found is not None) == (self.need == "match")), explanation=explanation)

    def golden(self) -> tuple[Golden, ...]:
        refused = Golden("a rejected request", {}, Completion("", error="no"), None, exchange={"status": 400})
        found = float(self.need == "match")
        cases = [(text, found) for text in self.examples] + [(text, 1 - found) for text in self.counterexamples]
        return refused, *(Golden(repr(text), {}, Completion(text, finish_reason="stop"), want) for text, want in cases)
