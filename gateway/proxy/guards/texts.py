"""Positions of the texts in a request, in a plain answer and in the events of a stream, of each API. Pure.

A member that is known neither as text nor as structure counts as text: a field that an API adds is judged from its
first day.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.core.json_values import parse_object
from gateway.core.sse import events
from gateway.proxy.dialects import lenient_json

Holder = dict[str, Any] | list[Any]
Channel = tuple[Any, ...]
"""Names one text of a stream, which arrives in pieces: the path to it in the events."""

_STRUCTURE = frozenset({
    "id", "type", "role", "status", "object", "model", "index", "name", "call_id", "item_id", "tool_call_id",
    "tool_use_id", "finish_reason", "stop_reason", "signature", "encrypted_content", "phase", "service_tier", "detail",
    "media_type", "format", "file_id", "system_fingerprint", "native_finish_reason", "logprobs", "obfuscation",
})  # fmt: skip
"""Members that are no text of a person or a model. Of `logprobs`, the tokens go with the text."""
_ARGUMENTS = frozenset({"arguments", "input", "partial_json"})
_REQUEST = ("messages", "system", "input", "instructions", "prompt")
"""Members of a request that hold texts."""
_ANSWER = ("choices", "output", "content", "output_text")
_MOST_DEPTH = 24
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_INLINE = "data:"  # begins a file within a text
_LONG_INLINE = 1_024


@dataclass(slots=True)
class Slot:
    """One text, and where it is. A text that is JSON, and a tool's input that is an object, is one text too."""

    holder: Any
    key: Any

    @property
    def value(self) -> Any:
        return self.holder[self.key]


def judged_object(data: bytes) -> dict[str, Any] | None:
    """The object that a client may read in these bytes, also where it is not strict JSON. None if there is none.

    An unpaired surrogate, which no search can read, is replaced by U+FFFD.
    """
    value = parse_object(data)
    if value is None:
        try:
            value = _searchable(lenient_json.loads(data))
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def readable(data: bytes, *, stream: bool) -> bytes:
    """An answer as `assemble` reads it: without unpaired surrogates, because of which it would leave a part out."""
    if b"\\ud" not in data and b"\\uD" not in data:
        return data
    if not stream:
        return lenient_json.dumps(judged_object(data) or {})
    parts = (judged_object(event.data) for event in events(data) if event.data[:1] == b"{")
    return b"".join(b"data: " + lenient_json.dumps(part) + b"\n\n" for part in parts if part is not None)


def _searchable(value: Any) -> Any:
    if isinstance(value, str):
        return _HALF_PAIR.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_searchable(name): _searchable(inner) for name, inner in value.items()}
    return [_searchable(inner) for inner in value] if isinstance(value, list) else value


def request_slots(fields: dict[str, Any]) -> list[Slot]:
    slots: list[Slot] = []
    for name in _REQUEST:
        if name in fields:
            _gather(fields, name, slots, 0)
    return slots


def answer_slots(body: dict[str, Any]) -> list[Slot]:
    choices = body.get("choices")
    if type(choices) is list and len(choices) == 1 and type(choices[0]) is dict:
        message = choices[0].get("message")
        if type(message) is dict and message.keys() <= _PLAIN and type(message.get("content")) is str:
            return [Slot(message, "content")]  # most answers: found without a walk
    slots: list[Slot] = []
    for name in _ANSWER:
        if name in body:
            _gather(body, name, slots, 0)
    return slots


_PLAIN = frozenset({"role", "content"})


def _gather(holder: Any, key: Any, slots: list[Slot], depth: int) -> None:
    value = holder[key]
    if isinstance(value, str):
        if value and not (value.startswith(_INLINE) and len(value) > _LONG_INLINE):
            slots.append(Slot(holder, key))
    elif isinstance(value, dict):
        if key == "input" and value and isinstance(holder, dict) and holder.get("type") != "message":
            slots.append(Slot(holder, key))  # a tool's input: its members are the tool's own
            return
        for name in value if depth < _MOST_DEPTH else ():
            if name not in _STRUCTURE:
                _gather(value, name, slots, depth + 1)
    elif isinstance(value, list):
        for at in range(len(value)) if depth < _MOST_DEPTH else ():
            _gather(value, at, slots, depth + 1)


