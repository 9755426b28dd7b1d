"""Reads verdicts from a judge's answer: JSON as requested, or JSON inside other text. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import orjson

_THOUGHT = re.compile(r"^.*</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_DECODER = json.JSONDecoder()
MAX_OBJECTS = 200  # tried in one text


class NoVerdict(ValueError):
    """The judge's answer contains no verdict; the message says what was expected."""


def find_verdict(text: str, key: str) -> dict[str, Any]:
    """The verdict: the complete text as an object, else the last object in it with this key. Raises NoVerdict.

    The last one, because a judge that reasons first ends with its verdict, after any quotation of the answer.
    """
    text = _THOUGHT.sub("", text).strip()
    complete = _object(text)
    if complete is not None and key in complete:
        return complete
    last: dict[str, Any] | None = None
    at, tried = text.find("{"), 0
    while at >= 0 and tried < MAX_OBJECTS:
        tried += 1
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError):
            end = at + 1
        else:
            last = value if isinstance(value, dict) and key in value else last
        at = text.find("{", end)
    if last is None:
        raise NoVerdict(f'no JSON object with "{key}" in {text[:200]!r}')
    return last


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def read_number(verdict: Mapping[str, Any], key: str, low: float, high: float) -> float:
    """A number in [low, high], also as text: "4", "4/5", "4 of 5". Raises NoVerdict."""
    given = verdict.get(key)
    if isinstance(given, str):
        match = re.match(r"\s*(-?\d+(?:\.\d+)?)(?!\d)\s*(?:(?:/|out of|of)\s*\d+)?\s*$", given)
        given = float(match[1]) if match else given
    if isinstance(given, bool) or not isinstance(given, int | float) or not low <= given <= high:
        raise NoVerdict(f'"{key}" is {given!r}, expected a number from {low:g} to {high:g}')
    return float(given)


def read_bool(given: Any) -> bool:
    """True or false, also as text: "yes", "no". Raises NoVerdict."""
    if isinstance(given, bool):
        return given
    if isinstance(given, str) and given.strip().lower() in ("yes", "true", "no", "false"):
        return given.strip().lower() in ("yes", "true")
    raise NoVerdict(f"expected true or false, got {given!r}")


def read_reason(verdict: Mapping[str, Any]) -> str | None:
    given = verdict.get("reason")
    return given if isinstance(given, str) and given.strip() else None


def response_format(name: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """A response_format that requires an object with exactly these properties, in this order."""
    inner = {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": inner}}
