"""Cheap numbers about an exchange, for trees: no model is called except, on request, MiniLM, and no text is kept.

One pass in Python extracts the parts that differ from exchange to exchange. Categories are looked up, since most
exchanges share theirs; logarithms, and the counts of bytes and of hashed three-byte sequences, are computed for a whole
batch at once. A row never depends on the rest of its batch. NaN: does not apply.

Words are runs of ASCII letters, digits, apostrophes, hyphens and all bytes outside ASCII; capitals do not count. They
are hashed for all texts at once, as splitting each text in Python takes three times as long.

The embedding of an answer is a few columns: MiniLM's vector, projected, and its cosine with the prompt's. The
projection is onto directions of fixed random signs, the same in every version and on every machine, so there is nothing
to fit, to store or to read from outside. MiniLM takes hundreds of times as long as the other features: it runs in a
thread, while the event loop continues.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256, shake_256
from operator import attrgetter
from string import ascii_lowercase, ascii_uppercase, digits
from struct import Struct
from typing import Any, NamedTuple, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from gateway.core.chunked import chunked
from gateway.core.completion import Completion
from gateway.core.json_values import as_text, content_text
from gateway.core.output_tokens import OUTPUT_LIMITS
from gateway.core.request_format import last_user_text, output_format
from gateway.scoring.types import Subject
from gateway.scoring.word_arrays import hashed_words

Matrix = NDArray[np.float32]
Hashes = NDArray[np.uint64]
MARKS: Mapping[str, str] = {
    "english": "the and of to is that for with you this are it",
    "german": "der die und das ist nicht ein eine mit für zu den",
    "french": "le la les et des est une pour dans vous pas que",
    "spanish": "el los las y es por con del no una para se",
    "hedge_marks": (
        "perhaps maybe might possibly probably likely seems appears unsure uncertain unclear guess depends peut-être "
        "semble probablement vielleicht wahrscheinlich vermutlich quizás forse"
    ),
    "refusal_marks": (
        "sorry can't can’t cannot unable decline won't unfortunately désolé regrette leid leider siento lamento "
        "dispiace purtroppo"
    ),
}
WORD_FEATURES = ("distinct_words", *MARKS)
MOST_TEXTS = 1 << 10
"""Texts that word_columns takes at once."""
_PADDING = 8 * b" "
_ROW_SHIFT = np.uint64(54)
_SLOT_SHIFT, _SLOT_MULTIPLIER = np.uint64(52), np.uint64(0xBF58476D1CE4E5B9)


def word_columns(texts: Sequence[bytes]) -> Matrix:
    """The columns of WORD_FEATURES: the share of different words, NaN for a text without a word; and the numbers of
    words of MARKS. texts: UTF-8, at most MOST_TEXTS of them. Shape (n, len(WORD_FEATURES))."""
    data = b"".join((b" ", b" ".join(texts), _PADDING)).translate(_LETTERS)
    inside = np.frombuffer(data, dtype=np.uint8) != ord(" ")
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    starts = edges[0::2]
    words = hashed_words(data, starts, edges[1::2])
    sizes = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    counts = np.diff(np.searchsorted(starts, np.concatenate(([0], np.cumsum(sizes + 1)))))
    rows = np.repeat(np.arange(len(texts)), counts)
    return np.column_stack((_distinct(words, rows, counts), _marks(words, rows, len(texts))))


def _distinct(words: Hashes, rows: NDArray[np.int64], counts: NDArray[np.int64]) -> Matrix:
    """Shape (n,). rows: of each word."""
    ordered = np.sort(rows.astype(np.uint64) << _ROW_SHIFT | words * _SLOT_MULTIPLIER >> (np.uint64(64) - _ROW_SHIFT))
    again = ordered[1:][ordered[1:] == ordered[:-1]] >> _ROW_SHIFT
    repeated = np.bincount(again.astype(np.intp), minlength=len(counts))
    return np.where(counts > 0, (counts - repeated) / np.maximum(counts, 1), np.nan).astype(np.float32)


def _marks(words: Hashes, rows: NDArray[np.int64], n: int) -> Matrix:
    """Shape (n, len(MARKS))."""
    slots = _slots(words)
    met = np.flatnonzero(_SLOTS.take(slots) == words)
    places = rows[met, None] * len(MARKS) + np.arange(len(MARKS))
    weights = _SLOT_MARKS[slots[met]]
    found = np.bincount(places.ravel(), weights.ravel(), minlength=n * len(MARKS))
    return found.reshape(n, len(MARKS)).astype(np.float32)


def _slots(words: Hashes) -> NDArray[np.intp]:
    """The place of each word in _SLOTS; no two words of MARKS share one."""
    return (words * _SLOT_MULTIPLIER >> _SLOT_SHIFT).astype(np.intp)


def _hash(word: str) -> Hashes:
    data = word.encode()
    return hashed_words(data + _PADDING, np.array([0]), np.array([len(data)]))


def _table() -> tuple[Hashes, Matrix]:
    """The words of MARKS by slot, 0 where there is none; and 1 for each of MARKS that has the word."""
    slots = np.zeros(1 << (64 - int(_SLOT_SHIFT)), dtype=np.uint64)
    marks = np.zeros((len(slots), len(MARKS)), dtype=np.float32)
    for at, words in enumerate(MARKS.values()):
        for word in words.split():
            [slot] = _slots(hashed := _hash(word))
            slots[slot] = hashed[0]
            marks[slot, at] = 1.0
    return slots, marks


_SLOTS, _SLOT_MARKS = _table()


def _letter(byte: int) -> int:
    char = chr(byte)
    if byte >= 0x80:
        return byte
    return ord(char.lower()) if char.isalnum() or char in "'-" else ord(" ")


_LETTERS = bytes(map(_letter, range(256)))
"""The table for bytes.translate: small letters, and a blank for everything between words."""


NAN = math.nan
_COUNTED = 192  # bytes of the last message and of the answer: half of their beginning, half of their end
_AT_ONCE = 256  # exchanges that are counted at once: their temporary arrays stay in the processor's cache
_GRAMS = 16  # buckets of hashes
_MULTIPLIERS = (40_503, 25_173, 13_849)  # odd, so that each byte changes the hash, of 16 bits


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


BYTE_CLASSES = _names(
    "lower upper digit blank line_break sentence bracket markup other_ascii latin greek_cyrillic semitic indic_thai "
    "cjk hangul symbol continuation"
)
_CATEGORIES = _names("alias_a alias_b api target_a target_b stream outcome status truncated spliced finish_reason")
_NUMBERS = _names(
    "messages system tools wants_json temperature question_marks complete_sentence tool_calls tool_json json "
    "refusal_field error mean_logprob attempts"
)
_LOGS = _names(
    "max_tokens_log prompt_log request_bytes_log answer_log reasoning_log total_log first_token_log input_tokens_log "
    "output_tokens_log answer_to_prompt_log tokens_a_second_log"
)
FEATURES: tuple[str, ...] = (
    *_CATEGORIES,
    *_NUMBERS,
    *_LOGS,
    *(f"request_{name}" for name in BYTE_CLASSES),
    *(f"request_gram_{bucket}" for bucket in range(_GRAMS)),
    *(f"answer_{name}" for name in BYTE_CLASSES),
    *WORD_FEATURES,
)
"""A feature whose meaning changes gets another name: models and stored features of other names are not used."""


def feature_set(names: Sequence[str]) -> str:
    """12 hexadecimal digits that differ where the names or their order differ."""
    return sha256("\0".join(names).encode()).hexdigest()[:12]


class FeatureExtractor:
    """Extracts features. names, set: of the columns of `matrix`. known: combinations of categories to remember."""

    names = FEATURES
    set = feature_set(FEATURES)

    def __init__(self, known: int = 4096) -> None:
        self._most_known = known
        self._known: dict[tuple[Any, ...], bytes] = {}

    def matrix(self, subjects: Sequence[Subject]) -> Matrix:
        """Shape (n, len(FEATURES))."""
        return np.vstack([self._rows(some) for some in chunked(subjects, _AT_ONCE)])

    def _rows(self, subjects: Sequence[Subject]) -> Matrix:
        prompts = [prompt_of(s.request) for s in subjects]
        categories = np.frombuffer(b"".join([self._categories(s) for s in subjects]), dtype=np.float32)
        rows = np.frombuffer(b"".join([_packed_row(s, p) for s, p in zip(subjects, prompts, strict=True)]))
        answers = [_cut(s.completion.text) for s in subjects]
        return np.hstack(
            (
                categories.reshape(len(subjects), len(_CATEGORIES)),
                *_numbers(rows.reshape(len(subjects), _IN_ROW)),
                _text_columns([_cut(prompt) for prompt in prompts], grams=True),
                _text_columns(answers, grams=False),
                word_columns(answers),
            )
        )

    def _categories(self, s: Subject) -> bytes:
        """The columns of _CATEGORIES, as 32-bit floats."""
        key = _category_of(s.exchange), s.completion.finish_reason
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= self._most_known:
                self._known.clear()
            found = self._known[key] = _category_columns(s)
        return found


_category_of = attrgetter(
    *_names("alias api target.upstream target.model target.variant stream outcome status truncated spliced")
)


def _category_columns(s: Subject) -> bytes:
    e = s.exchange
    named = (*_places(e.alias), _places(e.api)[0], *_places(str(e.target)))
    outcome, finish = _OUTCOMES.get(e.outcome, 5.0), _FINISH.get(s.completion.finish_reason or "", 6.0)
    columns = [*named, e.stream, outcome, e.status / 100.0, e.truncated, e.spliced, finish]
    return np.array(columns, dtype=np.float32).tobytes()


def prompt_of(request: Mapping[str, Any]) -> str:
    """The last message of the request, in any API's form; "" where it has no text."""
    messages = request.get("messages")
    if isinstance(messages, list) and messages:
        return _text_of(messages[-1])
    given = request.get("input", request.get("prompt"))
    if isinstance(given, list):
        return _text_of(given[-1]) if given else ""
    return as_text(given)


