"""Reads verdicts from a judge's answer: JSON as requested, or JSON inside other text. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from gateway.core.json_values import parse_object

_MARK = re.compile(r"\{|</think(?:ing)?>", re.IGNORECASE)
_FENCE = re.compile(r"\s*(?:```\w*\s*)?")
_DECODER = json.JSONDecoder()
MAX_OBJECTS = 200  # tried in one text


class NoVerdict(ValueError):
    """The judge's answer contains no verdict; the message says what was expected."""


def find_verdict(text: str, key: str) -> dict[str, Any]:
    """The verdict: the complete text as an object, else an object with this key after the judge's thoughts. Raises
    NoVerdict.

    Of several objects, the one that the text begins with, since what follows is a comment; else the last one, because a
    judge that reasons first ends with its verdict, after any quotation of the answer.
    """
    text = text.strip()
    complete = parse_object(text)
    if complete is not None and key in complete:
        return complete
    found = next((verdict for part in reversed(_parts(text)) if (verdict := _verdict_in(part, key))), None)
    if found is None:
        raise NoVerdict(f'no JSON object with "{key}" in {text[-200:]!r}')
    return found


def _verdict_in(part: list[tuple[bool, dict[str, Any]]], key: str) -> dict[str, Any] | None:
    named = [(leads, value) for leads, value in part if key in value]
    if not named:
        return None
    leads, first = named[0]
    return first if leads else named[-1][1]


def _parts(text: str) -> list[list[tuple[bool, dict[str, Any]]]]:
    """The objects of each part of a text, with whether the part begins with it. The end of a thought ends a part.

    A judge may quote `</thinking>` in its reason, so it counts only outside of objects; and if nothing follows it, an
    earlier part has the verdict.
    """
    parts: list[list[tuple[bool, dict[str, Any]]]] = [[]]
    start = at = tried = 0
    while (mark := _MARK.search(text, at)) is not None and tried < MAX_OBJECTS:
        at = mark.end()
        if mark[0] != "{":
            parts.append([])
            start = at
            continue
        tried += 1
        try:
            value, at = _DECODER.raw_decode(text, mark.start())
        except (json.JSONDecodeError, RecursionError):
            continue
        parts[-1].append((_FENCE.fullmatch(text, start, mark.start()) is not None, value))
    return parts


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
