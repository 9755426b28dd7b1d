"""A sequence in pieces of a fixed size. (itertools.batched needs Python 3.12.)"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def chunked(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` values, in order; the last one may be shorter. Without values, no list."""
    rest = iter(values)
    while chunk := list(islice(rest, size)):
        yield chunk