def _text_of(message: Any) -> str:
    content = message.get("content") if isinstance(message, dict) else message
    return content_text(content, "\n")


_IN_ROW = len(_NUMBERS) + len(_LOGS) - 2  # the last two logarithms are of quotients
_row = Struct(f"{_IN_ROW}d")


def _packed_row(s: Subject, prompt: str) -> bytes:
    """_NUMBERS, and the numbers of which the first of _LOGS are the logarithms."""
    e, c, request = s.exchange, s.completion, s.request
    usage, text, calls = c.usage or e.usage, c.text, c.tool_calls
    messages, tools = request.get("messages"), request.get("tools")
    asked = (
        len(messages) if isinstance(messages, list) else 0,
        _instructed(request, messages),
        len(tools) if isinstance(tools, list) else 0,
        output_format(request) is not None,
        _number(request.get("temperature")),
        prompt.count("?"),
    )
    whole = text.rstrip()[-1:] in _ENDS if text else NAN
    answered = (whole, len(calls), _tools_valid(c) if calls else NAN, _json_valid(text), bool(c.refusal))
    logprob = NAN if c.mean_logprob is None else c.mean_logprob
    sizes = (_limit(request), len(prompt), len(e.request), len(text), len(c.reasoning))
    times = (1e3 * max(e.total_s, 1e-3), NAN if e.first_token_s is None else 1e3 * e.first_token_s)
    tokens = (NAN, NAN) if usage is None else (usage.input_tokens, usage.output_tokens)
    return _row.pack(*asked, *answered, c.error is not None, logprob, len(e.attempts), *sizes, *times, *tokens)


