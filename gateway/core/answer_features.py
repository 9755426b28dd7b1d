"""Numbers about an answer, from which a cascade decides whether it is served. Pure.

They come after those of the request, so that one tree reads both. The same function serves the request path and the
learning from recorded answers. Where a name is that of a rule scorer, so is the meaning.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from hashlib import sha256

import orjson

from gateway.core.completion import Completion
from gateway.core.cut_text import TOKEN_LIMITS, ends_inside_fence, ends_inside_json
from gateway.core.refusal_text import REFUSING_FINISH_REASONS, refusal_language
from gateway.core.request_features import FEATURE_SET, FEATURES, condition_text

ANSWER_FEATURES = (
    *("refusal", "truncation", "valid_json", "length", "empty", "tool_calls"),
    *("repeats", "hedges", "asks_back", "answer_code", "answer_digits"),
)
CASCADE_FEATURES = (*FEATURES, *ANSWER_FEATURES)
CASCADE_FEATURE_SET = sha256("\0".join(("1", FEATURE_SET, *ANSWER_FEATURES)).encode()).hexdigest()[:12]
"""A cascade that was learned from another set cannot be served. The number counts changes of meaning."""

_JSON = FEATURES.index("json")
_READ = 512  # characters of each end of the text that are searched for words and digits
_SQUEEZED = 4_096  # characters at the end that are compressed: a loop is there
_PROSE_RATIO = 0.25  # prose and code of any length deflate to more than this share of their size
_HEDGES = re.compile(
    r"\b(?:perhaps|maybe|might|possibly|probably|likely|unsure|uncertain|unclear|not (?:sure|certain)|i guess"
    r"|(?:i )?do(?:n't| not) know|vielleicht|wahrscheinlich|vermutlich|nicht sicher|weiß (?:ich )?nicht|peut-être"
    r"|probablement|ne sais pas|quizás|no lo sé|no estoy segur[oa]|forse|non (?:lo )?so|non sono sicur[oa])\b",
    re.IGNORECASE,
)


def answer_features(request: Sequence[float], answer: Completion) -> list[float]:
    """The values of ANSWER_FEATURES. request: the values of FEATURES."""
    text = answer.text
    ends = text if len(text) <= 2 * _READ else f"{text[:_READ]} {text[-_READ:]}"
    wants_json = bool(request[_JSON]) and not answer.tool_calls
    return [
        bool(answer.refusal) or answer.finish_reason in REFUSING_FINISH_REASONS or refusal_language(text) is not None,
        _is_cut(answer, wants_json),
        not wants_json or _is_json(text),
        len(text.split()),
        not text.strip() and not answer.tool_calls,
        len(answer.tool_calls),
        _repeats(text),
        len(_HEDGES.findall(ends)),
        text.rstrip().endswith(("?", "？")),
        "```" in text,
        sum(map(ends.count, "0123456789")),
    ]


def _is_cut(answer: Completion, wants_json: bool) -> bool:
    if answer.finish_reason is None or answer.finish_reason in TOKEN_LIMITS or ends_inside_fence(answer.text):
        return True
    if answer.tool_calls and ends_inside_json(answer.tool_calls[-1].arguments):
        return True
    return wants_json and bool(answer.text) and ends_inside_json(answer.text)


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return False
    return True


def _repeats(text: str) -> float:
    """Degree to which the end of the text deflates below a quarter of its size, from 0 to 1."""
    data = text[-_SQUEEZED:].encode("utf-8", "replace")
    return min(1.0, max(0.0, 1 - len(zlib.compress(data, 1)) / len(data) / _PROSE_RATIO)) if data else 0.0


_SAID = {
    "refusal": ("no refusal", "a refusal"),
    "truncation": ("complete", "cut off"),
    "valid_json": ("not the JSON that was asked for", "valid JSON, or none was asked for"),
    "empty": ("not empty", "empty"),
    "asks_back": ("asks nothing back", "asks back"),
    "answer_code": ("an answer without code", "an answer with code"),
}
"""The words for at most 0.5, and for more."""
_COUNTED = {
    "length": "words",
    "tool_calls": "tool calls",
    "hedges": "hedging words",
    "answer_digits": "digits in the answer",
}


def cascade_condition_text(feature: str, threshold: float, above: bool) -> str:
    """The words for one side of a condition on a feature of the request or of the answer."""
    if feature in _SAID:
        return _SAID[feature][above]
    if feature == "repeats":
        return f"repeats itself {'more' if above else 'at most'} {threshold:.2g}"
    if feature not in _COUNTED:
        return condition_text(feature, threshold, above)
    if 0.0 <= threshold < 1.0:
        return f"{'with' if above else 'no'} {_COUNTED[feature]}"
    return f"{'more than' if above else 'at most'} {threshold:.0f} {_COUNTED[feature]}"
