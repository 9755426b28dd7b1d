"""A JSON document as the list of its texts, and back with other texts in their place. Pure.

Texts that are JSON themselves (a tool call's arguments) are opened too. A number that could be a card's is a text here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.proxy.recording.redaction.finder import says_secret

_MAX_NESTING = 8  # JSON within JSON; text that lies deeper is searched as it is
_MOST_LEVELS = 100  # objects and lists within each other; a text with more is searched as it is
_CARD_FROM, _CARD_TO = 10**12, 10**19
# Lookbehind and possessive quantifier: a run of backslashes is read once, and not again from each of its backslashes.
_ESCAPE = re.compile(r"(?<!\\)\\++(?:u([0-9a-fA-F]{4})|([\"'/bfnrt]))")
_LETTERS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


@dataclass(slots=True)
class Leaf:
    text: str
    secret: bool = False
    """The name of its member says that it is a secret."""
    unescaped: str | None = None
    """The text without its escapes, which could hide something; None if it has none, or is JSON itself."""


@dataclass(slots=True)
class Leaves:
    """The texts of a document in the order in which `Rebuilding` consumes them."""

    found: list[Leaf] = field(default_factory=list)
    parts: list[list[int]] = field(default_factory=list)
    """Positions in `found` of the texts that are parts of one content, and so are read as one text."""

    def gather(self, value: Any, secret: bool = False, depth: int = 0) -> Any:
        """Adds the document's texts to `found`, and returns its skeleton for `Rebuilding`."""
        if isinstance(value, str):
            return self._text(value, secret, depth)
        if isinstance(value, dict):
            return self._object(value, depth, [])
        if isinstance(value, list):
            return self._list(value, secret, depth)
        if isinstance(value, int | float) and _CARD_FROM <= value < _CARD_TO and value == int(value):
            self.found.append(Leaf(str(int(value))))
            return _Number(value)
        return value

    def _list(self, items: list[Any], secret: bool, depth: int) -> list[Any]:
        parts: list[int] = []
        skeleton = [
            self._object(item, depth, parts) if isinstance(item, dict) else self.gather(item, secret, depth)
            for item in items
        ]
        if len(parts) > 1:
            self.parts.append(parts)
        return skeleton

    def _object(self, members: dict[Any, Any], depth: int, parts: list[int]) -> _Object:
        """parts: gets the position of the member `text`, by which a content part is known."""
        skeleton = []
        for key, value in members.items():
            name = self._text(str(key), False, _MAX_NESTING)
            skeleton.append((name, self.gather(value, says_secret(str(key)), depth)))
            if key == "text" and skeleton[-1][1] is _TEXT:
                parts.append(len(self.found) - 1)
        return _Object(skeleton)

    def _text(self, text: str, secret: bool, depth: int) -> Any:
        inner = _parsed(text) if depth < _MAX_NESTING and not secret else None
        if inner is not None:
            return _Inner(text, self.gather(inner, False, depth + 1))
        self.found.append(Leaf(text, secret, unescape(text) if "\\" in text else None))
        return _TEXT


class _Text:
    """The place of a text in the skeleton."""


_TEXT = _Text()


@dataclass(slots=True)
class _Number:
    value: float


@dataclass(slots=True)
class _Object:
    members: list[tuple[Any, Any]]


@dataclass(slots=True)
class _Inner:
    """A text that is JSON itself."""

    text: str
    """The text as it was; kept to the letter if nothing in it changes."""
    value: Any


class Rebuilding:
    """Puts texts into the places of a skeleton."""

    def __init__(self, leaves: list[Leaf], texts: list[str]) -> None:
        """texts: the replacement of each leaf, in their order."""
        self._pairs = iter(zip(leaves, texts, strict=True))
        self._changed = False

    def of(self, skeleton: Any) -> Any:
        if skeleton is _TEXT:
            return self._next()
        if isinstance(skeleton, _Object):
            return {self.of(k): self.of(v) for k, v in skeleton.members}
        if isinstance(skeleton, list):
            return [self.of(item) for item in skeleton]
        if isinstance(skeleton, _Number):
            text = self._next()
            return skeleton.value if text == str(int(skeleton.value)) else text
        if isinstance(skeleton, _Inner):
            return self._inner(skeleton)
        return skeleton

    def _next(self) -> str:
        leaf, text = next(self._pairs)
        self._changed = self._changed or text != leaf.text
        return text

    def _inner(self, inner: _Inner) -> str:
        before, self._changed = self._changed, False
        value = self.of(inner.value)
        text = orjson.dumps(value).decode() if self._changed else inner.text
        self._changed = self._changed or before
        return text


def unescape(text: str) -> str:
    """The text that JSON's escapes stand for, even if they are escaped several times."""
    plain = _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else _LETTERS.get(m[2], m[2]), text)
    return plain if plain.isascii() else plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _parsed(text: str) -> Any:
    """The object or list that a text spells; None if it spells neither, or one of which a part would not be searched:
    the first of two members with one name, and what lies too deep for a search."""
    if text[:1] not in ("{", "[") and not text[:64].lstrip().startswith(("{", "[")):
        return None
    try:
        value = orjson.loads(text)
        if text.count(":") > 1:
            json.loads(text, object_pairs_hook=_checked)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) and levels(value) <= _MOST_LEVELS else None


def _checked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises ValueError for two members with one name."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("two members have one name")
    return members


def levels(value: Any) -> int:
    """The number of objects and lists within each other, this one included; of more than may be searched, one more."""
    inner, level = [value], 0
    while inner and level <= _MOST_LEVELS:
        members = (m for each in inner for m in (each.values() if isinstance(each, dict) else each))
        inner, level = [member for member in members if isinstance(member, dict | list)], level + 1
    return level
