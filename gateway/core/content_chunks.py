"""Cuts a body into chunks whose bounds depend on the bytes near them (content-defined chunking, as in backup programs).

A body that repeats most of another one has most of its chunks, wherever something was added, changed or left out. Any
cut is right, since the chunks in order are the body: nothing is parsed here, and the body need not be JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import blake2b
from zlib import crc32

DIGEST_BYTES = 16
COARSE_BYTES, FINE_BYTES = 2_048, 512
"""A chunk ends with an element of at least this size. A quarter of smaller ones, chosen by their bytes, end a chunk
that has reached it."""
MOST_BYTES = 16_384
"""Size beyond which a chunk of smaller elements ends with the next one. A larger element is one chunk."""

# After an object in an array, whether another one follows or not: a message that was the last one of a call ends at
# the same place in the next call. Such bytes within a text are as good a place as any.
_END = re.compile(rb"\}(?=\s*(?:,\s*\{|\]))")
_NEAR = 64
"""Bytes before an end that decide about it. The next end is looked for after as many, so that the work on a body of
braces is bounded by its size."""
_ONE_OF = 4


def ends(body: bytes, least: int) -> Iterator[int]:
    """The ends of the chunks, in order. least: COARSE_BYTES or FINE_BYTES."""
    start, at = 0, least - 1
    while (match := _END.search(body, at)) is not None:
        end = match.end()
        if end - start >= MOST_BYTES or _is_large(body, end, least) or _chosen(body, end):
            yield end
            start, at = end, end + least - 1
        else:
            at = end + _NEAR - 1


def _is_large(body: bytes, end: int, least: int) -> bool:
    """Whether the element that ends here has `least` bytes: no other one ends within them."""
    return _END.search(body, end - least, end) is None


def _chosen(body: bytes, end: int) -> bool:
    return crc32(body[max(0, end - _NEAR) : end]) % _ONE_OF == 0


def split(body: bytes, least: int = COARSE_BYTES) -> tuple[list[bytes], bytes]:
    """The chunks, and the rest, which is small: a system prompt at the end is a chunk too. least: as for `ends`."""
    found, start = [], 0
    for end in ends(body, least):
        found.append(body[start:end])
        start = end
    rest = body[start:]
    return (found, rest) if len(rest) < least else ([*found, rest], b"")


def digest(chunk: bytes) -> bytes:
    return blake2b(chunk, digest_size=DIGEST_BYTES).digest()
