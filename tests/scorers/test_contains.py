"""The words of the reference, or texts of the config, in the answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.score import Skipped
from gateway.scorers.contains import Contains
from gateway.scoring.golden import check_golden

WORDS = st.lists(st.sampled_from(["paris", "rome", "x1", "über", "zoo"]), min_size=1, max_size=5).map(" ".join)


@pytest.mark.parametrize(
    ("answer", "reference", "by_word", "literally"),
    [
        ("The capital is Paris.", "Paris", 1, 1),
        ("The capital is PARIS!", "the Paris", 1, 0),
        ("a Parisian", "Paris", 0, 1),
        ("New York City", "York New", 0, 0),
        ("New, York", "New York", 1, 0),
        ("", "Paris", 0, 0),
    ],
)
def test_whole_words_or_characters(ask, subject, answer, reference, by_word, literally):
    of = subject(answer, None, reference)
    assert ask(Contains("contains"), of).value == by_word
    assert ask(Contains("contains", literal=True), of).value == literally


@pytest.mark.parametrize(
    ("need", "answer", "expected"),
    [("all", "one two", 1), ("all", "one", 0), ("any", "one", 1), ("any", "", 0), ("none", "", 1), ("none", "two", 0)],
)
def test_texts_of_the_config_need_no_reference(ask, subject, need, answer, expected):
    rule = Contains("c", ("one", "two"), need)
    assert ask(rule, subject(answer)).value == expected
    assert check_golden(rule) == []


def test_the_explanation_names_what_is_missing(ask, subject):
    assert ask(Contains("c", ("one", "two")), subject("one")).explanation == "not found: two"


def test_without_words_to_look_for_nothing_is_scored(ask, subject):
    assert isinstance(ask(Contains("c"), subject("x", None, "!?")), Skipped)
    assert ask(Contains("c", literal=True), subject("what!?", None, "!?")).value == 1
    with pytest.raises(ValueError, match="has no words"):
        Contains("c", ("the",))


@given(WORDS, WORDS, WORDS)
def test_a_text_in_an_answer_is_found(ask, subject, before, reference, after):
    assert ask(Contains("c"), subject(f"{before}, {reference}. {after}", None, reference)).value == 1
