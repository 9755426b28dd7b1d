"""Tests whether an answer is JSON, when the request requires JSON."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from gateway.core.completion import Completion, ToolCall
from gateway.core.request_format import OutputFormat, output_format
from gateway.core.score import Score, Skipped
from gateway.scorers.preconditions import require_complete
from gateway.scoring.types import Golden, ImmediateRule, Subject

NOT_REQUIRED = Skipped("a request for JSON")
NO_TEXT = Skipped("an answer in text, not a refusal or a tool call")
VALID = Score(1.0, "valid")


@dataclass(frozen=True, slots=True)
class ValidJson(ImmediateRule):
    """Scores 1 if the complete answer is one JSON text (RFC 8259), an object if the request requires json_object, else
    0.

    JSON inside a Markdown fence scores 0, since a program cannot parse it, and so do numbers beyond a double's range.
    """

    def score_immediately(self, subject: Subject) -> Score | Skipped:
        wanted = output_format(subject.request)
        if wanted is None:
            return NOT_REQUIRED
        if skipped := require_complete(subject):
            return skipped
        answer = subject.completion
        if not answer.text.strip() and (answer.refusal or answer.tool_calls):
            return NO_TEXT
        return score_text(answer.text, wanted)

    def golden(self) -> tuple[Golden, ...]:
        request = {"response_format": {"type": "json_object"}}
        listed = {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "array"}}}}
        call = Completion(tool_calls=(ToolCall("1", "f", "{}"),))
        return (
            Golden("an object", request, Completion('{"a": 1}\n'), 1.0),
            Golden("in a fence", request, Completion('```json\n{"a": 1}\n```'), 0.0),
            Golden("with words around it", request, Completion('Here you are: {"a": 1}'), 0.0),
            Golden("cut off", request, Completion('{"a": [1, 2'), 0.0),
            Golden("an array instead of an object", request, Completion("[1]"), 0.0),
            Golden("an array where a schema allows it", listed, Completion("[1]"), 1.0),
            Golden("empty", request, Completion(""), 0.0),
            Golden("JSON that was not required", {}, Completion("{}"), None),
            Golden("a call instead", request, call, None),
        )


def score_text(text: str, wanted: OutputFormat) -> Score:
    try:
        value = orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError) as error:
        return _invalid(text, error)
    if wanted.object and not isinstance(value, dict):
        return Score(0.0, "not an object", f"JSON, but {_kind(value)} and not an object")
    return VALID


def _invalid(text: str, error: ValueError) -> Score:
    stripped = text.strip()
    if not stripped:
        return Score(0.0, "empty", "the answer is empty")
    if stripped.startswith("```"):
        return Score(0.0, "fenced", "inside a Markdown fence: a parser sees ``` first")
    return Score(0.0, "invalid", f"not JSON: {error}")


def _kind(value: object) -> str:
    return {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(type(value), "a number")
