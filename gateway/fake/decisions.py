"""Decisions: `/v1/decisions` as OpenAI has it, and `/v1/systemone`.

The probability of an option follows from the words that it shares with the input: the same questions about the same
text have the same probabilities in both formats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import orjson

from gateway.fake.answers import FakeAnswer, FakeRequest
from gateway.fake.similarity import similarity
from gateway.fake.speech import count_words

_SHARPNESS = 4.0
_DIMENSIONS = 1024  # so that different words rarely share one


def decisions(ask: FakeRequest) -> FakeAnswer:
    """Raises TypeError or KeyError for a question without its members."""
    asked = ask.fields["questions"]
    if not isinstance(asked, list):
        raise TypeError("questions must be a list")
    state = _text(ask.fields["input"])
    answers = [_answer(state, question) | {"name": question.get("name")} for question in asked]
    words = count_words(ask.fields["input"]) + count_words(asked)
    usage = {
        "input_tokens": words,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": words,
    }
    return FakeAnswer(orjson.dumps({"model": ask.model, "answers": answers, "usage": usage}))


def systemone(ask: FakeRequest) -> FakeAnswer:
    """Raises TypeError or KeyError for a question without its members."""
    asked = ask.fields["questions"]
    if not isinstance(asked, dict):
        raise TypeError("questions must be an object")
    state = _text(ask.fields["state"])
    answers = {key: _system_one_answer(state, question) for key, question in asked.items()}
    usage = {"input_tokens": count_words(state) + count_words(_text(asked)), "output_tokens": 0}
    return FakeAnswer(orjson.dumps({"model": ask.model, "answers": answers, "usage": usage}))


def _answer(state: str, question: dict[str, Any]) -> dict[str, Any]:
    kind = question["type"]
    if kind == "predicate":
        return {"type": kind, "probability": _predicate(state, question)}
    if kind == "choice":
        values = [choice["value"] for choice in question["choices"]]
        shares = _shares(state, [f"{c['value']} {c.get('description') or ''}" for c in question["choices"]])
        entries = [{"value": v, "probability": p} for v, p in zip(values, shares, strict=True)]
        best = values[shares.index(max(shares))]
        return {"type": kind, "choice": best, "confidence": _confidence(shares), "probabilities": entries}
    if kind != "score":
        raise ValueError(f"type {kind!r}")
    labels = [level["label"] for level in question["levels"]]
    shares = _shares(state, labels)
    levels = [{"value": i, "label": labels[i], "probability": p} for i, p in enumerate(shares)]
    return {"type": kind, "score": _mean(shares), "confidence": _confidence(shares), "probabilities": levels}


def _system_one_answer(state: str, question: dict[str, Any]) -> dict[str, Any]:
    kind = question["type"]
    if kind == "noul":
        return {"type": kind, "noul": _predicate(state, question)}
    criteria = question["criteria"]
    if kind == "choice":
        shares = _shares(state, [f"{name} {_text(text or '')}" for name, text in criteria.items()])
        named = dict(zip(criteria, shares, strict=True))
        best = max(named, key=named.__getitem__)
        return {"type": kind, "choice": best, "probabilities": named, "confidence": _confidence(shares)}
    if kind != "score":
        raise ValueError(f"type {kind!r}")
    shares = _shares(state, [_text(level) for level in criteria])
    return {
        "type": kind,
        "score": _mean(shares),
        "legend": {str(i): _text(level) for i, level in enumerate(criteria)},
        "probabilities": {str(i): share for i, share in enumerate(shares)},
        "confidence": _confidence(shares),
    }


def _predicate(state: str, question: dict[str, Any]) -> float:
    return 1 / (1 + math.exp(-_SHARPNESS * similarity(state, _text(question["instructions"]), _DIMENSIONS)))


def _shares(state: str, options: Sequence[str]) -> list[float]:
    weights = [math.exp(_SHARPNESS * similarity(state, option, _DIMENSIONS)) for option in options]
    total = sum(weights)
    return [weight / total for weight in weights]


def _mean(shares: Sequence[float]) -> float:
    return sum(i * share for i, share in enumerate(shares))


def _confidence(shares: Sequence[float]) -> float:
    """The form that System One's documentation implies: 0 if all options are equally probable, 1 for a certain one."""
    k = len(shares)
    return (max(shares) - 1 / k) / (1 - 1 / k) if k > 1 else 1.0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