def _instructed(request: Mapping[str, Any], messages: Any) -> bool:
    """Tells whether there is a system prompt."""
    first = messages[0] if isinstance(messages, list) and messages else None
    if isinstance(first, dict) and first.get("role") in _INSTRUCTING:
        return True
    return "system" in request or "instructions" in request


_INSTRUCTING = ("system", "developer")


def _limit(request: Mapping[str, Any]) -> float:
    for name in OUTPUT_LIMITS:
        value = request.get(name)
        if value is not None:
            return value if isinstance(value, _REAL) and 0 <= value < 1e18 else NAN
    return NAN


_REAL = (int, float)  # each call would build `int | float` again
_FINISHED = (
    "stop end_turn completed",
    "length max_tokens",
    "tool_calls tool_use",
    "content_filter refusal",
    "stop_sequence",
    "function_call",
)
_FINISH = {reason: float(number) for number, reasons in enumerate(_FINISHED) for reason in reasons.split()}
_OUTCOMES = {
    **{"ok": 0.0, "client_gone": 1.0, "client_deadline": 1.0, "blocked": 1.0},
    **{"upstream_error": 2.0, "timeout": 3.0, "cut": 4.0},
}
_ENDS = frozenset(".!?。！？…`)]}\"'”»|।؟")


def _numbers(rows: NDArray[np.float64]) -> tuple[Matrix, Matrix]:
    """The columns of _NUMBERS and _LOGS. rows: as _packed_row, shape (n, _IN_ROW)."""
    at = len(_NUMBERS)
    logs = np.empty((len(rows), len(_LOGS)))
    logs[:, :-2] = rows[:, at:]
    prompt, answer, total_ms, output = (logs[:, _LOGS.index(f"{n}_log")] for n in _QUOTIENTS)
    logs[:, -2] = (answer + 1.0) / (prompt + 1.0)
    logs[:, -1] = 1e3 * output / total_ms
    return rows[:, :at].astype(np.float32), np.log1p(np.maximum(logs, 0.0)).astype(np.float32)


