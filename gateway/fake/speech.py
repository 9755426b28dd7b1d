"""The content of the answer to one request: the script, after a prefill and up to the token limit.

Independent of the APIs, which frame it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.core.chunked import chunked
from gateway.core.json_values import content_text
from gateway.core.output_tokens import OUTPUT_LIMITS
from gateway.fake.answers import Event, FakeRequest, FakeToolCall, Part


@dataclass(frozen=True, slots=True)
class ScriptedAnswer:
    """The content of the answer to one request."""

    parts: tuple[Part, ...]
    text: str
    words: int
    complete: bool  # False: max_tokens ended it
    tool: FakeToolCall | None

    @property
    def pauses(self) -> tuple[Event, ...]:
        return tuple(p for p in self.parts if not isinstance(p, str))

    def finish(self, stop: str, length: str, tool: str) -> str:
        """The API's own finish reason."""
        return tool if self.tool else stop if self.complete else length

    def fragments(self) -> list[str]:
        """The tool call's arguments, in the pieces of a stream."""
        text = self.tool.arguments if self.tool else ""
        return ["".join(characters) for characters in chunked(text, 8)]


def speech(ask: FakeRequest, prefix: str = "") -> ScriptedAnswer:
    """The script for this request, up to the token limit, without `prefix` if it begins with that."""
    if ask.script.tool:
        return ScriptedAnswer((), "", 1 + len(ask.script.tool.arguments.split()), True, ask.script.tool)
    parts: tuple[Part, ...] = ask.script.parts
    if not ask.script.custom and _wants_json(ask.fields):
        parts = split(orjson.dumps({"answer": text_of(parts).strip()}).decode())
    if prefix and text_of(parts).startswith(prefix):
        parts = _slice(parts, len(prefix), None)
    text = text_of(parts)
    words, limit = len(text.split()), _limit(ask.fields)
    if limit is None or words <= limit:
        return ScriptedAnswer(parts, text, words, True, None)
    end = sum(len(word) for word in split(text)[:limit])
    return ScriptedAnswer(_slice(parts, 0, end), text[:end], limit, False, None)


def split(text: str) -> tuple[str, ...]:
    """The words of a text, each with the space after it; joined, they are the text."""
    return tuple(re.findall(r"\s*\S+\s*", text))


def text_of(parts: Sequence[Part]) -> str:
    return "".join([p for p in parts if isinstance(p, str)])


def _slice(parts: Sequence[Part], start: int, end: int | None) -> tuple[Part, ...]:
    """The parts between two positions of their text. A pause exactly at a start > 0 belongs to the part before."""
    out: list[Part] = []
    at = 0
    for part in parts:
        if not isinstance(part, str):
            if (at > start or not start) and (end is None or at < end):
                out.append(part)
            continue
        kept = part[max(0, start - at) : None if end is None else max(0, end - at)]
        at += len(part)
        if kept:
            out.append(kept)
    return tuple(out)


def _limit(fields: dict[str, Any]) -> int | None:
    return next((int(fields[n]) for n in OUTPUT_LIMITS if fields.get(n) is not None), None)


def _wants_json(fields: dict[str, Any]) -> bool:
    wanted = fields.get("response_format") or (fields.get("text") or {}).get("format") or {}
    return wanted.get("type") in {"json_object", "json_schema"}


def count_words(value: Any) -> int:
    """The words in a prompt of any API: a string, token numbers (one each), messages, content parts, lists of these."""
    if isinstance(value, str):
        return len(value.split())
    if isinstance(value, list):
        return sum(count_words(v) for v in value)
    if isinstance(value, dict):
        return sum(count_words(value.get(key)) for key in ("content", "text", "input"))
    return int(isinstance(value, int))


def last_assistant(ask: FakeRequest) -> str:
    """The text of the last message if it is the assistant's, otherwise ""."""
    messages = ask.fields.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(last, dict) or last.get("role") != "assistant":
        return ""
    return content_text(last.get("content"))
