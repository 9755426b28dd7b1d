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
_NEAR = 64  # bytes before an end that decide about it
_ONE_OF = 4


def ends(body: bytes, least: int) -> Iterator[int]:
    """The ends of the chunks, in order. least: COARSE_BYTES or FINE_BYTES."""
    start = element = 0
    for match in _END.finditer(body):
        end = match.end()
        size = end - start
        if end - element >= least or size >= MOST_BYTES or (size >= least and _chosen(body, end)):
            yield end
            start = end
        element = end


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
