"""The trajectory of a run: messages, calls and results, each once, in order. Pure; reads requests of any API.

Agents send the whole history with each call. Of each request only the messages count that the previous one did not
have, and of these no answers: those are known from the calls themselves. Requests are read one at a time, since those
of a run add up to a hundred times its history.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.core.completion import ToolCall
from gateway.core.json_values import as_list, as_object, as_text, parse_object
from gateway.scoring.types import RunCall, RunStep

_INSTRUCTING = ("system", "instructions")
_RETURNED = ("function_call_output", "custom_tool_call_output", "local_shell_call_output", "tool_result")
_CALLED = ("function_call", "custom_tool_call", "tool_use")


@dataclass(slots=True)
class Trajectory:
    """Collects the steps of a run, call by call."""

    steps: list[RunStep] = field(default_factory=list)
    complete: bool = True
    """Whether the steps are complete; False if a request was not recorded to its end."""
    _before: list[RunStep] = field(default_factory=list)
    _known: set[RunStep] = field(default_factory=set)
    """The steps, to be looked up."""
    _returned: set[str] = field(default_factory=set)
    """The tool calls whose results are known."""

    def add(self, request: bytes, call: RunCall) -> None:
        body = parse_object(request)
        if body is None or not body:
            self.complete = False
            messages: list[RunStep] = []
        else:
            messages = list(_messages(body))
            shared = count_shared(self._before, messages)
            self._take([step for step in messages[shared:] if self._is_new(step)])
            self._before = messages
        if call.text or call.tool_calls or call.refusal:
            text = "\n".join(part for part in (call.text, call.refusal) if part)
            self._take([RunStep("assistant", text, call.tool_calls)])

    def _take(self, steps: list[RunStep]) -> None:
        self.steps += steps
        self._known.update(steps)

    def _is_new(self, step: RunStep) -> bool:
        """Whether the steps lack this message: where an agent shortens its history, the rest is sent again."""
        if step.role == "assistant":
            return not self.steps
        if step.role == "tool" and step.tool_call_id:
            new = step.tool_call_id not in self._returned
            self._returned.add(step.tool_call_id)
            return new
        return step not in self._known


def tool_results(request: bytes) -> list[str]:
    """The results of tools that a request sends."""
    return [step.text for step in _messages(parse_object(request) or {}) if step.role == "tool"]


def count_shared(before: Sequence[object], messages: Sequence[object]) -> int:
    """Counts the messages with which both begin."""
    n = 0
    for one, other in zip(before, messages, strict=False):
        if one != other:
            break
        n += 1
    return n


def _messages(body: Mapping[str, Any]) -> Iterator[RunStep]:
    for name in _INSTRUCTING:
        if body.get(name):
            yield RunStep("system", text_of(body[name]))
    prompt, turns = body.get("prompt"), body.get("messages", body.get("input"))
    for text in (prompt, turns):
        if isinstance(text, str):
            yield RunStep("user", text)
    for turn in as_list(turns):
        if isinstance(turn, dict):
            yield from _turn(turn)


def _turn(turn: Mapping[str, Any]) -> Iterator[RunStep]:
    kind, role = as_text(turn.get("type")), as_text(turn.get("role"))
    if kind in _RETURNED:
        yield _result(turn)
    elif kind in _CALLED:
        yield RunStep("assistant", "", (_called(turn),))
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
    called = [_called(part) for part in parts if part.get("type") in _CALLED]
    called += [_called(as_object(each)) for each in as_list(turn.get("tool_calls"))]
    rest = [part for part in as_list(content) if part not in results and as_object(part).get("type") not in _CALLED]
    text = text_of(rest if isinstance(content, list) else content)
    if text or called or not results:
        yield RunStep("system" if role in ("system", "developer") else role, text, tuple(called))


def _result(part: Mapping[str, Any]) -> RunStep:
    id = as_text(part.get("call_id")) or as_text(part.get("tool_use_id"))
    failed = part.get("is_error") is True or part.get("status") == "incomplete"
    return RunStep("tool", text_of(part.get("output", part.get("content"))), tool_call_id=id, failed=failed)


def _called(part: Mapping[str, Any]) -> ToolCall:
    spec = as_object(part.get("function")) or part
    given = spec.get("arguments", spec.get("input"))
    arguments = given if isinstance(given, str) else orjson.dumps(given or {}).decode()
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
