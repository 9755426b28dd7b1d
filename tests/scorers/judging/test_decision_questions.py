"""Questions about an answer, on the wire and back: properties that need no model."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scorers.judging.decision_questions import (
    MAX_SENTENCES,
    DecidedAnswer,
    JudgedQuestion,
    MissingAnswer,
    decision_input,
    read_answers,
    sentences,
    value_of,
    wire_questions,
)

SCALE = JudgedQuestion(score="How well?", levels=("badly", "so so", "well"))
CHOICE = JudgedQuestion(choice="Which?", options=("a", "b", "c"), good=("a", "c"))
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def test_sentences_end_at_marks_and_lines():
    assert sentences("One. Two!\n\nThree? 4.5 is a number") == ["One.", "Two!", "Three?", "4.5 is a number"]
    assert sentences(" \n ") == []
    assert len(sentences("a. " * 100)) == MAX_SENTENCES


@given(st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3).filter(lambda p: sum(p) > 0.01))
def test_a_value_is_in_its_bounds_and_rises_with_the_better_options(weights: list[float]) -> None:
    total = sum(weights)
    p = [weight / total for weight in weights]
    scale = value_of(SCALE, DecidedAnswer({str(n): share for n, share in enumerate(p)}))
    choice = value_of(CHOICE, DecidedAnswer(dict(zip("abc", p, strict=True))))
    assert math.isclose(scale, p[1] / 2 + p[2], abs_tol=1e-9)
    assert math.isclose(choice, p[0] + p[2], abs_tol=1e-9)
    assert 0.0 <= scale <= 1.0
    assert 0.0 <= choice <= 1.0


@given(st.lists(JSON, min_size=3, max_size=3))
def test_any_reply_is_read_as_probabilities_or_as_missing(answers: list[Any]) -> None:
    asked = [
        wire
        for name, question in (("p", JudgedQuestion(predicate="It is.")), ("s", SCALE), ("c", CHOICE))
        for wire in wire_questions(name, question, 0)
    ]
    typed = [{**a, "type": q["type"]} if isinstance(a, dict) else a for a, q in zip(answers, asked, strict=True)]
    for answer in read_answers({"answers": typed}, asked):
        if isinstance(answer, MissingAnswer):
            assert str(answer).startswith(("refused: ", "unreadable: "))
        else:
            assert all(0.0 <= p <= 1.0 for p in answer.probabilities.values())
            assert math.isclose(sum(answer.probabilities.values()), 1.0, abs_tol=1e-9)


@pytest.mark.parametrize("reply", [{}, {"answers": {}}, {"answers": []}, {"answers": [{}, {}]}])
def test_a_reply_of_another_length_is_refused_as_a_whole(reply: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="for 1 questions"):
        read_answers(reply, wire_questions("p", JudgedQuestion(predicate="It is."), 0))


def test_rounded_probabilities_are_scaled_to_their_sum():
    answer = {"type": "choice", "probabilities": [{"value": v, "probability": 0.33} for v in "abc"]}
    (read,) = read_answers({"answers": [answer]}, wire_questions("c", CHOICE, 0))
    assert isinstance(read, DecidedAnswer)
    assert math.isclose(sum(read.probabilities.values()), 1.0)


def test_a_label_mass_and_a_confidence_are_kept_as_detail():
    answer = {"type": "predicate", "probability": 0.5, "confidence": 0.25, "label_mass": 0.125, "other": "x"}
    (read,) = read_answers({"answers": [answer]}, wire_questions("p", JudgedQuestion(predicate="It is."), 0))
    assert isinstance(read, DecidedAnswer)
    assert read.detail == {"confidence": 0.25, "label_mass": 0.125}


@given(st.text(), st.text())
def test_every_text_stays_in_its_member(answer: str, reference: str) -> None:
    _, user = decision_input({"answer": answer, "reference": reference})
    assert list(json.loads(user["content"])) == ["answer", "reference"]
