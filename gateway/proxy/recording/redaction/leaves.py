"""A JSON document as the list of its texts, and back with others in their place. Pure.

Texts that are JSON themselves (a tool call's arguments) are opened too. A number that could be a card's is a text here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.proxy.recording.redaction.forms import says_secret

_DEEPEST = 8  # JSON within JSON; what lies deeper is searched as the text it is
_CARD_FROM, _CARD_TO = 10**12, 10**19
_ESCAPE = re.compile(r"\\+(?:u([0-9a-fA-F]{4})|([\"'/bfnrt]))")
_LETTERS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


@dataclass(slots=True)
class Leaf:
    """One text. named: the member it stands in says that it is a secret. plain: without escapes, where it has some and
    is no JSON: what they hide is searched for there."""

    text: str
    named: bool = False
    plain: str | None = None


@dataclass(slots=True)
class Leaves:
    """The texts of a document in one order, which `rebuilt` follows again."""

    found: list[Leaf] = field(default_factory=list)

    def gather(self, value: Any, named: bool = False, depth: int = 0) -> Any:
        """Returns the document with JSON texts opened, for `rebuilt`."""
        if isinstance(value, str):
            return self._text(value, named, depth)
        if isinstance(value, dict):
            return _Object([(self._text(str(k), False, _DEEPEST), self.gather(v, says_secret(str(k)), depth))
                            for k, v in value.items()])  # fmt: skip
        if isinstance(value, list):
            return [self.gather(item, named, depth) for item in value]
        if isinstance(value, int) and _CARD_FROM <= value < _CARD_TO:
            self.found.append(Leaf(str(value)))
            return _Number(value)
        return value

    def _text(self, text: str, named: bool, depth: int) -> Any:
        inner = _opened(text) if depth < _DEEPEST and not named else None
        if inner is not None:
            return _Inner(text, self.gather(inner, False, depth + 1))
        self.found.append(Leaf(text, named, unescaped(text) if "\\" in text else None))
        return _TEXT


class _Text:
    """Stands where a text was."""


_TEXT = _Text()


@dataclass(slots=True)
class _Number:
    value: int


@dataclass(slots=True)
class _Object:
    members: list[tuple[Any, Any]]


@dataclass(slots=True)
class _Inner:
    """A text that is JSON. text: as it was, kept to the letter when nothing in it changes."""

    text: str
    value: Any


class Rebuilding:
    """texts: what stands in each leaf's place, in their order."""

    def __init__(self, leaves: list[Leaf], texts: list[str]) -> None:
        self._pairs = iter(zip(leaves, texts, strict=True))
        self._changed = False

    def of(self, gathered: Any) -> Any:
        if gathered is _TEXT:
            return self._next()
        if isinstance(gathered, _Object):
            return {self.of(k): self.of(v) for k, v in gathered.members}
        if isinstance(gathered, list):
            return [self.of(item) for item in gathered]
        if isinstance(gathered, _Number):
            text = self._next()
            return gathered.value if text == str(gathered.value) else text
        if isinstance(gathered, _Inner):
            return self._inner(gathered)
        return gathered

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


def unescaped(text: str) -> str:
    """What JSON's escapes stand for, however often they are escaped themselves."""
    said = _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else _LETTERS.get(m[2], m[2]), text)
    return said if said.isascii() else said.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _opened(text: str) -> Any:
    """The object or list that a text spells; None: it spells none."""
    if text[:1] not in ("{", "[") and not text[:64].lstrip().startswith(("{", "[")):
        return None
    try:
        value = orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return None
    return value if isinstance(value, dict | list) else None
