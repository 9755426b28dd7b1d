"""Cheap numbers about an exchange, for trees: no model is called and no text is kept.

Those of the request are known before there is an answer, and come first. Counts of bytes and of hashed three-byte
sequences are computed for a whole batch at once; everything else by one pass over each exchange. NaN: does not apply.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from gateway.core.chunked import chunked
from gateway.core.completion import Completion
from gateway.core.exchange import Exchange
from gateway.core.request_format import output_format
from gateway.evals.scoring.types import Subject

Matrix = NDArray[np.float32]
Bytes = NDArray[np.uint8]
NAN = math.nan
_ANSWER_BYTES, _PROMPT_BYTES = 384, 192  # that are counted, of each text's beginning and end
_HEAD = 176  # characters of the answer whose words are looked at
_PROMPT_WORDS = 12
_OPENING = 24  # words in which an answer refuses, if it does
_AT_ONCE = 12_288  # bytes that are counted at once: their temporary arrays stay in the processor's cache
_REQUEST_GRAMS, _ANSWER_GRAMS = 16, 32
_MULTIPLIERS = (40_503, 25_173, 13_849)  # odd, so that each byte changes the hash, of 16 bits


@dataclass(frozen=True, slots=True)
class Feature:
    """One column. part: what it is computed from."""

    name: str
    part: Literal["request", "answer"]


BYTE_CLASSES = (
    "lower", "upper", "digit", "blank", "line_break", "sentence", "bracket", "markup", "other_ascii", "latin",
    "greek_cyrillic", "semitic", "indic_thai", "cjk", "hangul", "symbol", "continuation",
)  # fmt: skip
_REQUEST = (
    "alias_a", "alias_b", "api", "target_a", "target_b", "stream", "messages", "system", "tools", "wants_json",
    "max_tokens_log", "temperature", "prompt_log", "request_bytes_log", "question_marks",
)  # fmt: skip
_ANSWER = (
    "answer_log", "reasoning_log", "words_log", "repeats", "distinct_words", "prompt_words_repeated",
    "answer_to_prompt_log", "finish_reason", "complete_sentence", "tool_calls", "tool_json", "json", "refusal_field",
    "refusal_marks", "hedge_marks", "error", "outcome", "status", "mean_logprob", "total_log", "first_token_log",
    "input_tokens_log", "output_tokens_log", "tokens_a_second_log", "attempts", "truncated", "spliced", "english",
    "german", "french", "spanish",
)  # fmt: skip


def _texts(part: Literal["request", "answer"], grams: int) -> Iterator[Feature]:
    yield from (Feature(f"{part}_{name}", part) for name in BYTE_CLASSES)
    yield from (Feature(f"{part}_gram_{i}", part) for i in range(grams))


REQUEST_FEATURES: tuple[Feature, ...] = (
    *(Feature(name, "request") for name in _REQUEST),
    *_texts("request", _REQUEST_GRAMS),
)
FEATURES: tuple[Feature, ...] = (
    *REQUEST_FEATURES,
    *(Feature(name, "answer") for name in _ANSWER),
    *_texts("answer", _ANSWER_GRAMS),
)


def feature_set(names: Sequence[str]) -> str:
    """12 hexadecimal digits that differ where the names or their order differ."""
    return sha256("\0".join(names).encode()).hexdigest()[:12]


class FeatureExtractor:
    """names and set: of the columns of `matrix`."""

    names = tuple(f.name for f in FEATURES)
    set = feature_set(names)

    def matrix(self, subjects: Sequence[Subject]) -> Matrix:
        """Shape (n, len(FEATURES))."""
        prompts = [prompt_of(s.request) for s in subjects]
        answers = _with_logs([answer_row(s, p) for s, p in zip(subjects, prompts, strict=True)], _ANSWER_LOGS)
        texts = _text_columns([s.completion.text for s in subjects], _ANSWER_BYTES, _ANSWER_GRAMS)
        return np.hstack((self.request_matrix(subjects, prompts), answers, texts))

    def request_matrix(self, subjects: Sequence[Subject], prompts: Sequence[str]) -> Matrix:
        """The first columns, which do not depend on the answer: shape (n, len(REQUEST_FEATURES))."""
        rows = [request_row(s.exchange, s.request, p) for s, p in zip(subjects, prompts, strict=True)]
        return np.hstack((_with_logs(rows, _REQUEST_LOGS), _text_columns(prompts, _PROMPT_BYTES, _REQUEST_GRAMS)))


_REQUEST_LOGS, _ANSWER_LOGS = (
    [i for i, name in enumerate(names) if name.endswith("_log")] for names in (_REQUEST, _ANSWER)
)


def _with_logs(rows: Sequence[Sequence[float]], logs: Sequence[int]) -> Matrix:
    """ln(1 + x) in some columns: for all rows at once, which is cheaper."""
    x = np.array(rows, dtype=np.float32)
    x[:, logs] = np.log1p(x[:, logs])
    return x


def prompt_of(request: Mapping[str, Any]) -> str:
    """The last message of the request, in any API's form; "" where it has no text."""
    messages = request.get("messages")
    if isinstance(messages, list) and messages:
        return _text_of(messages[-1])
    given = request.get("input", request.get("prompt"))
    if isinstance(given, list):
        return _text_of(given[-1]) if given else ""
    return given if isinstance(given, str) else ""


