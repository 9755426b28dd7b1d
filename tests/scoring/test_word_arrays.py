"""Words in arrays: equal words have equal hashes, and texts are counted by words of any length."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.scoring.word_arrays import counted, hashed_words

WORDS = ["a", "b", "ab", "eightlet", "eightleu", "internationalisation", "internationalization", "ß", "日本"]


def test_words_have_equal_hashes_exactly_where_they_are_equal() -> None:
    words = [word.encode() for word in [*WORDS, *reversed(WORDS)]]
    data = bytearray(b" " + b" ".join(words) + 8 * b" ")
    ends = 1 + np.cumsum([len(word) + 1 for word in words]) - 1
    found = hashed_words(data, ends - [len(word) for word in words], ends).tolist()
    assert found[: len(WORDS)] == found[len(WORDS) :][::-1]
    assert len(set(found)) == len(WORDS)


@pytest.mark.parametrize(("gram", "repeats"), [(1, True), (2, True), (3, False)])
def test_a_repeat_has_as_many_words_as_asked(gram: int, repeats: bool) -> None:
    assert counted([b"one two three one two", b"one two", b""], gram) == [(5, repeats), (2, False), (0, False)]
