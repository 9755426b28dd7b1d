"""Readers of JSON whose shape somebody else decided. A value of another kind reads as empty; none of these raises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson


def parse_object(data: bytes | memoryview | str) -> dict[str, Any] | None:
    """The object in a JSON text; None for invalid JSON, and for JSON of another kind."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def as_object(value: Any) -> dict[str, Any]:
    """The value if it is an object, else {}."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """The value if it is a list, else []."""
    return value if isinstance(value, list) else []


def as_text(value: Any) -> str:
    """The value if it is text, else ""."""
    return value if isinstance(value, str) else ""


def as_decimal(text: str) -> int | None:
    """The number that up to 18 ASCII digits write; None for any other text. `str.isdigit` takes what `int` refuses, "²"
    and thousands of digits."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None


def decoded(value: Any) -> Any:
    """The value of a text that begins as JSON objects, lists and texts do, if it is JSON; any other value as it is."""
    if isinstance(value, str) and value[:1] in ("{", "[", '"'):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def value_at(found: Mapping[str, Any], path: str, read: Callable[[Any], Any] | None = None) -> Any:
    """The member of this name, which may hold dots, or else the value at this dotted path, in which numbers are places
    in lists; None if there is none. read: returns what a value on the way stands for."""
    if path in found:
        return found[path]
    value: Any = found
    for step in path.split("."):
        value = value if read is None else read(value)
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def content_text(content: Any, separator: str = "") -> str:
    """The text of a message's content: itself, or the texts of its parts. Parts without text are left out."""
    if isinstance(content, str):
        return content
    return separator.join(p["text"] for p in as_list(content) if isinstance(p, dict) and isinstance(p.get("text"), str))
