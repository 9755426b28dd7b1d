"""Whether an answer is JSON, where JSON was asked for."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from gateway.core.completion import Completion, ToolCall
from gateway.core.request_format import OutputFormat, output_format
from gateway.core.score import Score, Skipped
from gateway.evals.scorers.preconditions import require_complete
from gateway.evals.scoring.types import Golden, Rule, Subject

NOT_ASKED = Skipped("a request for JSON")
NO_TEXT = Skipped("an answer in text, not a refusal or a tool call")
VALID = Score(1.0, "valid")


@dataclass(frozen=True, slots=True)
class ValidJson(Rule):
    """1: the whole answer is one JSON text (RFC 8259), an object where the request says json_object. 0: anything else,
    also JSON inside a Markdown fence, because a program that asked for JSON cannot parse that, and JSON with numbers
    beyond the range of a double.
    """

    async def score(self, subject: Subject) -> Score | Skipped:
        asked = output_format(subject.request)
        if asked is None:
            return NOT_ASKED
        skipped = require_complete(subject)
        if skipped is not None:
            return skipped
        said = subject.completion
        if not said.text.strip() and (said.refusal or said.tool_calls):
            return NO_TEXT
        return judge(said.text, asked)

    def golden(self) -> tuple[Golden, ...]:
        asked = {"response_format": {"type": "json_object"}}
        listed = {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "array"}}}}
        call = Completion(tool_calls=(ToolCall("1", "f", "{}"),))
        return (
            Golden("an object", asked, Completion('{"a": 1}\n'), 1.0),
            Golden("in a fence", asked, Completion('```json\n{"a": 1}\n```'), 0.0),
            Golden("with words around it", asked, Completion('Here you are: {"a": 1}'), 0.0),
            Golden("cut off", asked, Completion('{"a": [1, 2'), 0.0),
            Golden("an array where an object was asked for", asked, Completion("[1]"), 0.0),
            Golden("an array where a schema was asked for", listed, Completion("[1]"), 1.0),
            Golden("empty", asked, Completion(""), 0.0),
            Golden("JSON that nobody asked for", {}, Completion("{}"), None),
            Golden("a call instead", asked, call, None),
        )


def judge(text: str, asked: OutputFormat) -> Score:
    try:
        value = orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError) as error:
        return _invalid(text, error)
    if asked.object and not isinstance(value, dict):
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
