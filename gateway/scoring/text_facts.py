"""Facts that rules ask of an answer's text word by word, computed for the texts of a whole batch at once.

In pure Python, splitting a text of 1 KB and comparing its 4-grams takes longer than everything else that rules do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

GRAM = 4
FEW = 8  # so few texts take longer in arrays than one by one
MAX_BYTES = 1 << 17  # of texts in arrays at the same time: more leave the processor's cache

_SPACES = "".join(map(chr, (0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)))
_TAB, _SEPARATOR = np.uint8(9), np.uint8(28)  # str.split() splits at the five characters from each of these on
_WIDE_SPACE = np.array([int.from_bytes(c.encode(), "big") for c in _SPACES], dtype=np.uint32)
_LEADING = 0xC2  # the lowest first byte of a character of several bytes
_WINDOW = 8
_MASKS = np.array([(1 << (8 * n)) - 1 for n in range(_WINDOW + 1)], dtype=np.uint64)
_MULTIPLIER, _TEXT_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)


class TextFacts(NamedTuple):
    words: int
    """The number of words, split at white space."""
    repeats: bool
    """Whether the same GRAM words in a row may occur twice. False is certain."""


class BatchTexts:
    """The texts of a batch. The facts of all are computed when those of the first are asked for."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._facts: list[TextFacts] = []

    def add(self, text: str) -> tuple[BatchTexts, int]:
        """The batch, and the text's index in it."""
        self._texts.append(text)
        return self, len(self._texts) - 1

    def facts(self, index: int) -> TextFacts:
        if len(self._facts) < len(self._texts):
            self._facts = text_facts(self._texts)
        return self._facts[index]


def text_facts(texts: Sequence[str], most_bytes: int = MAX_BYTES) -> list[TextFacts]:
    """The facts of each text. most_bytes: of texts in arrays at the same time."""
    if len(texts) < FEW:
        return [facts_of_words(text.split()) for text in texts]
    return [facts for group in _groups(texts, most_bytes) for facts in _facts_of_group(group)]


def facts_of_words(words: Sequence[str]) -> TextFacts:
    """The facts of the text that consists of these words."""
    return TextFacts(len(words), len(set(grams(words))) < len(words) - GRAM + 1)


def grams(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    return zip(words, words[1:], words[2:], words[3:], strict=False)


def _groups(texts: Sequence[str], most_bytes: int) -> Iterator[list[bytes]]:
    group: list[bytes] = []
    size = 0
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        if group and size + len(encoded) > most_bytes:
            yield group
            group, size = [], 0
        group.append(encoded)
        size += len(encoded)
    yield group


def _facts_of_group(texts: Sequence[bytes]) -> list[TextFacts]:
    joined = bytearray(b"\n" + b"\n".join(texts) + _WINDOW * b"\n")
    space = _spaces(np.frombuffer(joined, dtype=np.uint8))
    edges = np.flatnonzero(space[1:] != space[:-1]) + 1
    starts, ends = edges[0::2], edges[1::2]
    sizes = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    bounds = np.concatenate(([0], np.cumsum(sizes + 1)))
    counts = np.diff(np.searchsorted(starts, bounds))
    repeating = _repeating(hashed_words(joined, starts, ends), counts)
    return [TextFacts(n, at in repeating) for at, n in enumerate(counts.tolist())]


def _spaces(data: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Marks the bytes of white space, all bytes of such a character. `data` ends with at least two bytes of ASCII."""
    space: NDArray[np.bool_] = (data - _TAB < 5) | (data - _SEPARATOR < 5)  # below, they wrap around
    leading = np.flatnonzero(data >= _LEADING)
    if leading.size:
        two = (data[leading].astype(np.uint32) << 8) | data[leading + 1]
        three = (two << 8) | data[leading + 2]
        wide = leading[np.isin(three, _WIDE_SPACE)]
        space[wide] = space[wide + 1] = space[wide + 2] = True
        narrow = leading[np.isin(two, _WIDE_SPACE)]
        space[narrow] = space[narrow + 1] = True
    return space


def hashed_words(data: bytes | bytearray, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Equal for equal words: a word's bytes where it has at most eight, else a hash of the first and last eight.

    data: ends with at least eight bytes that are in no word. starts, ends: of the words, in bytes.
    """
    windows = np.ndarray((len(data) - _WINDOW + 1,), dtype="<u8", buffer=data, strides=(1,))
    lengths = ends - starts
    words: NDArray[np.uint64] = windows[starts] & _MASKS[np.minimum(lengths, _WINDOW)]
    long = np.flatnonzero(lengths > _WINDOW)
    words[long] = (words[long] ^ lengths[long].astype(np.uint64)) * _MULTIPLIER ^ windows[ends[long] - _WINDOW]
    return words


def _repeating(words: NDArray[np.uint64], counts: NDArray[np.int64]) -> frozenset[int]:
    """The indexes of texts in which a gram may occur twice. counts: the number of words of each text, in order.

    Each word also stands for its text. So grams that reach into the next text have no effect: they equal no other.
    """
    last = len(words) - GRAM + 1
    if last < 2:
        return frozenset()
    each = np.arange(len(counts))
    words = words + np.repeat(each.astype(np.uint64) * _TEXT_MULTIPLIER, counts)
    hashed = words[:last]
    for more in range(1, GRAM):
        hashed = hashed * _MULTIPLIER + words[more : more + last]
    ordered = np.sort(hashed)
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    return frozenset(np.repeat(each, counts)[:last][np.isin(hashed, again)].tolist()) if again.size else frozenset()
