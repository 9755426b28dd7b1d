"""The texts of an exchange for a judge: the conversation, the answer, and the context of the answer. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from gateway.core.completion import Completion
from gateway.core.json_values import as_list
from gateway.core.run_steps import text_of

Request = Mapping[str, Any]
_INSTRUCTING = ("system", "developer")
_text = partial(text_of, indented=True)


def conversation(request: Request) -> str:
    """Every message before the answer."""
    turns = [f"[{role}]\n{text}" for role, text in _turns(request) if text]
    return "\n\n".join(turns)


def answer(completion: Completion) -> str:
    """The answer's text, refusal and tool calls, without its reasoning."""
    calls = [f"[calls {c.name} with {c.arguments}]" for c in completion.tool_calls]
    return "\n".join(part for part in (completion.text, completion.refusal, *calls) if part)


def context(request: Request, where: str | None) -> str:
    """The text that an answer should be based on; "" if there is none.

    where: a path in the request, as "metadata.context" or "messages.0.content"; None: its system, developer and tool
    messages.
    """
    if where is not None:
        return _text(_at(request, where))
    return "\n\n".join(text for role, text in _turns(request) if text and role in (*_INSTRUCTING, "tool", "function"))


def _turns(request: Request) -> Iterator[tuple[str, str]]:
    """Role and text of each message, in every API's spelling; a tool result inside a message counts as a message."""
    for name in ("system", "instructions"):
        if request.get(name):
            yield "system", _text(request[name])
    if isinstance(request.get("prompt"), str):
        yield "user", request["prompt"]
    turns = request.get("messages", request.get("input"))
    if isinstance(turns, str):
        yield "user", turns
    for turn in as_list(turns):
        if isinstance(turn, dict):
            yield from _turn(turn)


def _turn(turn: Request) -> Iterator[tuple[str, str]]:
    if turn.get("type") in ("function_call_output", "tool_result"):
        yield "tool", _text(turn.get("output", turn.get("content")))
        return
    content, role = turn.get("content"), turn.get("role")
    if isinstance(content, list):
        results = [p for p in content if isinstance(p, dict) and p.get("type") == "tool_result"]
        for part in results:
            yield "tool", _text(part.get("content"))
        content = [p for p in content if p not in results]
    yield (role if isinstance(role, str) else "user"), _text(content)


def _at(value: Any, path: str) -> Any:
    """The value at a path; None if there is none."""
    for step in path.split("."):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.lstrip("-").isdigit() and -len(value) <= int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value
