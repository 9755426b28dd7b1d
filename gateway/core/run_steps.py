"""The steps of a run that a request shows: messages, tool calls and their results, in any API. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.core.completion import ToolCall
from gateway.core.json_values import as_list, as_object, as_text

_INSTRUCTING = ("system", "instructions")
_RETURNED = ("function_call_output", "custom_tool_call_output", "local_shell_call_output", "tool_result")
_CALLED = ("function_call", "custom_tool_call", "tool_use")


@dataclass(frozen=True, slots=True)
class RunStep:
    """One step of a run's trajectory."""

    role: str
    """Role: system, user, assistant or tool."""
    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    """Id of the call that a tool's result answers; "" if the result does not name it."""
    failed: bool = False
    """Whether a tool's result is marked as an error."""


def steps_of(body: Mapping[str, Any]) -> Iterator[RunStep]:
    for name in _INSTRUCTING:
        if body.get(name):
            yield RunStep("system", text_of(body[name]))
    prompt, turns = body.get("prompt"), body.get("messages", body.get("input"))
    for text in (prompt, turns):
        if isinstance(text, str):
            yield RunStep("user", text)
    for turn in as_list(turns):
        if isinstance(turn, dict):
            yield from steps_of_turn(turn)


def steps_of_turn(turn: Mapping[str, Any]) -> Iterator[RunStep]:
    kind, role = as_text(turn.get("type")), as_text(turn.get("role"))
    if kind in _RETURNED:
        yield _result(turn)
    elif kind in _CALLED:
        yield RunStep("assistant", "", (called(turn),))
    elif kind == "reasoning":
        return
    elif role == "tool" or role == "function":
        yield RunStep("tool", text_of(turn.get("content")), tool_call_id=as_text(turn.get("tool_call_id")))
    else:
        yield from _message(role or "user", turn)


def _message(role: str, turn: Mapping[str, Any]) -> Iterator[RunStep]:
    """A message, and the tool results inside it as steps of their own."""
    content = turn.get("content")
    parts = [part for part in as_list(content) if isinstance(part, dict)]
    results = [part for part in parts if part.get("type") in _RETURNED]
    yield from map(_result, results)
    calls = [called(part) for part in parts if part.get("type") in _CALLED]
    calls += [called(as_object(call)) for call in as_list(turn.get("tool_calls"))]
    texts = [part for part in as_list(content) if part not in results and as_object(part).get("type") not in _CALLED]
    text = text_of(texts if isinstance(content, list) else content)
    if text or calls or not results:
        yield RunStep("system" if role in ("system", "developer") else role, text, tuple(calls))


def _result(part: Mapping[str, Any]) -> RunStep:
    id = as_text(part.get("call_id")) or as_text(part.get("tool_use_id"))
    failed = part.get("is_error") is True or part.get("status") == "incomplete"
    return RunStep("tool", text_of(part.get("output", part.get("content"))), tool_call_id=id, failed=failed)


def called(part: Mapping[str, Any]) -> ToolCall:
    """A tool call in the form of any API."""
    spec = as_object(part.get("function")) or part
    inputs = spec.get("arguments", spec.get("input"))
    arguments = inputs if isinstance(inputs, str) else orjson.dumps(inputs or {}).decode()
    return ToolCall(as_text(part.get("call_id")) or as_text(part.get("id")), as_text(spec.get("name")), arguments)


def text_of(value: Any, *, indented: bool = False) -> str:
    """The text of a content: itself, the texts of its parts, or its JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(text for text in map(_part, value) if text)
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 if indented else None, default=str).decode()


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return ""
    return part["text"] if isinstance(part.get("text"), str) else f"[{part.get('type', 'part')}]"


def canonical_call(call: ToolCall) -> tuple[str, str]:
    """A tool call in one form: the tool, and its arguments with sorted members."""
    try:
        arguments = orjson.dumps(orjson.loads(call.arguments), option=orjson.OPT_SORT_KEYS).decode()
    except orjson.JSONDecodeError:
        arguments = call.arguments
    return call.name, arguments
