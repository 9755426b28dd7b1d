"""Tells whether a text ends inside a code fence, a bracket or a string: signs that an answer was cut off. Pure."""

from __future__ import annotations

import re

import orjson

TOKEN_LIMITS = frozenset({"length", "max_tokens", "max_output_tokens", "model_context_window_exceeded"})
_FENCE = re.compile(r"^[ \t]{0,3}(```+|~~~+)(.*)$", re.MULTILINE)
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*("?)', re.DOTALL)


def ends_inside_fence(text: str) -> bool:
    """Tells whether a Markdown code fence is open at the end (CommonMark, section 4.5)."""
    if "```" not in text and "~~~" not in text:
        return False
    fence = ""
    for marks, rest in _FENCE.findall(text):
        if not fence:
            fence = marks if "`" not in rest or marks[0] == "~" else ""  # ```code``` on one line does not open a fence
        elif marks[0] == fence[0] and len(marks) >= len(fence) and not rest.strip():
            fence = ""
    return bool(fence)


def ends_inside_json(text: str) -> bool:
    """Tells whether a JSON text ends inside a bracket or string; False for text that is invalid in another way."""
    try:
        orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return _open(text)
    return False


def _open(text: str) -> bool:
    depth, at = 0, 0
    for string in _STRING.finditer(text):
        if not string[1]:
            return True
        depth += _opened(text[at : string.start()])
        at = string.end()
    return depth + _opened(text[at:]) > 0


def _opened(text: str) -> int:
    return text.count("{") + text.count("[") - text.count("}") - text.count("]")
