"""Positions of the texts in a request, in a plain answer and in the events of a stream, of each API. Pure.

Every member counts as text, but for the structure that coverage.py lists: a field that an API adds is judged from its
first day. A member of a listed name counts as structure only if its value has the listed form.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from gateway.proxy.dialects import lenient_json
from gateway.proxy.guards.coverage import (
    FREE_FORM,
    HEAD,
    PLAIN_CHOICE,
    PLAIN_MESSAGE,
    PLAIN_REASONS,
    TOKENS,
    UNJUDGED_NUMBERS,
    is_structure,
)
from gateway.proxy.guards.judged_json import NestedTooDeeply
from gateway.proxy.recording.redaction.leaves import levels

Holder = dict[str, Any] | list[Any]
Channel = tuple[Any, ...]
"""Names one text of a stream, which arrives in pieces: the path to it in the events."""

_ARGUMENTS = frozenset({"arguments", "input", "partial_json"})
_FIRST = ("messages", "system", "input", "instructions", "prompt")
"""Members of a request whose texts come first: the conversation."""
_IN_CHANNELS = frozenset({"index", "delta", "message", "text"})
"""Members of a streamed choice whose texts are pieces of longer ones, and its number."""
_MOST_SPLIT = 24  # levels of a delta below which texts are distinguished
_CARD_FROM, _CARD_TO = 10**12, 10**19
_NUMBER_CHARS = 19
_BETWEEN_NAMES = "\0"


@dataclass(slots=True)
class Slot:
    """One text, and where it is. A text that is JSON, and a tool's input that is an object, is one text too."""

    holder: Any
    key: Any
    root: str = ""
    """The top-level member that contains it; "" if that is not needed."""
    changed: bool = False

    @property
    def value(self) -> Any:
        return self.holder[self.key]

    @property
    def size(self) -> int:
        """Characters."""
        value = self.value
        if type(value) is str:
            return len(value)
        return _NUMBER_CHARS if isinstance(value, int | float) else len(lenient_json.dumps(value))

    @property
    def text(self) -> str:
        value = self.value
        return value if isinstance(value, str) else lenient_json.dumps(value).decode()

    def replace(self, new: Any) -> None:
        self.holder[self.key] = new
        self.changed = True


@dataclass(slots=True)
class TokenSlot(Slot):
    """The tokens of an answer, which spell its text: joined to one text, and removed as a whole."""

    joined: str = ""

    @property
    def value(self) -> Any:
        return self.joined

    def replace(self, new: Any) -> None:
        Slot.replace(self, None)


@dataclass(slots=True)
class PartsSlot(Slot):
    """The texts of the parts of one content, which a model reads as one: for matches that lie in several of them."""

    parts: list[dict[str, Any]] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        return [str(part["text"]) for part in self.parts]

    @property
    def value(self) -> Any:
        return "".join(self.texts)

    @property
    def size(self) -> int:
        return 0

    @property
    def text(self) -> str:
        return ""

    def replace(self, new: Any) -> None:
        """new: the texts of the parts."""
        for part, text in zip(self.parts, new, strict=True):
            part["text"] = text
        self.changed = True


@dataclass(slots=True)
class NameSlot(Slot):
    """The names of all members, as one text."""

    names: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """The objects that have a member of each name."""

    @property
    def value(self) -> Any:
        return _BETWEEN_NAMES.join(self.names)

    @property
    def size(self) -> int:
        return 0

    @property
    def text(self) -> str:
        return ""

    def replace(self, new: Any) -> None:
        new_names = str(new).split(_BETWEEN_NAMES)
        if len(new_names) != len(self.names):
            new_names = [f"[name {at}]" for at in range(len(self.names))]  # a name holds the separator
        for (name, holders), new_name in zip(self.names.items(), new_names, strict=True):
            for holder in holders if new_name != name else ():
                holder[new_name] = holder.pop(name)
        self.changed = True


def request_slots(fields: dict[str, Any], most_depth: int | None = None) -> list[Slot]:
    """The texts of a request, those of the conversation first. Raises NestedTooDeeply above this number of levels;
    None: any number."""
    first = [name for name in _FIRST if name in fields]
    others = [name for name in fields if name not in _FIRST and name != "model"]
    walk = _Walk(most_depth)
    walk.name_members(fields)
    for name in (*first, *others):
        walk.gather(fields, name, name)
    return walk.ended()