@dataclass(slots=True)
class StreamEvent:
    """The texts of one event of a stream."""

    pieces: list[tuple[Channel, Slot]]
    """Continuations of texts."""
    ended: Channel | None = None
    """The beginning of the channels whose texts are complete before this event; None if none is; (): all."""
    repeats: bool = False
    """Whether it holds whole texts, also those that came in pieces before."""
    arguments: bool = False
    """Whether its pieces are of a tool's arguments."""


_NOTHING = StreamEvent([])


def read_event(api: str, part: dict[str, Any]) -> StreamEvent:
    """part: the data of one event in the client's API."""
    if api == "responses":
        return _responses(part)
    if api == "messages":
        return _messages(part)
    return _choices(part)


def _choices(part: dict[str, Any]) -> StreamEvent:
    """Chat and text completions."""
    pieces: list[tuple[Channel, Slot]] = []
    ended: Channel | None = None
    choices = part.get("choices")
    for at, choice in enumerate(choices) if isinstance(choices, list) else ():
        if not isinstance(choice, dict):
            continue
        index = _place(choice.get("index", at))
        for name in ("delta", "message"):
            if isinstance(choice.get(name), dict):
                pieces += _pieces(choice[name], (index,))
        if isinstance(choice.get("text"), str) and choice["text"]:
            pieces.append(((index, "text"), Slot(choice, "text")))
        if choice.get("finish_reason"):
            ended = (index,) if ended is None else ()
    return StreamEvent(pieces, ended, arguments=any(channel[-1] in _ARGUMENTS for channel, _ in pieces))


def _place(value: Any) -> Any:
    """Key that distinguishes texts; an upstream may send anything in its place."""
    return str(value) if isinstance(value, dict | list) else value


def _pieces(value: Any, path: Channel) -> Iterator[tuple[Channel, Slot]]:
    """Yields all texts of a delta. The items of a list are distinguished by their index, where they have one."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        if key in _STRUCTURE:
            continue
        if isinstance(inner, str):
            if inner:
                yield (*path, key), Slot(value, key)
        elif isinstance(inner, dict | list) and len(path) < _MOST_DEPTH:
            named = _place(inner.get("index", key)) if isinstance(value, list) and isinstance(inner, dict) else key
            yield from _pieces(inner, (*path, named))


def _responses(part: dict[str, Any]) -> StreamEvent:
    kind = str(part.get("type"))
    place = tuple(_place(part.get(name)) for name in ("output_index", "item_id", "content_index", "summary_index"))
    if kind.endswith(".delta") and isinstance(part.get("delta"), str):
        arguments = "arguments" in kind or "input" in kind
        return StreamEvent([((kind.removesuffix(".delta"), *place), Slot(part, "delta"))], arguments=arguments)
    if kind.endswith((".done", ".added", ".completed", ".incomplete", ".failed")):
        return StreamEvent([], (), repeats=True)
    return _NOTHING


def _messages(part: dict[str, Any]) -> StreamEvent:
    kind, index = part.get("type"), _place(part.get("index"))
    if kind == "content_block_delta" and isinstance(part.get("delta"), dict):
        pieces = list(_pieces(part["delta"], (index,)))
        return StreamEvent(pieces, arguments=any(channel[-1] in _ARGUMENTS for channel, _ in pieces))
    if kind == "content_block_stop":
        return StreamEvent([], (index,))
    if kind in ("message_delta", "message_stop"):
        return StreamEvent([], ())
    return StreamEvent([], repeats=True) if kind in ("message_start", "content_block_start") else _NOTHING


def event_slots(part: dict[str, Any]) -> list[Slot]:
    """The texts of an event that holds whole texts."""
    slots: list[Slot] = []
    for name in part:
        if name not in _STRUCTURE:
            _gather(part, name, slots, 0)
    return slots
