"""Whether an answer stops before its end."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

import orjson

from gateway.core.completion import Completion, ToolCall
from gateway.core.request_format import output_format
from gateway.core.score import Direction, Score, Skipped
from gateway.evals.scorers.preconditions import require_complete
from gateway.evals.scoring.types import Golden, Rule, Subject

LIMITS = frozenset({"length", "max_tokens", "max_output_tokens", "model_context_window_exceeded"})
WHOLE = Score(0.0, "whole")
_FENCE = re.compile(r"^[ \t]{0,3}(```+|~~~+)(.*)$", re.MULTILINE)
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*("?)', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Truncation(Rule):
    """1: the answer was cut; 0: it ends. Less is better.

    Cut is what says so (a finish_reason of a token limit), what says nothing (no finish_reason at all), and what
    shows it: a code fence that never closes, JSON that was asked for and ends inside a bracket or string, or a tool
    call whose arguments do.
    """

    direction: ClassVar[Direction] = "minimise"

    async def score(self, subject: Subject) -> Score | Skipped:
        skipped = require_complete(subject)
        if skipped is not None:
            return skipped
        why = _said(subject.completion) or _shown(subject)
        return Score(1.0, "cut", why) if why else WHOLE

    def golden(self) -> tuple[Golden, ...]:
        asked = {"response_format": {"type": "json_object"}}
        cut_call = Completion(tool_calls=(ToolCall("1", "f", '{"city": "Par'),), finish_reason="tool_calls")
        return (
            Golden("an end", {}, Completion("Yes.", finish_reason="stop"), 0.0),
            Golden("a token limit", {}, Completion("Yes, and", finish_reason="length"), 1.0),
            Golden("Anthropic's token limit", {}, Completion("Yes, and", finish_reason="max_tokens"), 1.0),
            Golden("no finish_reason", {}, Completion("Yes, and"), 1.0),
            Golden("an open fence", {}, Completion("So:\n```py\nprint(", finish_reason="stop"), 1.0),
            Golden("a closed fence", {}, Completion("So:\n```py\nx\n```\n", finish_reason="stop"), 0.0),
            Golden("JSON inside a string", asked, Completion('{"a": "}', finish_reason="stop"), 1.0),
            Golden("whole JSON", asked, Completion('{"a": "{"}', finish_reason="stop"), 0.0),
            Golden("arguments inside a string", {}, cut_call, 1.0),
            Golden("the client left", {}, Completion("Yes, and"), None, {"outcome": "client_gone"}),
        )


def _said(said: Completion) -> str | None:
    if said.finish_reason is None:
        return "no finish_reason: the answer broke off"
    return f"finish_reason {said.finish_reason}" if said.finish_reason in LIMITS else None


def _shown(subject: Subject) -> str | None:
    said = subject.completion
    if ends_inside_fence(said.text):
        return "ends inside a code fence"
    if said.text and output_format(subject.request) is not None and ends_inside_json(said.text):
        return "the JSON that was asked for ends inside a bracket or string"
    if said.tool_calls and ends_inside_json(said.tool_calls[-1].arguments):
        return f"the arguments of {said.tool_calls[-1].name!r} end inside a bracket or string"
    return None


def ends_inside_fence(text: str) -> bool:
    """Whether a Markdown code fence is open at the end (CommonMark, section 4.5)."""
    if "```" not in text and "~~~" not in text:
        return False
    fence = ""
    for marks, rest in _FENCE.findall(text):
        if not fence:
            fence = marks if "`" not in rest or marks[0] == "~" else ""  # ```code``` on one line opens nothing
        elif marks[0] == fence[0] and len(marks) >= len(fence) and not rest.strip():
            fence = ""
    return bool(fence)


def ends_inside_json(text: str) -> bool:
    """Whether a JSON text ends before its brackets and strings do; False also for what is no JSON otherwise."""
    try:
        orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return _open(text)
    return False


def _open(text: str) -> bool:
    depth, at = 0, 0
    for string in _STRING.finditer(text):
        if not string[1]:
            return True
        depth += _opened(text[at : string.start()])
        at = string.end()
    return depth + _opened(text[at:]) > 0


def _opened(text: str) -> int:
    return text.count("{") + text.count("[") - text.count("}") - text.count("]")
