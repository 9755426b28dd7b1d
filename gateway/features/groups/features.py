"""Features of calls, as columns of numbers with the words for each side of a threshold. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

from gateway.core.json_values import parse_object
from gateway.core.request_features import FEATURES, condition_text, request_features
from gateway.features.groups.rows import ScoredCall

Floats = NDArray[np.float64]
MOST_VALUES = 8
"""Number of models, of targets and of callers that are distinguished."""
MOST_WORDS = 40
FEWEST_WITH_WORD = 8
"""Failures whose reasons have a word, so that it can name a group."""
MOST_WITH_WORD = 0.5
"""Share of the failures above which a word of their reasons denotes failure itself."""
_WORD = re.compile(r"[^\W\d_][\w'’-]{3,}")
_TURNS = {"chat": "messages", "messages": "messages", "completions": "prompt", "responses": "input"}
_COMMON = frozenset(
    [
        "about",
        "above",
        "after",
        "again",
        "answer",
        "answers",
        "assistant",
        "because",
        "been",
        "before",
        "being",
        "below",
        "between",
        "both",
        "cannot",
        "could",
        "does",
        "doing",
        "done",
        "each",
        "even",
        "every",
        "fails",
        "failed",
        "from",
        "given",
        "gives",
        "good",
        "have",
        "having",
        "here",
        "into",
        "itself",
        "just",
        "like",
        "make",
        "makes",
        "more",
        "most",
        "much",
        "must",
        "need",
        "needs",
        "only",
        "other",
        "over",
        "question",
        "request",
        "response",
        "same",
        "score",
        "scored",
        "should",
        "some",
        "such",
        "text",
        "than",
        "that",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "those",
        "through",
        "very",
        "were",
        "what",
        "when",
        "where",
        "which",
        "while",
        "will",
        "with",
        "within",
        "without",
        "would",
        "your",
    ]
)


@dataclass(frozen=True, slots=True)
class FeatureColumn:
    """A column."""

    key: str
    says: Callable[[float, bool], str]
    """(threshold, above it) → words."""


@dataclass(frozen=True, slots=True)
class FeatureTable:
    columns: tuple[FeatureColumn, ...]
    x: Floats
    """Shape (calls, columns), without NaN."""


def table_of_calls(calls: Sequence[ScoredCall]) -> FeatureTable:
    """Describes the calls in columns. A tree takes the last of columns that explain equally much, so the request's own
    come last."""
    columns: list[FeatureColumn] = []
    values: list[Floats] = []

    def add(key: str, says: Callable[[float, bool], str], column: Iterable[float]) -> None:
        columns.append(FeatureColumn(key, says))
        values.append(np.fromiter(column, dtype=np.float64, count=len(calls)))

    for what in ("caller", "alias", "target"):
        for value in _values(calls, what):
            says = _said(f"{_NAMED[what]} not {value}", f"{_NAMED[what]} {value}")
            add(f"{what} {value}", says, (getattr(call, what) == value for call in calls))
    add("answer", _answer_size, (call.answer_characters for call in calls))
    add("cut", _said("answer not cut at its limit", "answer cut at its limit"), map(_is_cut, calls))
    with_call = (len(call.tool_calls) > len("[]") for call in calls)
    add("calls", _said("answer without a tool call", "answer with a tool call"), with_call)
    of_request = np.array([_request(call) for call in calls], dtype=np.float64).reshape(len(calls), len(FEATURES))
    for at, name in enumerate(FEATURES):
        add(name, _of_request(name), of_request[:, at])
    return FeatureTable(tuple(columns), np.column_stack(values))


def table_of_words(calls: Sequence[ScoredCall], words: Sequence[str]) -> FeatureTable:
    """The words that the reasons of the scores have."""
    found = [words_of(call.reason) for call in calls]
    x = np.array([[word in each for word in words] for each in found], dtype=np.float64).reshape(len(calls), len(words))
    says = (_said(f'reason without "{word}"', f'reason with "{word}"') for word in words)
    return FeatureTable(tuple(FeatureColumn(f"word {w}", s) for w, s in zip(words, says, strict=True)), x)


_NAMED = {"caller": "key", "alias": "model", "target": "target"}


def _said(at_most: str, above: str) -> Callable[[float, bool], str]:
    return lambda _, over: above if over else at_most


def _of_request(name: str) -> Callable[[float, bool], str]:
    return lambda threshold, over: condition_text(name, threshold, over)


def _answer_size(threshold: float, over: bool) -> str:
    if threshold < 1:
        return "answer with text" if over else "answer without text"
    return f"answer {'over' if over else 'up to'} {threshold:.0f} characters"


def _is_cut(call: ScoredCall) -> bool:
    return call.finish_reason in ("length", "max_tokens", "max_output_tokens")


def _values(calls: Sequence[ScoredCall], what: str) -> list[str]:
    """The most frequent values, where there are several."""
    counts = Counter(getattr(call, what) for call in calls)
    return [value for value, _ in counts.most_common(MOST_VALUES)] if len(counts) > 1 else []


def _request(call: ScoredCall) -> list[float]:
    """Zeros for a request without content, or cut."""
    body = parse_object(call.request) or {}
    turns = body.get(_TURNS.get(call.api, ""))
    if not isinstance(turns, list | str):
        return [0.0] * len(FEATURES)
    size = len(call.request) if call.client_bytes is None else call.client_bytes
    return [float(value) for value in request_features(size, call.stream, body, orjson.dumps(turns))[0]]


def words_of(reason: str) -> frozenset[str]:
    return frozenset(word for word in map(str.lower, _WORD.findall(reason)) if word not in _COMMON)


def telling_words(calls: Sequence[ScoredCall], failed: Sequence[bool]) -> list[str]:
    """Words of the reasons of failures that are rarer in other reasons: the most distinctive first.

    A word of most failures, such as "wrong", says that a call failed and not how, and is left out."""
    bad, good = Counter[str](), Counter[str]()
    n_bad = n_good = 0
    for call, is_bad in zip(calls, failed, strict=True):
        if not call.reason:
            continue
        (bad if is_bad else good).update(words_of(call.reason))
        n_bad, n_good = n_bad + is_bad, n_good + (not is_bad)
    excess = {
        word: n / n_bad - good[word] / max(1, n_good)
        for word, n in bad.items()
        if n >= FEWEST_WITH_WORD and n <= MOST_WITH_WORD * n_bad
    }
    telling = sorted((word for word, more in excess.items() if more > 0), key=lambda word: (-excess[word], word))
    return telling[:MOST_WORDS]