def answer_slots(body: dict[str, Any]) -> list[Slot]:
    choices = body.get("choices")
    if type(choices) is list and len(choices) == 1 and type(choices[0]) is dict and is_plain(body, choices[0]):
        message = choices[0].get("message")
        if type(message) is dict and _is_plain_message(message):
            return [Slot(message, "content")]  # most answers: found without a walk
    return _whole_slots(body)


def _is_plain_message(message: dict[str, Any]) -> bool:
    known = message.keys() <= PLAIN_MESSAGE and message.get("role") in (None, "assistant")
    return known and type(message.get("content")) is str


def is_plain(body: dict[str, Any], choice: dict[str, Any]) -> bool:
    """Whether an answer has no text but those of its only choice's message."""
    others = [name for name in body if name not in HEAD and name != "choices" and body[name]]
    others += [name for name in choice if name not in PLAIN_CHOICE and choice[name]]
    return not others and choice.get("finish_reason") in PLAIN_REASONS


def _whole_slots(part: dict[str, Any]) -> list[Slot]:
    walk = _Walk(None)
    walk.name_members(part)
    for name in part:
        if name not in HEAD:
            walk.gather(part, name)
    return walk.ended()


class _Walk:
    """Collects the texts of a document, without recursion: a document may have any number of levels."""

    def __init__(self, most_depth: int | None) -> None:
        self._most_depth = most_depth
        self._slots: list[Slot] = []
        self._names: dict[str, list[dict[str, Any]]] = {}
        self._parts: list[Slot] = []

    def ended(self) -> list[Slot]:
        self._slots += self._parts
        if self._names:
            self._slots.append(NameSlot(None, None, names=self._names))
        return self._slots

    def name_members(self, value: dict[str, Any]) -> None:
        for name in value:
            self._names.setdefault(name, []).append(value)

    def gather(self, holder: Any, key: Any, root: str = "") -> None:
        """Adds the texts of one member."""
        waiting: list[tuple[Any, Any, int]] = [(holder, key, 1)]
        while waiting:
            holder, key, depth = waiting.pop()
            value = holder[key]
            kind = type(value)
            if kind is str:
                if value and not is_structure(key, value):
                    self._slots.append(Slot(holder, key, root))
            elif kind is dict or kind is list:
                if self._most_depth is not None and depth > self._most_depth:
                    raise NestedTooDeeply
                if value and not self._whole(holder, key, value, root, depth):
                    waiting += self._members(value, depth + 1, root)
            elif _may_be_card(value) and key not in UNJUDGED_NUMBERS:
                self._slots.append(Slot(holder, key, root))

    def _members(self, value: Any, depth: int, root: str) -> Iterable[tuple[Any, Any, int]]:
        if type(value) is dict:
            self.name_members(value)
            return [(value, name, depth) for name in reversed(value)]
        if len(value) > 1:
            parts = [part for part in value if type(part) is dict and type(part.get("text")) is str]
            if len(parts) > 1:
                self._parts.append(PartsSlot(value, None, root, parts=parts))
        return [(value, at, depth) for at in range(len(value) - 1, -1, -1)]

    def _whole(self, holder: Any, key: Any, value: Any, root: str, depth: int) -> bool:
        """Adds a value that is one text. Returns whether it is one."""
        if key in TOKENS:
            self._slots.append(TokenSlot(holder, key, root, joined=_spelled(value)))
            return True
        tool_input = key == "input" and type(holder) is dict and holder.get("type") != "message"
        if type(value) is not dict or not (tool_input or key in FREE_FORM):
            return False
        if self._most_depth is not None and depth - 1 + levels(value) > self._most_depth:
            raise NestedTooDeeply
        self._slots.append(Slot(holder, key, root))
        return True


def _may_be_card(value: Any) -> bool:
    return type(value) in (int, float) and _CARD_FROM <= value < _CARD_TO