_QUOTIENTS = ("prompt", "answer", "total", "output_tokens")


def _tools_valid(c: Completion) -> float:
    """The share of the tool calls whose arguments are JSON."""
    return sum(_json_valid(call.arguments or "{}") == 1.0 for call in c.tool_calls) / len(c.tool_calls)


def _json_valid(text: str) -> float:
    """1 or 0 for a text that begins like a JSON object or list, else NaN."""
    if text.lstrip()[:1] not in _JSON_STARTS:
        return NAN
    try:
        orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return 0.0
    return 1.0


_JSON_STARTS = frozenset("{[")


def _number(value: Any) -> float:
    """A number within bounds that fit 32 bits; NaN for anything else."""
    if not isinstance(value, _REAL):
        return NAN
    return value if -1e6 <= value <= 1e6 else max(-1e6, min(1e6, float(value)))


@lru_cache(4096)
def _places(name: str) -> tuple[float, float]:
    """Places a category at two numbers in [0, 1): names that are neighbours by one of them differ by the other."""
    digest = sha256(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:3]) / 2**24, int.from_bytes(digest[3:6]) / 2**24


def _cut(text: str) -> bytes:
    """The beginning and the end of a text: at most _COUNTED bytes."""
    half = _COUNTED // 2
    short = text if len(text) <= _COUNTED else f"{text[:half]}\n{text[1 - half :]}"
    return short.encode("utf-8", "replace")[:_COUNTED]


def _text_columns(texts: Sequence[bytes], *, grams: bool) -> Matrix:
    """Computes for each text the shares of BYTE_CLASSES among its bytes and, with grams, of each bucket of hashes among
    its sequences of three bytes; 0 for a text without any. They are padded with zeros to one length, so that no
    position needs an index. Shape (n, len(BYTE_CLASSES) + _GRAMS or 0)."""
    sizes = np.array([len(each) for each in texts], dtype=np.intp)
    longest = int(sizes.max(initial=0))
    size = longest + 2  # each byte begins a sequence of three
    joined = b"".join([each.ljust(size, b"\0") for each in texts])
    codes = np.empty((len(texts), 1 + grams, longest), dtype=np.intp)
    codes[:, 0] = np.frombuffer(joined.translate(_CLASSES), dtype=np.uint8).reshape(-1, size)[:, :-2]
    if grams:
        codes[:, 1] = _grams(joined).reshape(-1, size)[:, :-2]
    kinds = len(BYTE_CLASSES) + _GRAMS * grams
    codes += (np.arange(len(texts), dtype=np.intp) * kinds)[:, None, None]
    counts = np.bincount(codes.ravel(), minlength=len(texts) * kinds).reshape(-1, kinds)
    padded = [_CLASSES[0], len(BYTE_CLASSES)][: 1 + grams]  # zeros have the hash 0
    counts[:, padded] -= (longest - sizes)[:, None]
    lengths: Matrix = np.maximum(sizes, 1).astype(np.float32)
    return np.divide(counts, lengths[:, None], dtype=np.float32)


def _grams(data: bytes) -> NDArray[np.uint16]:
    """The column of the bucket of each sequence of three bytes; of the last two positions, which begin none, 0."""
    wide = np.frombuffer(data, dtype=np.uint8).astype(np.uint16)
    found = np.zeros_like(wide)
    a, b, c = (np.uint16(m) for m in _MULTIPLIERS)
    hashed = wide[:-2] * a + wide[1:-1] * b + wide[2:] * c
    found[:-2] = (hashed >> np.uint16(17 - _GRAMS.bit_length())) + np.uint16(len(BYTE_CLASSES))
    return found