def _text_of(message: Any) -> str:
    content = message.get("content") if isinstance(message, dict) else message
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(p["text"] for p in content if isinstance(p, dict) and isinstance(p.get("text"), str))


def request_row(e: Exchange, request: Mapping[str, Any], prompt: str) -> list[float]:
    """The features of _REQUEST, in order, those in _log before their logarithm."""
    messages = request.get("messages")
    several = messages if isinstance(messages, list) else ()
    tools = request.get("tools")
    limit = request.get("max_tokens", request.get("max_completion_tokens", request.get("max_output_tokens")))
    first = several[0] if several else None
    return [
        *_places(e.alias), _place(e.api), *_places(str(e.target)), e.stream, len(several),
        (isinstance(first, dict) and first.get("role") in _INSTRUCTING) or "system" in request
        or "instructions" in request,
        len(tools) if isinstance(tools, list) else 0, output_format(request) is not None, _count(limit),
        _number(request.get("temperature")), len(prompt), len(e.request), prompt.count("?"),
    ]  # fmt: skip


_INSTRUCTING = ("system", "developer")


def answer_row(subject: Subject, prompt: str) -> list[float]:
    """The features of _ANSWER, in order, those in _log before their logarithm."""
    e, c, text = subject.exchange, subject.completion, subject.completion.text
    words, facts = text[:_HEAD].split(), subject.text_facts()
    distinct = set(words)
    usage = c.usage or e.usage
    given, made = (NAN, NAN) if usage is None else (usage.input_tokens, usage.output_tokens)
    total_s, size = max(e.total_s, 1e-3), len(text)
    return [
        size, len(c.reasoning), facts.words, facts.repeats, len(distinct) / len(words) if words else NAN,
        _repeated(distinct, prompt), (size + 1) / (len(prompt) + 1), _FINISH.get(c.finish_reason or "", 6.0),
        text.rstrip()[-1:] in _ENDS if text else NAN, len(c.tool_calls), _tools_valid(c), _json_valid(text),
        bool(c.refusal), len(_MARK_SETS["refusals"].intersection(words[:_OPENING])),
        len(distinct & _MARK_SETS["hedges"]), c.error is not None, _OUTCOMES.get(e.outcome, 5.0), e.status / 100.0,
        NAN if c.mean_logprob is None else c.mean_logprob, 1e3 * total_s,
        NAN if e.first_token_s is None else 1e3 * e.first_token_s, given, made, made / total_s,
        len(e.attempts), e.truncated, e.spliced, *_languages(distinct),
    ]  # fmt: skip


def _repeated(distinct: set[str], prompt: str) -> float:
    """The share of the answer's words that the prompt has too."""
    return (
        len(distinct.intersection(prompt.split(None, _PROMPT_WORDS)[:_PROMPT_WORDS])) / len(distinct)
        if distinct
        else NAN
    )


_FINISH = {
    "stop": 0.0, "end_turn": 0.0, "completed": 0.0, "length": 1.0, "max_tokens": 1.0, "tool_calls": 2.0,
    "tool_use": 2.0, "content_filter": 3.0, "refusal": 3.0, "stop_sequence": 4.0, "function_call": 5.0,
}  # fmt: skip
_OUTCOMES = {"ok": 0.0, "client_gone": 1.0, "upstream_error": 2.0, "timeout": 3.0, "cut": 4.0}
_ENDS = frozenset(".!?。！？…`)]}\"'”»|।؟")
_MARKS: Mapping[str, str] = {
    "english": "the and of to is that for with you this are it",
    "german": "der die und das ist nicht ein eine mit für zu den",
    "french": "le la les et des est une pour dans vous pas que",
    "spanish": "el los las y es por con del no una para se",
    "hedges": (
        "perhaps Perhaps maybe Maybe might possibly probably likely seems appears unsure uncertain unclear guess "
        "depends peut-être semble probablement vielleicht wahrscheinlich vermutlich quizás forse"
    ),
    "refusals": (
        "sorry sorry, Sorry, can't can’t cannot unable decline won't unfortunately Unfortunately, désolé désolé, "
        "regrette leid leid, leider Leider siento siento, lamento dispiace dispiace, Purtroppo purtroppo"
    ),
}
_MARK_SETS = {name: frozenset(words.split()) for name, words in _MARKS.items()}
_LANGUAGES: tuple[frozenset[str], ...] = tuple(_MARK_SETS[name] for name in ("english", "german", "french", "spanish"))


_ANY_LANGUAGE = frozenset[str]().union(*_LANGUAGES)


