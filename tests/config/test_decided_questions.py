"""Questions of gateway.yaml: their identity in requests, and the mistakes in them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config.decided_questions import DecidedQuestion
from gateway.core.decided import AskedQuestion
from gateway.core.decision import Option


@pytest.mark.parametrize(
    ("section", "asked"),
    [
        ({"predicate": "Refund?"}, AskedQuestion("predicate", "Refund?")),
        (
            {"choice": "Team?", "options": ["true", True]},
            AskedQuestion("choice", "Team?", (Option("true"), Option(True))),
        ),
        (
            {"choice": "Team?", "options": {"a": "first", "b": None}},
            AskedQuestion("choice", "Team?", (Option("a", "first"), Option("b"))),
        ),
        (
            {"score": "Upset?", "levels": ["calm", "furious"]},
            AskedQuestion("score", "Upset?", (Option("calm"), Option("furious"))),
        ),
    ],
)
def test_a_question_is_known_by_its_words(section: dict[str, Any], asked: AskedQuestion) -> None:
    assert DecidedQuestion.model_validate(section).asked == asked


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "exactly one of"),
        ({"predicate": "a", "choice": "b", "options": ["a", "b"]}, "exactly one of"),
        ({"choice": "b"}, "`options` belongs to"),
        ({"predicate": "a", "levels": ["a", "b"]}, "`levels` belongs to"),
        ({"choice": "b", "options": ["a"]}, "1 entries, expected 2 to 255"),
        ({"choice": "b", "options": [str(n) for n in range(256)]}, "256 entries, expected 2 to 255"),
        ({"score": "b", "levels": [str(n) for n in range(11)]}, "11 entries, expected 2 to 10"),
        ({"choice": "b", "options": ["a", "a"]}, "a value twice"),
        ({"choice": "b", "options": ["a", 1]}, "valid"),
        ({"score": "b", "levels": ["a", ""]}, "at least 1 character"),
    ],
)
def test_an_impossible_question_is_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DecidedQuestion.model_validate(section)
