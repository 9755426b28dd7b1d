"""The words of a verdict."""

from __future__ import annotations

import pytest

from gateway.evals.annotation.verdict_words import LabelVerdict, verdict


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("g", LabelVerdict(1.0, "good")), ("Good", LabelVerdict(1.0, "good")), ("yes", LabelVerdict(1.0, "good")),
        ("b it is wrong", LabelVerdict(0.0, "bad", "it is wrong")), ("n", LabelVerdict(0.0, "bad")),
        ("0.7", LabelVerdict(0.7)), ("1", LabelVerdict(1.0, "good")), ("0: no", LabelVerdict(0.0, "bad", "no")),
        ("s too long", LabelVerdict(None, None, "too long")), ("q", LabelVerdict(None, stop=True)),
    ],
)  # fmt: skip
def test_of_an_answer(text, expected):
    assert verdict(text, "exchange") == expected


@pytest.mark.parametrize(
    ("text", "straight", "turned"),
    [("1", 0.0, 1.0), ("2", 1.0, 0.0), ("t", 0.5, 0.5), ("neither", 0.5, 0.5), ("first, clearly", 0.0, 1.0)],
)
def test_of_a_pair_it_is_the_preference_for_the_second_answer_however_they_stood(text, straight, turned):
    assert verdict(text, "pair").value == straight
    assert verdict(text, "pair", turned=True).value == turned


@pytest.mark.parametrize(("subject", "texts"), [("exchange", ["", "2", "-1", "nan"]), ("pair", ["g", "3", "maybe"])])
def test_anything_else_is_no_verdict_and_says_what_is(subject, texts):
    for text in texts:
        with pytest.raises(ValueError, match=r"is no verdict: .*s skip"):
            verdict(text, subject)
