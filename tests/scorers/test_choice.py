"""The option that an answer chooses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.score import Skipped
from gateway.scorers.choice import Choice
from gateway.scoring.golden import check_golden

WORDS = ("yes", "no", "not sure")


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("B", "B"),
        (" (b). ", "B"),
        ("**B**", "B"),
        ("The answer is B.", "B"),
        ("A is tempting, but it is wrong. Answer: (B)", "B"),
        ("Answer: B) Paris, not A) Rome", "B"),
        ("I would say B", "B"),
        ("I would take a bus: [b]", "B"),
        ("A or B", "none"),
        ("a cat", "none"),
        ("", "none"),
        ("ABBA", "none"),
    ],
)
def test_the_choice_of_an_answer(ask, subject, answer, label):
    score = ask(Choice("c"), subject(answer, None, "B"))
    assert (score.label, score.value) == (label, float(label == "B"))


@pytest.mark.parametrize(
    ("answer", "label"),
    [("Yes.", "yes"), ("I am not sure", "not sure"), ("No, never", "no"), ("yes and no", "none"), ("Verdict: NO", "no"),
     ("I know", "none")],
)  # fmt: skip
def test_choices_may_be_words(ask, subject, answer, label):
    score = ask(Choice("c", WORDS), subject(answer, None, "yes"))
    assert (score.label, score.value) == (label, float(label == "yes"))


@given(st.sampled_from(WORDS), st.sampled_from(WORDS), st.sampled_from(["{}", "Answer: {}!", "the verdict is ({})"]))
def test_a_choice_is_right_exactly_when_it_is_the_references(ask, subject, one, other, form):
    score = ask(Choice("c", WORDS), subject(form.format(one), None, other))
    assert score.value == float(one == other)


def test_a_reference_that_is_not_a_choice_is_not_scored(ask, subject):
    assert isinstance(ask(Choice("c"), subject("B", None, "E")), Skipped)


@pytest.mark.parametrize("choices", [("A",), ("A", "a"), ("A", " ")])
def test_choices_are_at_least_two_different_ones(choices):
    with pytest.raises(ValueError, match="at least two"):
        Choice("c", choices)


@pytest.mark.parametrize("choices", [("yes", "no"), ("1", "2"), ("entailment", "neutral", "contradiction")])
def test_its_golden_cases_hold_for_any_choices(choices):
    assert check_golden(Choice("c", choices)) == []
