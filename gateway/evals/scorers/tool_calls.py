"""Whether an answer's tool calls can be carried out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import orjson

from gateway.assembly import Completion, ToolCall
from gateway.evals.scorers import Golden, Rule, Score, Skipped, Subject
from gateway.evals.scorers.answered import unfinished
from gateway.evals.scorers.asked import Choice, choice, tools
from gateway.evals.scorers.schema_work import Unbounded
from gateway.evals.scorers.schemas import Schemas

NO_TOOLS = Skipped("a request that offers tools")
NO_CALL = Skipped("a tool call, made or required")


@dataclass(frozen=True, slots=True)
class ToolCalls(Rule):
    """The share of the calls that are valid: the name is one of the request's tools (and the one tool_choice names),
    and the arguments are JSON and valid against that tool's schema. 0 when a call was required and none was made.

    Arguments whose schema leaves the bounds (see schema_work.py) are only checked for being a JSON object.
    """

    heavy: ClassVar[bool] = True

    schemas: Schemas = field(default_factory=Schemas, init=False, repr=False, compare=False)

    def skips(self, subject: Subject) -> Skipped | None:
        made = subject.completion.tool_calls
        if not made and not (subject.request.get("tools") or subject.request.get("functions")):
            return NO_TOOLS
        if not made and not choice(subject.request).required:
            return NO_CALL
        return unfinished(subject)

    async def score(self, subject: Subject) -> Score | Skipped:
        skipped = self.skips(subject)
        if skipped is not None:
            return skipped
        made = subject.completion.tool_calls
        if not made:
            return Score(0.0, "no call", "tool_choice requires a call, and none was made")
        offered, asked = tools(subject.request), choice(subject.request)
        mistakes = [m for m in (self._mistake(c, offered, asked, subject.exchange.api) for c in made) if m]
        value = 1 - len(mistakes) / len(made)
        detail = {"calls": float(len(made)), "valid": float(len(made) - len(mistakes))}
        return Score(value, "invalid" if mistakes else "valid", "; ".join(mistakes[:5]) or None, detail)

    def _mistake(self, call: ToolCall, offered: Mapping[str, Any], asked: Choice, api: str) -> str | None:
        name = call.name[:80]
        if asked.forbidden:
            return f"{name!r} was called though tool_choice is none"
        if call.name not in offered:
            return f"no tool {name!r} was offered"
        if asked.name is not None and call.name != asked.name:
            return f"{name!r} was called, tool_choice names {asked.name[:80]!r}"
        schema = offered[call.name]
        if schema is None:
            return None
        # An empty Anthropic input reaches us as no text at all.
        text = call.arguments or ("{}" if api == "messages" else "")
        mistake = self._in_arguments(text, schema)
        return f"{name!r}: {mistake}" if mistake else None

    def _in_arguments(self, text: str, schema: Any) -> str | None:
        try:
            arguments = orjson.loads(text)
        except (orjson.JSONDecodeError, UnicodeEncodeError) as error:
            return f"arguments are not JSON: {error}"
        if not isinstance(arguments, dict):
            return "arguments are not a JSON object"
        try:
            return self.schemas.mistake(schema, arguments, len(text))
        except Unbounded:
            return None

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
            Golden("a tool nobody offered", chat, Completion(tool_calls=(unknown,)), 0.0),
            Golden("no tools at all", {}, Completion(tool_calls=(good,)), 0.0),
            Golden("arguments cut off", chat, Completion(tool_calls=(cut,)), 0.0),
            Golden("required and not made", must, Completion("It is sunny."), 0.0),
            Golden("free to answer", chat, Completion("It is sunny."), None),
            Golden("no tools", {}, Completion("It is sunny."), None),
            Golden("Anthropic", claude, Completion(tool_calls=(good,)), 1.0, {"api": "messages"}),
        )
