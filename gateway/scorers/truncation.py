"""Tests whether an answer was cut off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gateway.core.completion import Completion, ToolCall
from gateway.core.cut_text import TOKEN_LIMITS, ends_inside_fence, ends_inside_json
from gateway.core.request_format import output_format
from gateway.core.score import Direction, Score, Skipped
from gateway.scorers.preconditions import require_complete
from gateway.scoring.types import Golden, ImmediateRule, Subject

COMPLETE = Score(0.0, "whole")


@dataclass(frozen=True, slots=True)
class Truncation(ImmediateRule):
    """Scores 1 if the answer was cut off, 0 if it is complete. Less is better.

    Signs of a cut: a token limit's finish_reason or none at all, an unclosed code fence, and required JSON or a tool
    call's arguments that end inside a bracket or string.
    """

    direction: ClassVar[Direction] = "minimise"

    def score_immediately(self, subject: Subject) -> Score | Skipped:
        if skipped := require_complete(subject):
            return skipped
        why = _by_finish_reason(subject.completion) or _by_content(subject)
        return Score(1.0, "cut", why) if why else COMPLETE

    def golden(self) -> tuple[Golden, ...]:
        request = {"response_format": {"type": "json_object"}}
        cut_call = Completion(tool_calls=(ToolCall("1", "f", '{"city": "Par'),), finish_reason="tool_calls")
        return (
            Golden("a complete answer", {}, Completion("Yes.", finish_reason="stop"), 0.0),
            Golden("a token limit", {}, Completion("Yes, and", finish_reason="length"), 1.0),
            Golden("Anthropic's token limit", {}, Completion("Yes, and", finish_reason="max_tokens"), 1.0),
            Golden("no finish_reason", {}, Completion("Yes, and"), 1.0),
            Golden("an open fence", {}, Completion("So:\n```py\nprint(", finish_reason="stop"), 1.0),
            Golden("a closed fence", {}, Completion("So:\n```py\nx\n```\n", finish_reason="stop"), 0.0),
            Golden("JSON inside a string", request, Completion('{"a": "}', finish_reason="stop"), 1.0),
            Golden("complete JSON", request, Completion('{"a": "{"}', finish_reason="stop"), 0.0),
            Golden("arguments inside a string", {}, cut_call, 1.0),
            Golden("the client left", {}, Completion("Yes, and"), None, {"outcome": "client_gone"}),
        )


def _by_finish_reason(answer: Completion) -> str | None:
    if answer.finish_reason is None:
        return "no finish_reason: the answer broke off"
    return f"finish_reason {answer.finish_reason}" if answer.finish_reason in TOKEN_LIMITS else None


def _by_content(subject: Subject) -> str | None:
    answer = subject.completion
    if ends_inside_fence(answer.text):
        return "ends inside a code fence"
    if answer.text and output_format(subject.request) is not None and ends_inside_json(answer.text):
        return "the required JSON ends inside a bracket or string"
    if answer.tool_calls and ends_inside_json(answer.tool_calls[-1].arguments):
        return f"the arguments of {answer.tool_calls[-1].name!r} end inside a bracket or string"
    return None
