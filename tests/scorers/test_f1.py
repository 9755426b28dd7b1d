"""F1 of words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scorers.f1 import F1, f1_of_words, normalized_words


@pytest.mark.parametrize(
    ("answer", "reference", "value"),
    [("the cat sat", "cat sat", 1.0), ("cat", "cat sat down", 0.5), ("dog", "cat", 0.0), ("an", "the", 1.0)],
)
def test_the_value_is_the_overlap(ask, subject, answer, reference, value):
    assert ask(F1("f1"), subject(answer, None, reference)).value == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Cat.", ["cat"]),
        ("a an the", []),
        ("An apple-a-day", ["appleaday"]),
        ("U.S.A.", ["usa"]),
        ("theatre", ["theatre"]),
        ("Äpfel  und\tBirnen", ["äpfel", "und", "birnen"]),
    ],
)
def test_case_punctuation_and_articles_are_dropped(text, expected):
    assert normalized_words(text) == expected


WORDS = st.lists(st.sampled_from("abc"))


@given(WORDS, WORDS)
def test_f1_is_symmetric_bounded_and_1_for_the_same_words(a, b):
    assert f1_of_words(a, b) == f1_of_words(b, a)
    assert 0 <= f1_of_words(a, b) <= 1
    assert f1_of_words(a, sorted(a)) == 1


def test_repeats_count_as_often_as_in_both():
    assert f1_of_words(["a", "a", "b"], ["a", "c"]) == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))