def _languages(distinct: set[str]) -> tuple[int, ...]:
    """How many frequent words of each language there are; of most, none."""
    found = distinct & _ANY_LANGUAGE
    return tuple([len(found & language) for language in _LANGUAGES]) if found else (0,) * len(_LANGUAGES)


def _tools_valid(c: Completion) -> float:
    """The share of the tool calls whose arguments are JSON."""
    if not c.tool_calls:
        return NAN
    return sum(_json_valid(call.arguments or "{}") == 1.0 for call in c.tool_calls) / len(c.tool_calls)


def _json_valid(text: str) -> float:
    """1 or 0 for a text that begins like a JSON object or list, else NaN."""
    start = text[:64].lstrip()[:1]
    if start not in ("{", "["):
        return NAN
    try:
        orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return 0.0
    return 1.0


def _count(value: Any) -> float:
    return value if isinstance(value, int | float) and 0 <= value < 1e18 else NAN


def _number(value: Any) -> float:
    """Bounded, so that it fits 32 bits."""
    return max(-1e6, min(1e6, float(value))) if isinstance(value, int | float) else NAN


@lru_cache(4096)
def _places(name: str) -> tuple[float, float]:
    """Two numbers in [0, 1) for a category: names that one of them puts next to each other, the other tells apart."""
    digest = sha256(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:3]) / 2**24, int.from_bytes(digest[3:6]) / 2**24


def _place(name: str) -> float:
    return _places(name)[0]


def _text_columns(texts: Sequence[str], most: int, grams: int) -> Matrix:
    """For each text the shares of BYTE_CLASSES among its bytes, and of each bucket of hashes among its sequences of
    three bytes; 0 for a text without any. most: bytes of each text that count. Shape (n, len(BYTE_CLASSES) + grams)."""
    cut = [_cut(text, most) for text in texts]
    columns = [_text_rows(part, grams) for part in chunked(cut, _AT_ONCE // most)]
    return np.vstack(columns)


def _cut(text: str, most: int) -> bytes:
    """The beginning and the end of a text."""
    short = text if len(text) <= most else text[: most // 2] + text[-(most // 2) :]
    return short.encode("utf-8", "replace")[:most]


def _text_rows(cut: Sequence[bytes], grams: int) -> Matrix:
    """The same for some of the texts. They are padded with zeros to one length, so that no position needs an index."""
    sizes = np.array([len(each) for each in cut], dtype=np.intp)
    longest = int(sizes.max(initial=0))
    size = longest + 2  # each byte begins a sequence of three
    every: Bytes = np.frombuffer(b"".join([each.ljust(size, b"\0") for each in cut]), dtype=np.uint8)
    square = every.reshape(len(cut), size)
    met = _count_rows(square, 256)
    met[:, 0] = 0.0  # the padding
    lengths = np.maximum(sizes, 1)[:, None].astype(np.float32)
    classes = (met @ _CLASS_MATRIX) / lengths
    wide = square.astype(np.uint16)
    a, b, c = (np.uint16(m) for m in _MULTIPLIERS)
    mixed = wide[:, :-2] * a + wide[:, 1:-1] * b + wide[:, 2:] * c
    buckets = _count_rows(mixed >> np.uint16(17 - grams.bit_length()), grams)
    buckets[:, 0] -= longest - sizes  # a sequence of zeros is in the first bucket
    return np.hstack((classes, buckets / lengths))


def _count_rows(values: NDArray[Any], n: int) -> Matrix:
    """How often each number below n is in each row: shape (rows, n)."""
    rows = len(values)
    places = values + (np.arange(rows, dtype=np.intp) * n)[:, None]
    return np.bincount(places.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float32)


def _class_of(byte: int) -> int:
    """The index in BYTE_CLASSES. Of UTF-8, the first byte of a character tells its script, roughly."""
    if byte < 0x80:
        return _ascii_class(chr(byte))
    starts = (
        (0xC0, "continuation"), (0xCD, "latin"), (0xD4, "greek_cyrillic"), (0xE0, "semitic"), (0xE1, "indic_thai"),
        (0xE3, "symbol"), (0xEA, "cjk"), (0xEE, "hangul"),
    )  # fmt: skip
    return BYTE_CLASSES.index(next((name for before, name in starts if byte < before), "symbol"))


def _ascii_class(char: str) -> int:
    kinds = (
        ("lower", char.islower()), ("upper", char.isupper()), ("digit", char.isdigit()), ("blank", char in " \t"),
        ("line_break", char in "\r\n"), ("sentence", char in ".,;:!?'\""), ("bracket", char in "()[]{}<>"),
        ("markup", char in "*_#`|~-=+/\\$"),
    )  # fmt: skip
    return BYTE_CLASSES.index(next((name for name, holds in kinds if holds), "other_ascii"))


_CLASS_MATRIX: Matrix = np.eye(len(BYTE_CLASSES), dtype=np.float32)[[_class_of(byte) for byte in range(256)]]
"""Shape (256, len(BYTE_CLASSES)): 1 in the column of each byte's class."""
