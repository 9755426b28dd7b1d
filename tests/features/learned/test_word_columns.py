"""Words are counted and recognised in the texts of a batch, whatever their case and punctuation."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gateway.features.learned.word_columns import MARKS, WORD_FEATURES, word_columns


def columns(text: str) -> dict[str, float]:
    return dict(zip(WORD_FEATURES, word_columns([text.encode()])[0].tolist(), strict=True))


def test_words_are_counted_whatever_their_case_and_punctuation() -> None:
    found = columns("SORRY! I can’t — (unfortunately), not: désolé")
    assert (found["refusal_marks"], found["distinct_words"]) == (4, 1)
    assert columns("A-b a-B, 'c' \"c\"")["distinct_words"] == 0.75
    assert np.isnan(columns("?!")["distinct_words"])


def test_every_word_that_is_looked_for_is_found() -> None:
    """None shares its slot of the table with another."""
    for name, words in MARKS.items():
        for word in words.split():
            assert columns(word)[name] == 1, word


@given(st.lists(st.text("aAbB'ü .,\n\0", max_size=30), min_size=1, max_size=20))
def test_the_share_of_different_words_is_that_of_python(texts: list[str]) -> None:
    expected = []
    for text in texts:
        words = re.findall("[abü']+", text.lower())
        expected.append(len(set(words)) / len(words) if words else np.nan)
    np.testing.assert_array_equal(word_columns([t.encode() for t in texts])[:, 0], np.array(expected, dtype=np.float32))
