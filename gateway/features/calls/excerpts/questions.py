"""The question of a call, from the ends of its request's body, so that a list need not read whole bodies. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

import orjson

from gateway.core.conversation import turns

END_BYTES = 4_096
"""Bytes of each end of a body that a list reads."""
_LONGEST = 2_000
_CONTENT = re.compile(rb'"(?:content|text|input|prompt|instructions)"\s*:\s*"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class BodyEnds:
    """The beginning and the end of a body, and its length in bytes."""

    first: bytes
    last: bytes
    length: int


def question_of(ends: BodyEnds) -> str:
    """The last turn of the request; "" where its ends do not tell it."""
    if ends.length <= len(ends.first):
        told = [text for who, text in turns(ends.first) if who != "assistant" and text.strip()]
        return told[-1][:_LONGEST] if told else ""
    found = _CONTENT.findall(ends.last) or _CONTENT.findall(ends.first)
    return _unescaped(found[-1])[:_LONGEST] if found else ""


def _unescaped(text: bytes) -> str:
    try:
        return str(orjson.loads(b'"' + text + b'"'))
    except orjson.JSONDecodeError:
        return text.decode("utf-8", "replace")
