"""The section `decisions`: what a question and a certificate may say."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config.decisions import DecisionsConfig, QuestionConfig


def test_a_certificate_has_the_defaults_of_the_section() -> None:
    section = DecisionsConfig.model_validate(
        {"wrong": 0.1, "certificates": {"a": {"scorer": "s"}, "b": {"scorer": "s", "wrong": 0.02, "confidence": 0.95}}}
    )
    plain, own = section.certificates["a"], section.certificates["b"]
    assert (section.wrong_of(plain), section.confidence_of(plain)) == (0.1, 0.9)
    assert (section.wrong_of(own), section.confidence_of(own)) == (0.02, 0.95)


@pytest.mark.parametrize(
    "question",
    [
        {"predicate": "It is late."},
        {"choice": "Which team?", "choices": ["billing", "other"]},
        {"score": "How upset?", "levels": ["calm", "furious"]},
    ],
)
def test_a_question_is_of_one_kind(question: dict[str, Any]) -> None:
    QuestionConfig.model_validate({"model": "decide", **question})


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({}, "got none"),
        ({"predicate": "a", "score": "b", "levels": ["x", "y"]}, "predicate and score"),
        ({"choice": "a"}, "needs it"),
        ({"predicate": "a", "levels": ["x", "y"]}, "belongs to `score`"),
        ({"choice": "a", "choices": ["x", "x"]}, "all different"),
        ({"score": "a", "levels": ["x"]}, "two or more"),
        ({"score": "a", "levels": [str(n) for n in range(11)]}, "at most 10"),
    ],
)
def test_a_question_of_no_kind_is_refused(question: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        QuestionConfig.model_validate({"model": "decide", **question})


@pytest.mark.parametrize("value", [{"wrong": 0.0}, {"wrong": 0.5}, {"confidence": 1.0}, {"confidence": 0.4}])
def test_a_promise_outside_its_range_is_refused(value: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        DecisionsConfig.model_validate(value)
