"""SGLang's own form of decisions: requests that it takes, and answers mapped back."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.decision_cases import answered
from hypothesis import HealthCheck, given, settings

from gateway.core import systemone_decisions as systemone
from gateway.core.decision import DecisionLimits, DecisionReply, DecisionRequest, InvalidAnswer
from gateway.core.errors import BadRequest
from gateway.proxy.dialects import sglang_decisions


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(answered())
def test_sglang_answers_map_back_by_name(case: tuple[tuple[Any, ...], DecisionReply]) -> None:
    questions, _ = case
    written, _ = sglang_decisions.write_request(DecisionRequest("x", questions), "m", DecisionLimits())
    answers, shares = {}, []
    for asked, question in zip(written["questions"], questions, strict=True):
        names = ["yes", "no"]
        if question.kind == "choice":
            names = [option["name"] for option in asked["options"]]
        elif question.kind == "score":
            names = [str(level) for level in range(len(asked["levels"]))]
        shares.append(tuple(1.0 if n == 1 else 0.0 for n in range(len(names))))
        answers[asked["id"]] = {
            "type": asked["type"], "probabilities": dict(zip(names, shares[-1], strict=True)), "label_mass": 0.5,
        }  # fmt: skip
    reply = sglang_decisions.read_answers({"answers": answers, "usage": {"prompt_tokens": 7}}, questions)
    assert [answer.probabilities for answer in reply.answers] == shares
    answers.popitem()
    with pytest.raises(InvalidAnswer):
        sglang_decisions.read_answers({"answers": answers}, questions)


def test_sglang_gets_26_options_at_most() -> None:
    criteria = {str(n): None for n in range(27)}
    asked = {"team": {"type": "choice", "instructions": "Which team?", "criteria": criteria}}
    request = systemone.read_request({"model": "m", "state": "x", "questions": asked})
    with pytest.raises(BadRequest, match="at most 26"):
        sglang_decisions.write_request(request, "m", sglang_decisions.LIMITS)
