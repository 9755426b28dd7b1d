"""Words of many texts in arrays: their bounds, their hashes, and which texts repeat themselves.

text_facts.py computes the facts of a batch with it, the predictor (features/learned) its features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SPACES = "".join(map(chr, (0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)))
_TAB, _SEPARATOR = np.uint8(9), np.uint8(28)  # str.split() splits at the five characters from each of these on
_WIDE_SPACE = np.array([int.from_bytes(c.encode(), "big") for c in _SPACES], dtype=np.uint32)
_LEADING = 0xC2  # the lowest first byte of a character of several bytes
_WINDOW = 8
_MASKS = np.array([(1 << (8 * n)) - 1 for n in range(_WINDOW + 1)], dtype=np.uint64)
_MULTIPLIER, _TEXT_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)


def counted(texts: Sequence[bytes], gram: int) -> list[tuple[int, bool]]:
    """The number of words of each text, and whether the same `gram` words in a row may occur twice in it."""
    joined = bytearray(b"\n" + b"\n".join(texts) + _WINDOW * b"\n")
    space = _spaces(np.frombuffer(joined, dtype=np.uint8))
    edges = np.flatnonzero(space[1:] != space[:-1]) + 1
    starts, ends = edges[0::2], edges[1::2]
    sizes = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    bounds = np.concatenate(([0], np.cumsum(sizes + 1)))
    counts = np.diff(np.searchsorted(starts, bounds))
    repeating = _repeating(hashed_words(joined, starts, ends), counts, gram)
    return [(n, at in repeating) for at, n in enumerate(counts.tolist())]


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


def _repeating(words: NDArray[np.uint64], counts: NDArray[np.int64], gram: int) -> frozenset[int]:
    """The indexes of texts in which a gram may occur twice. counts: the number of words of each text, in order.

    Each word also stands for its text. So grams that reach into the next text have no effect: they equal no other.
    """
    last = len(words) - gram + 1
    if last < 2:
        return frozenset()
    each = np.arange(len(counts))
    words = words + np.repeat(each.astype(np.uint64) * _TEXT_MULTIPLIER, counts)
    hashed = words[:last]
    for more in range(1, gram):
        hashed = hashed * _MULTIPLIER + words[more : more + last]
    ordered = np.sort(hashed)
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    return frozenset(np.repeat(each, counts)[:last][np.isin(hashed, again)].tolist()) if again.size else frozenset()
