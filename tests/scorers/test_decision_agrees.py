from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.core.score import Score
from gateway.scorers.decision_agrees import DecisionAgrees
from gateway.scorers.decision_right import REQUEST
from gateway.scoring.golden import check_golden
from gateway.scoring.types import Pair


def test_golden_cases_hold() -> None:
    assert check_golden(DecisionAgrees("agrees")) == []


async def distance(a: Any, b: Any) -> float:
    score = await DecisionAgrees("agrees").compare(Pair(a, b))
    assert isinstance(score, Score)
    return float(score.value)


@pytest.mark.parametrize(("probability", "expected"), [(0.51, 0.0), (0.99, 0.0), (0.49, 0.5)])
async def test_a_chat_and_a_decision_are_compared_by_their_options(
    subject: Any, probability: float, expected: float
) -> None:
    chat = subject('{"team": "billing", "refund": true}', REQUEST)
    stated = {"refund": [probability, 1 - probability], "team": [0.6, 0.4]}
    text = orjson.dumps({"team": "billing", "refund": probability >= 0.5}).decode()
    decided = subject(text, REQUEST, decision=orjson.dumps({"probabilities": stated}).decode())
    assert await distance(chat, decided) == await distance(decided, chat) == expected


async def test_two_unreadable_answers_do_not_agree(subject: Any) -> None:
    assert await distance(subject("I cannot say.", REQUEST), subject("I cannot say.", REQUEST)) == 1.0