def _spelled(value: Any) -> str:
    """The text that tokens spell, and below it their alternatives."""
    tokens: list[str] = []
    others: list[str] = []
    waiting: list[tuple[Any, Any, bool]] = [("", value, True)]
    while waiting:
        key, inner, chosen = waiting.pop()
        if isinstance(inner, str):
            (tokens if chosen else others).append(inner)
        elif isinstance(inner, dict):
            others += (name for name in inner if not chosen)
            waiting += [(name, inner[name], chosen and name != "top_logprobs") for name in reversed(inner)]
        elif isinstance(inner, list):
            waiting += [(key, member, chosen) for member in reversed(inner)]
    return "\n".join(("".join(tokens), *others))


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
    whole = any(part[name] and name not in HEAD and name != "choices" for name in part)
    if not isinstance(choices, list):
        return StreamEvent(pieces, repeats=whole or bool(choices))
    for at, choice in enumerate(choices):
        if not isinstance(choice, dict):
            whole = whole or bool(choice)
            continue
        index = _place(choice.get("index", at))
        for name in choice:
            value = choice[name]
            if not value:
                continue
            if name in ("delta", "message") and isinstance(value, dict):
                pieces += _pieces(value, (index,))
            elif name in TOKENS:
                pieces.append(((index, name), TokenSlot(choice, name, joined=_spelled(value).partition("\n")[0])))
                whole = True
            elif name == "text" and isinstance(value, str):
                pieces.append(((index, name), Slot(choice, name)))
            elif not (isinstance(value, str) and is_structure(name, value)):
                whole = whole or name in _IN_CHANNELS or not isinstance(value, int | float)
        if choice.get("finish_reason"):
            ended = (index,) if ended is None else ()
    return StreamEvent(pieces, ended, whole, any(channel[-1] in _ARGUMENTS for channel, _ in pieces))


def _place(value: Any) -> Any:
    """Key that distinguishes texts; an upstream may send anything in its place."""
    return str(value) if isinstance(value, dict | list) else value


def _pieces(value: Any, path: Channel) -> Iterator[tuple[Channel, Slot]]:
    """Yields all texts of a delta. The items of a list are distinguished by their index, where they have one."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        if isinstance(inner, str):
            if inner and not is_structure(key, inner):
                yield (*path, key), Slot(value, key)
        elif isinstance(inner, dict | list) and len(path) < _MOST_SPLIT:
            named = _place(inner.get("index", key)) if isinstance(value, list) and isinstance(inner, dict) else key
            yield from _pieces(inner, (*path, named))
        elif inner and isinstance(inner, dict | list):
            yield (*path, key), _Deep(value, key)


@dataclass(slots=True)
class _Deep(Slot):
    """A value too deep in a delta to be distinguished: one text."""

    @property
    def value(self) -> Any:
        return lenient_json.dumps(self.holder[self.key]).decode()


def _responses(part: dict[str, Any]) -> StreamEvent:
    kind = str(part.get("type"))
    place = tuple(_place(part.get(name)) for name in ("output_index", "item_id", "content_index", "summary_index"))
    if kind.endswith(".delta") and isinstance(part.get("delta"), str):
        arguments = "arguments" in kind or "input" in kind
        pieces: list[tuple[Channel, Slot]] = []
        if part["delta"] and not is_structure("data", part["delta"]):
            pieces.append(((kind.removesuffix(".delta"), *place), Slot(part, "delta")))
        whole = any(part[name] and _outside(name, part[name], _OF_DELTA) for name in part)
        if part.get("logprobs"):
            spelled = _spelled(part["logprobs"]).partition("\n")[0]
            pieces.append((("logprobs", *place), TokenSlot(part, "logprobs", joined=spelled)))
        return StreamEvent(pieces, None, whole, arguments)
    return StreamEvent([], () if kind.endswith(_ENDS) else None, repeats=True)


_ENDS = (".done", ".added", ".completed", ".incomplete", ".failed")
_OF_DELTA = frozenset({
    "type", "delta", "sequence_number", "output_index", "content_index", "summary_index", "item_id", "obfuscation",
})  # fmt: skip
_OF_BLOCK = frozenset({"type", "delta", "index"})


def _outside(name: str, value: Any, known: frozenset[str]) -> bool:
    """Whether a member of an event whose delta is a piece of a text has another text."""
    if name not in known:
        return True
    return name != "delta" and not isinstance(value, int) and not (isinstance(value, str) and is_structure(name, value))


def _messages(part: dict[str, Any]) -> StreamEvent:
    kind, index = part.get("type"), _place(part.get("index"))
    if kind == "content_block_delta" and isinstance(part.get("delta"), dict):
        pieces = list(_pieces(part["delta"], (index,)))
        whole = any(part[name] and _outside(name, part[name], _OF_BLOCK) for name in part)
        return StreamEvent(pieces, None, whole, any(channel[-1] in _ARGUMENTS for channel, _ in pieces))
    if kind == "content_block_stop":
        return StreamEvent([], (index,), repeats=len(part) > len(_STOP))
    if kind in ("message_delta", "message_stop"):
        return StreamEvent([], (), repeats=True)
    return StreamEvent([], repeats=True)


_STOP = ("type", "index")


def event_slots(part: dict[str, Any]) -> list[Slot]:
    """The texts of an event that holds whole texts."""
    return _whole_slots(part)
