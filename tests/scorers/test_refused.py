"""Refused: by the API's word for it, or by the answer's first words."""

from __future__ import annotations

import pytest

from gateway.core.completion import Completion, ToolCall
from gateway.core.score import Skipped
from gateway.scorers.refused import Refusal

RULE = Refusal("refusal")


@pytest.mark.parametrize(
    ("completion", "value", "label", "why"),
    [
        (
            Completion("I can't help with that.", finish_reason="stop"),
            1.0,
            "refused",
            "begins with a refusal in English",
        ),
        (Completion("Lo siento, no puedo ayudarte."), 1.0, "refused", "begins with a refusal in Spanish"),
        (Completion(refusal="No."), 1.0, "refused", "the answer is in the refusal field"),
        (Completion("The", finish_reason="content_filter"), 1.0, "filtered", "finish_reason content_filter"),
        (Completion("", finish_reason="refusal"), 1.0, "filtered", "finish_reason refusal"),
        (Completion("Paris.", finish_reason="stop"), 0.0, "answered", None),
        (Completion("", finish_reason="stop"), 0.0, "answered", None),
        (Completion(tool_calls=(ToolCall("1", "f", "{}"),)), 0.0, "answered", None),
    ],
)
def test_an_answer_is_refused_or_not(ask, subject, completion, value, label, why):
    got = ask(RULE, subject(completion))
    assert (got.value, got.label, got.explanation) == (value, label, why)


def test_less_is_better():
    assert RULE.direction == "minimise"


def test_a_failed_call_is_not_a_refusal(ask, subject):
    assert isinstance(ask(RULE, subject(Completion(error="overloaded"), status=503)), Skipped)
