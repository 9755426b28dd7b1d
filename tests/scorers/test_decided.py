"""The probability that a decision states, as a score of the recorded answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from gateway.config.decided_questions import DecidedQuestion
from gateway.core.completion import Completion
from gateway.core.exchange import Target
from gateway.core.score import Score, Skipped
from gateway.scorers.decided import NO_ANSWER, NOT_ASKED, Decided
from gateway.scoring.golden import PLAIN_EXCHANGE, check_golden
from gateway.scoring.types import Subject

NO = {"type": "predicate", "probability": 0.2}
REFUND = {"type": "predicate", "name": "refund", "instructions": "Money back?"}
SCORER = Decided("refund", DecidedQuestion(predicate="Money back?"), "up/small")
CHOICE = DecidedQuestion(choice="Team?", options=["billing", True])
SCALE = DecidedQuestion(score="Upset?", levels=["calm", "annoyed", "furious"])


def subject(answer: Any, question: Any = REFUND, **fields: Any) -> Subject:
    response = orjson.dumps({"answers": [answer]})
    changes = {"api": "decisions", "target": Target("up", "small"), "response": response, **fields}
    return Subject(replace(PLAIN_EXCHANGE, **changes), {"input": "x", "questions": [question]}, Completion())


async def test_the_answers_own_probability_is_the_score() -> None:
    score = await SCORER.score(subject(NO))
    assert isinstance(score, Score)
    assert (score.value, score.label) == (0.8, "no")


READ_BY_SLOT = subject(NO, response=orjson.dumps({"answers": [NO], "x_reading": "slot"}))


@pytest.mark.parametrize(
    ("of", "reason"),
    [
        (subject(NO, target=Target("up", "large")), Skipped("an answer of up/small")),
        (subject(NO, {**REFUND, "instructions": "Money?"}), NOT_ASKED),
        (subject(NO, api="chat"), NOT_ASKED),
        (subject(NO, status=400), NOT_ASKED),
        (subject({"type": "refusal"}), NO_ANSWER),
        (READ_BY_SLOT, Skipped("an answer of the reading native")),
        (subject({"type": "predicate", "probability": "0.2"}), NO_ANSWER),
        (subject({}, response=b"cut off"), NO_ANSWER),
    ],
)  # fmt: skip
async def test_an_unusable_answer_has_no_score(of: Subject, reason: Skipped) -> None:
    assert await SCORER.score(of) == reason


@pytest.mark.parametrize("scorer", [SCORER, Decided("team", CHOICE), Decided("tone", SCALE, "up/a/b[c]")])
def test_every_kind_passes_its_golden_cases(scorer: Decided) -> None:
    assert check_golden(scorer) == []


FORM = {
    "type": "json_schema",
    "json_schema": {"schema": {"type": "object", "properties": {
        "refund": {"type": "boolean", "description": "Money back?"},
        "team": {"enum": ["billing", True], "description": "Team?"},
        "tone": {"type": "integer", "minimum": 1, "maximum": 3, "description": "Upset?"},
    }}},
}  # fmt: skip
SHARES = {"refund": [0.2, 0.8], "team": [0.7, 0.3], "tone": [0.1, 0.3, 0.6]}
SMALL = "up/small[decision]"


def facade(shares: Any, form: Any = FORM, reading: str = "native") -> Subject:
    """A chat that a decision model answered."""
    stated = orjson.dumps({"reading": reading, "probabilities": shares}).decode()
    exchange = replace(PLAIN_EXCHANGE, api="chat", target=Target("up", "small", "decision"), decision=stated)
    return Subject(exchange, {"messages": [], "response_format": form}, Completion())


@pytest.mark.parametrize(("question", "value", "label"), [
    (DecidedQuestion(predicate="Money back?"), 0.8, "no"),
    (CHOICE, 0.7, "billing"),
    (DecidedQuestion(score="Upset?", levels=["1", "2", "3"]), 0.6, "3"),
])  # fmt: skip
async def test_a_chat_behind_the_facade_is_a_decision(question: DecidedQuestion, value: float, label: str) -> None:
    score = await Decided("refund", question, SMALL).score(facade(SHARES))
    assert isinstance(score, Score)
    assert (score.value, score.label) == (value, label)


@pytest.mark.parametrize(("of", "reason"), [
    (facade({"team": [0.7, 0.3]}), NO_ANSWER),
    (facade({**SHARES, "refund": [0.2]}), NO_ANSWER),
    (facade({**SHARES, "refund": "0.2"}), NO_ANSWER),
    (facade(SHARES, reading="slot"), Skipped("an answer of the reading native")),
    (facade(SHARES, form={"type": "text"}), NOT_ASKED),
])  # fmt: skip
async def test_a_record_that_cannot_be_used_has_no_score(of: Subject, reason: Skipped) -> None:
    assert await Decided("refund", DecidedQuestion(predicate="Money back?"), SMALL).score(of) == reason
