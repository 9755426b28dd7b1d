"""What words say of a text: how many of them differ, its language, and whether it hedges or refuses. Pure.

Words are runs of ASCII letters, digits, apostrophes, hyphens and all bytes outside ASCII; capitals do not count. They
are hashed for all texts at once, as splitting each text in Python takes three times as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gateway.scoring.text_facts import hashed_words

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
"""At once."""
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
    return ord(char.lower()) if byte >= 0x80 or char.isalnum() or char in "'-" else ord(" ")


_LETTERS = bytes(byte if byte >= 0x80 else _letter(byte) for byte in range(256))
"""For bytes.translate: small letters, and a blank for what is between words."""
