"""The length of an answer in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gateway.core.completion import Completion
from gateway.core.exchange import Usage
from gateway.core.score import Bounds, Direction, Score, Skipped
from gateway.scorers.preconditions import require_text
from gateway.scoring.types import Golden, ImmediateRule, Subject


@dataclass(frozen=True, slots=True)
class Length(ImmediateRule):
    """The number of words, split at white space; for Chinese or Japanese, use `characters` in detail.

    detail: characters, words and, where the upstream counted them, output_tokens including reasoning.
    """

    direction: ClassVar[Direction] = "neutral"
    bounds: ClassVar[Bounds] = (0.0, None)

    def score_immediately(self, subject: Subject) -> Score | Skipped:
        if skipped := require_text(subject):
            return skipped
        text, usage = subject.completion.text, subject.completion.usage or subject.exchange.usage
        words = float(subject.text_facts().words)
        detail = {"characters": float(len(text)), "words": words}
        if usage is not None:
            detail["output_tokens"] = float(usage.output_tokens)
        return Score(words, detail=detail)

    def golden(self) -> tuple[Golden, ...]:
        return (
            Golden("words", {}, Completion("one two  three\nfour", usage=Usage(1, 5)), 4.0),
            Golden("no text", {}, Completion(""), None),
        )
