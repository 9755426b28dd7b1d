"""The numbers of a request that bound its output, read as the upstream that gets them reads them. Pure.

Servers accept `2000.0` for 2000; each API reads its own names and ignores all others. The reservation for a call, its
charge, and the refusal of unreadable numbers all depend on this module.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gateway.core.errors import BadRequest
from gateway.core.json_values import as_object
from gateway.proxy.request.call import Api, Call
from gateway.proxy.request.json_members import items

_CHAT = ("max_completion_tokens", "max_tokens")
LIMIT_NAMES: Mapping[str, tuple[str, ...]] = {
    "chat": _CHAT,
    "chat_batch": _CHAT,
    "completions": ("max_tokens",),
    "generate": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "compact": ("max_output_tokens",),
    "messages": ("max_tokens",),
    "generate_content": ("maxOutputTokens", "max_output_tokens"),
    "converse": ("maxTokens",),
    "invoke_model": ("max_tokens",),
}
"""The names under which an API reads the most output tokens of one answer. Of several, servers differ in which wins, so
the largest counts."""
GENERATES = frozenset(LIMIT_NAMES)
"""The APIs whose output is text that is counted in tokens."""

_COUNTS = ("n", "best_of")
_COUNTED: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("chat", "chat_batch", "completions", "generate"), _COUNTS),
    "generate_content": ("candidateCount", "candidate_count"),
}
"""The members by which a request asks for several answers."""
_WIDER = "n_predict"  # llama.cpp's; where it is present, max_tokens is not read
NESTED: Mapping[str, str] = {
    "generate": "sampling_params",
    "generate_content": "generationConfig",
    "converse": "inferenceConfig",
}
"""The member that holds them, where the top level does not."""
_SPELLED = {"generate_content": ("generation_config",)}  # other spellings of that member, which servers read as well
NUMBERS = frozenset({*_CHAT, "max_output_tokens", *_COUNTS, _WIDER, *NESTED.values(), "generation_config"})
"""The top-level members that `checked_numbers` reads."""
_MOST = 10**15  # larger numbers count as this one
_MOST_COUNTED = 1_000_000
_TEXTS = re.compile(rb'\[[ \t\n\r]*+["\[{]')  # the beginning of an array of anything but numbers


def checked_numbers(fields: dict[str, Any], api: Api) -> None:
    """Turns integral floats into integers, where this API reads them. Raises BadRequest for any other value."""
    names = (*LIMIT_NAMES.get(api, ()), *_COUNTED.get(api, ()))
    if api in NESTED:
        found: dict[str, Any] = {}
        for holder in (NESTED[api], *_SPELLED.get(api, ())):
            nested = fields.get(holder)
            if nested is ...:
                raise BadRequest(f"{holder} is larger than 64 KB", param=holder)
            if isinstance(nested, dict):
                found |= {**nested, **_integers(nested, names, f"{holder}.")}
        if found:
            fields[NESTED[api]] = found
        return
    if api in ("chat", "completions"):
        names = (*names, _WIDER)
    fields |= _integers(fields, names)


def _integers(fields: Mapping[str, Any], names: tuple[str, ...], prefix: str = "") -> dict[str, int]:
    return {
        name: _integer(fields[name], prefix + name) for name in names if name in fields and fields[name] is not None
    }


def _integer(value: Any, name: str) -> int:
    integral = type(value) is float and value.is_integer()
    if type(value) is not int and not integral:
        shown = "text" if isinstance(value, str) or value is ... else str(value)[:40]
        raise BadRequest(f"{name} must be an integer, not {shown}", param=name)
    return min(int(value), _MOST)


def output_limit(api: str, fields: Mapping[str, Any]) -> int:
    """The most output tokens of one answer that the request allows; 0 if it names none. Takes no call for most APIs."""
    read: Mapping[str, Any] = fields
    if api in NESTED:
        read = as_object(fields.get(NESTED[api]))
    most = 0
    for name in LIMIT_NAMES[api]:
        if name in read and type(read[name]) is int and read[name] > most:
            most = read[name]
    if most and _WIDER in read and type(read[_WIDER]) is int:
        most = max(most, read[_WIDER]) if read[_WIDER] >= 0 else 0  # below 0: without a limit
    return most


def answers_of(call: Call) -> int:
    """The number of answers that a request has generated: `n` (or `best_of`) for each of its prompts or
    conversations."""
    if call.api not in _COUNTED:
        return 1
    read: Any = call.fields.get(NESTED[call.api]) if call.api in NESTED else call.fields
    counts = [read[name] for name in _COUNTED[call.api] if isinstance(read, dict) and type(read.get(name)) is int]
    return max(1, *counts) * _prompts(call) if counts else _prompts(call)


def _prompts(call: Call) -> int:
    if call.api == "chat_batch":
        return _items(call, "messages")
    prompt = call.fields.get("prompt")
    if call.api != "completions" or prompt is None:
        return 1
    if prompt is ...:
        return _items(call, "prompt")
    return len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int | float) else 1


def _items(call: Call, name: str) -> int:
    """The items of a top-level array, unless they are numbers: then it is one prompt of tokens. Above a million, the
    most that there can be: a slice of each would take twenty times the body."""
    array, count = call.slices().get(name), call.body.count
    if array is None or not _TEXTS.match(array):
        return 1
    most = min(count(b",") + 1, count(b'"') // 2 + count(b"[") + count(b"{"))
    return len(items(array)) if most <= _MOST_COUNTED else most


DEFAULTED = frozenset({"chat", "completions", "responses", "messages", "chat_batch"})
"""The APIs to whose requests a limit can be added. Those of messages need their own where they pass unchanged."""


def default_name(api: str, kind: str) -> str | None:
    """The member that limits one answer at an upstream of this kind; None if the API has none, or requires its own."""
    if api == "chat":  # OpenAI's reasoning models refuse max_tokens; other providers know only that
        return "max_completion_tokens" if kind in ("openai", "azure") else "max_tokens"
    return {"completions": "max_tokens", "responses": "max_output_tokens", "chat_batch": "max_tokens"}.get(api)
