"""Words as SQuAD counts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.evals.scorers.squad import f1, words


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
    assert words(text) == expected


WORDS = st.lists(st.sampled_from("abc"))


@given(WORDS, WORDS)
def test_f1_is_symmetric_bounded_and_1_for_the_same_words(a, b):
    assert f1(a, b) == f1(b, a)
    assert 0 <= f1(a, b) <= 1
    assert f1(a, sorted(a)) == 1


def test_repeats_count_as_often_as_in_both():
    assert f1(["a", "a", "b"], ["a", "c"]) == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))
