"""Converts the forms of messages in traces to those of Chat Completions. Pure. An unknown form is kept as JSON.

Sources: OpenTelemetry's semantic conventions for generative AI (messages of parts), OpenAI's and Anthropic's APIs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from gateway.core.json_values import as_list, as_object, as_text, decoded

Message = dict[str, Any]
FINISHED: Mapping[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "tool_call": "tool_calls",
    "refusal": "content_filter",
}
"""Reasons for which an answer ended that OpenAI's API names otherwise."""
_RESULTS = ("tool_call_response", "tool_result")
_CALLS = ("tool_call", "tool_use")


def messages_of(value: Any) -> list[Message]:
    """The messages of a request: a list of them, a body that has some, one message, or a text."""
    given = decoded(value)
    if isinstance(given, dict):
        body = next((given[name] for name in ("messages", "input", "contents") if given.get(name)), None)
        if body is not None:
            system = given.get("system") or given.get("instructions")
            return [*system_of(system), *messages_of(body)]
        if "role" not in given:
            return _one_text(given.get("prompt") or given.get("text") or given)
        given = [given]
    if isinstance(given, list):
        if all(isinstance(each, str) for each in given):
            return [{"role": "user", "content": each} for each in given]
        return [message for each in given for message in _messages(each)]
    return _one_text(given)


def system_of(value: Any) -> list[Message]:
    """System instructions: a text, or a list of parts."""
    given = decoded(value)
    text = given if isinstance(given, str) else "\n".join(_texts(as_list(given)))
    return [{"role": "system", "content": text}] if text else []


def answer_of(value: Any) -> tuple[Message, str | None] | None:
    """The answer's message, and its finish reason. None if there is none."""
    given = decoded(value)
    if isinstance(given, dict) and as_list(given.get("choices")):
        choice = as_object(given["choices"][0])
        found = answer_of(choice.get("message") or choice.get("text"))
        return None if found is None else (found[0], as_text(choice.get("finish_reason")) or found[1])
    if isinstance(given, list):
        if given and all(isinstance(part, dict) and "type" in part and "role" not in part for part in given):
            given = {"role": "assistant", "content": given}
        else:
            given = next((each for each in reversed(given) if isinstance(each, dict)), None)
    if given is None or given in ("", {}, []):
        return None
    if isinstance(given, str):
        return {"role": "assistant", "content": given}, None
    if not isinstance(given, dict):
        return {"role": "assistant", "content": _json(given)}, None
    reason = as_text(given.get("finish_reason")) or as_text(given.get("stop_reason")) or None
    if not {"role", "content", "parts", "tool_calls"} & given.keys():
        return {"role": "assistant", "content": _json(given)}, None
    message = {**next(_messages({**given, "role": "assistant"})), "role": "assistant"}
    return message, FINISHED.get(reason or "", reason)


def tools_of(value: Any) -> list[Any]:
    """Definitions of tools in the form of Chat Completions."""
    found = []
    for tool in as_list(decoded(value)):
        each = as_object(decoded(tool))
        if "function" in each:
            found.append(each)
        elif "name" in each:
            function = {k: v for k, v in each.items() if k not in ("type", "input_schema")}
            if "input_schema" in each:
                function["parameters"] = each["input_schema"]
            found.append({"type": "function", "function": function})
    return found


def _one_text(value: Any) -> list[Message]:
    if value is None or value == "":
        return []
    return [{"role": "user", "content": value if isinstance(value, str) else _json(value)}]


def _messages(value: Any) -> Iterator[Message]:
    """A message of parts may be several: each result of a tool is one of its own."""
    given = as_object(decoded(value))
    parts = given.get("parts", given.get("content"))
    role = as_text(given.get("role")) or "user"
    if not isinstance(parts, list):
        message = {
            k: v for k, v in given.items() if k not in ("parts", "finish_reason", "stop_reason") and v is not None
        }
        yield {**message, "role": role, "content": parts if isinstance(parts, str) else _or_none(parts)}
        return
    results = [part for part in parts if as_object(part).get("type") in _RESULTS]
    yield from map(_result, results)
    if len(results) < len(parts) or not results:
        yield _of_parts(role, [part for part in parts if part not in results], given)


def _of_parts(role: str, parts: list[Any], given: Mapping[str, Any]) -> Message:
    calls = [_call(as_object(part)) for part in parts if as_object(part).get("type") in _CALLS]
    thought = "\n".join(
        as_text(p.get("content") or p.get("thinking"))
        for p in map(as_object, parts)
        if p.get("type") in ("reasoning", "thinking")
    )
    texts = list(_texts(parts))
    message: Message = {"role": role, "content": "\n".join(texts) if texts or not calls else None}
    if calls or given.get("tool_calls"):
        message["tool_calls"] = calls or given["tool_calls"]
    if thought:
        message["reasoning_content"] = thought
    return message


def _texts(parts: Iterable[Any]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, str):
            yield part
            continue
        of, kind = as_object(part), as_object(part).get("type", "text")
        if kind in ("text", "input_text", "output_text"):
            yield as_text(of.get("content")) or as_text(of.get("text"))
        elif kind not in (*_CALLS, *_RESULTS, "reasoning", "thinking"):
            yield f"[{kind}]"


def _call(part: Mapping[str, Any]) -> dict[str, Any]:
    arguments = part.get("arguments", part.get("input"))
    text = arguments if isinstance(arguments, str) else _json({} if arguments is None else arguments)
    function = {"name": as_text(part.get("name")), "arguments": text}
    return {"id": as_text(part.get("id")), "type": "function", "function": function}


def _result(part: Any) -> Message:
    of = as_object(part)
    content = next((of[name] for name in ("response", "result", "content") if of.get(name) is not None), "")
    text = content if isinstance(content, str) else "\n".join(_texts(as_list(content))) or _json(content)
    return {"role": "tool", "tool_call_id": as_text(of.get("id") or of.get("tool_use_id")), "content": text}


def _or_none(value: Any) -> str | None:
    return None if value is None else _json(value)


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()


def chat_response(
    answer: tuple[Message, str | None], model: str, id: str = "", usage: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The body of an answer of Chat Completions."""
    message, reason = answer
    choice = {"index": 0, "message": message, "finish_reason": reason}
    body: dict[str, Any] = {"object": "chat.completion", "model": model, "choices": [choice]}
    return {**({"id": id} if id else {}), **body, **({"usage": usage} if usage else {})}


def error_response(message: str, kind: str = "") -> dict[str, Any]:
    """The body of an answer that is an error."""
    return {"error": {"message": message or "the call failed", "type": kind or "error", "code": None}}