def _class_of(byte: int) -> int:
    """The index in BYTE_CLASSES. Of UTF-8, the first byte of a character tells its script, roughly."""
    if byte < 0x80:
        return BYTE_CLASSES.index(next((name for name, chars in _ASCII.items() if chr(byte) in chars), "other_ascii"))
    return BYTE_CLASSES.index(next((name for name, before in _SCRIPTS.items() if byte < before), "symbol"))


_SCRIPTS = {  # the first byte that is not of the class
    "continuation": 0xC0,
    "latin": 0xCD,
    "greek_cyrillic": 0xD4,
    "semitic": 0xE0,
    "indic_thai": 0xE1,
    "symbol": 0xE3,
    "cjk": 0xEA,
    "hangul": 0xEE,
}
_ASCII = {
    "lower": ascii_lowercase,
    "upper": ascii_uppercase,
    "digit": digits,
    "blank": " \t",
    "line_break": "\r\n",
    "sentence": ".,;:!?'\"",
    "bracket": "()[]{}<>",
    "markup": "*_#`|~-=+/\\$",
}


_CLASSES = bytes(_class_of(byte) for byte in range(256))
"""The table for bytes.translate: the index of each byte's class."""


_WIDTH, _DIRECTIONS = 384, 16
_CHARACTERS = 512  # of each text, its beginning: it bounds what a long answer costs
EMBEDDING_FEATURES = (*(f"minilm_{i}" for i in range(_DIRECTIONS)), "minilm_answer_to_prompt")
"""Numbers without a unit; NaN where a text is empty. The last is the cosine of the answer and the last user message."""


def feature_names(*, embedding: bool) -> tuple[str, ...]:
    """Names of all features that a model may use, in order."""
    return (*FeatureExtractor.names, *(EMBEDDING_FEATURES if embedding else ()))


class TextVectors(Protocol):
    """MiniLM of gateway.scorers.minilm."""

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


class Embedded(NamedTuple):
    """Columns of shape (n, len(EMBEDDING_FEATURES)), and the seconds of processor time that they cost."""

    columns: Matrix
    cpu_s: float


class EmbeddingColumns:
    """Computes columns from MiniLM's vectors. load: reads the weights, when they are first needed."""

    def __init__(self, load: Callable[[], TextVectors]) -> None:
        self._load = load
        self._directions = _random_signs()

    def of(self, subjects: Sequence[Subject]) -> Embedded:
        """Takes milliseconds for each subject; call it in a thread."""
        began = time.thread_time()
        answers = [s.completion.text[:_CHARACTERS] for s in subjects]
        prompts = [(last_user_text(s.request) or "")[:_CHARACTERS] for s in subjects]
        known = self._vectors({text for text in (*answers, *prompts) if text.strip()})
        nothing = np.full(_WIDTH, np.nan, dtype=np.float32)
        a = np.array([known.get(text, nothing) for text in answers], dtype=np.float32).reshape(-1, _WIDTH)
        p = np.array([known.get(text, nothing) for text in prompts], dtype=np.float32).reshape(-1, _WIDTH)
        columns = np.hstack((a @ self._directions, (a * p).sum(axis=1, keepdims=True)))
        return Embedded(columns, time.thread_time() - began)

    def _vectors(self, texts: set[str]) -> dict[str, NDArray[np.float32]]:
        ordered = sorted(texts, key=lambda text: (len(text), text))  # the same batch always has the same rounding
        return dict(zip(ordered, self._load().vectors(ordered), strict=True)) if ordered else {}


def _random_signs() -> Matrix:
    """Shape (384, 16), each ±1 / 4, so that lengths stay about the same. Source: Achlioptas 2003, "Database-friendly
    random projections", J. Comput. Syst. Sci. 66."""
    # The text is part of stored models: another one would give other directions.
    raw = np.frombuffer(shake_256(b"gateway.evals.learned.embedding").digest(_WIDTH * _DIRECTIONS // 8), dtype=np.uint8)
    signs = np.unpackbits(raw).astype(np.float32).reshape(_WIDTH, _DIRECTIONS)
    return (2.0 * signs - 1.0) / np.float32(np.sqrt(_DIRECTIONS))
