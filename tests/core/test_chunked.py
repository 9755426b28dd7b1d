"""A sequence in pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.chunked import chunked


@given(st.lists(st.integers(), max_size=40), st.integers(1, 12))
def test_chunks_joined_are_the_values_again(values: list[int], size: int) -> None:
    chunks = list(chunked(values, size))
    assert [value for chunk in chunks for value in chunk] == values
    assert all(len(chunk) == size for chunk in chunks[:-1])
    assert all(0 < len(chunk) <= size for chunk in chunks)


def test_an_iterator_is_read_no_further_than_one_chunk() -> None:
    values = iter(range(5))
    assert next(chunked(values, 2)) == [0, 1]
    assert next(values) == 2
