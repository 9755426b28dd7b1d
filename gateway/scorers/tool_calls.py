"""Tests whether an answer's tool calls can be executed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import orjson

from gateway.core.completion import Completion, ToolCall
from gateway.core.request_format import ToolChoice, offered_tools, tool_choice
from gateway.core.score import Score, Skipped
from gateway.scorers.preconditions import require_complete
from gateway.scoring.json_schema import CompiledSchema, SchemaCache, SchemaTooSlow, UnboundedSchema
from gateway.scoring.types import Golden, Rule, Subject

NO_TOOLS = Skipped("a request that offers tools")
NO_CALL = Skipped("a tool call, made or required")


@dataclass(frozen=True, slots=True)
class ToolCalls(Rule):
    """The share of the calls that are valid: the name is one of the request's tools (and the one tool_choice names),
    and the arguments are JSON and valid against that tool's schema. 0 when a call was required and none was made.

    Arguments whose schema exceeds the bounds are only checked to be JSON objects.
    """

    heavy: ClassVar[bool] = True

    schemas: SchemaCache = field(default_factory=SchemaCache, init=False, repr=False, compare=False)

    def score_immediately(self, subject: Subject) -> Score | Skipped | None:
        calls, choice = subject.completion.tool_calls, tool_choice(subject.request)
        if not calls and not (subject.request.get("tools") or subject.request.get("functions")):
            return NO_TOOLS
        if not calls and not choice.required:
            return NO_CALL
        if skipped := require_complete(subject):
            return skipped
        offered = offered_tools(subject.request)
        schemas = _schemas(calls, offered, self.schemas.find)
        try:
            return None if schemas is None else _judge(subject, offered, schemas, immediate=True)
        except SchemaTooSlow:
            return None

    async def score(self, subject: Subject) -> Score | Skipped:
        result = self.score_immediately(subject)
        if result is not None:
            return result
        offered = offered_tools(subject.request)
        schemas = _schemas(subject.completion.tool_calls, offered, self.schemas.compile)
        return _judge(subject, offered, schemas or {})

    def golden(self) -> tuple[Golden, ...]:
        city = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
        chat = {"tools": [{"type": "function", "function": {"name": "weather", "parameters": city}}]}
        must = {**chat, "tool_choice": "required"}
        claude = {"tools": [{"name": "weather", "input_schema": city}]}
        good, bad = ToolCall("1", "weather", '{"city": "Rome"}'), ToolCall("2", "weather", '{"town": "Rome"}')
        unknown, cut = ToolCall("3", "wether", "{}"), ToolCall("4", "weather", '{"city": "Ro')
        return (
            Golden("valid", chat, Completion(tool_calls=(good,)), 1.0),
            Golden("half valid", chat, Completion(tool_calls=(good, bad)), 0.5),
            Golden("a tool that was not offered", chat, Completion(tool_calls=(unknown,)), 0.0),
            Golden("no tools at all", {}, Completion(tool_calls=(good,)), 0.0),
            Golden("arguments cut off", chat, Completion(tool_calls=(cut,)), 0.0),
            Golden("required and not made", must, Completion("It is sunny."), 0.0),
            Golden("free to answer", chat, Completion("It is sunny."), None),
            Golden("no tools", {}, Completion("It is sunny."), None),
            Golden("Anthropic", claude, Completion(tool_calls=(good,)), 1.0, {"api": "messages"}),
        )


def _schemas(
    calls: Iterable[ToolCall], offered: Mapping[str, Any], get: Callable[[Any], CompiledSchema | None]
) -> dict[str, CompiledSchema] | None:
    """The usable schemas of the called tools. None means that one must be compiled first."""
    found: dict[str, CompiledSchema] = {}
    for name in {c.name for c in calls}:
        schema = offered.get(name)
        try:
            compiled = None if schema is None else get(schema)
        except UnboundedSchema:
            continue
        if compiled is not None:
            found[name] = compiled
        elif schema is not None:
            return None
    return found


def _judge(
    subject: Subject, offered: Mapping[str, Any], schemas: Mapping[str, CompiledSchema], *, immediate: bool = False
) -> Score:
    calls = subject.completion.tool_calls
    if not calls:
        return Score(0.0, "no call", "tool_choice requires a call, and none was made")
    choice = tool_choice(subject.request)
    mistakes = []
    for call in calls:
        # An empty Anthropic input is recorded as empty text.
        text = call.arguments or ("{}" if subject.exchange.api == "messages" else "")
        mistake = _name_mistake(call.name, choice, offered)
        if mistake is None and offered[call.name] is not None:
            mistake = _argument_mistake(text, schemas.get(call.name), immediate=immediate)
        mistakes += [f"{call.name[:80]!r}: {mistake}"] if mistake else []
    detail = {"calls": float(len(calls)), "valid": float(len(calls) - len(mistakes))}
    label, why = ("invalid", "; ".join(mistakes[:5])) if mistakes else ("valid", None)
    return Score(1 - len(mistakes) / len(calls), label, why, detail)


def _name_mistake(name: str, choice: ToolChoice, offered: Mapping[str, Any]) -> str | None:
    if choice.forbidden:
        return "called though tool_choice is none"
    if name not in offered:
        return "no such tool was offered"
    if choice.name is not None and name != choice.name:
        return f"called though tool_choice names {choice.name[:80]!r}"
    return None


def _argument_mistake(text: str, schema: CompiledSchema | None, *, immediate: bool) -> str | None:
    """schema: None if it cannot be used."""
    try:
        arguments = orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError) as error:
        return f"arguments are not JSON: {error}"
    if not isinstance(arguments, dict):
        return "arguments are not a JSON object"
    try:
        return None if schema is None else schema.mistake(arguments, len(text), immediate=immediate)
    except UnboundedSchema:
        return None
