"""Readers of JSON whose shape somebody else decided. A value of another kind reads as empty; none of these raises."""

from __future__ import annotations

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


def content_text(content: Any, separator: str = "") -> str:
    """The text of a message's content: itself, or the texts of its parts. Parts without text are left out."""
    if isinstance(content, str):
        return content
    return separator.join(p["text"] for p in as_list(content) if isinstance(p, dict) and isinstance(p.get("text"), str))
