from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.core.decision import answer_of
from gateway.core.decision_schema import read_schema
from gateway.core.stated_decision import record_of, stated_decision

SCHEMA = {"type": "object", "properties": {"refund": {"type": "boolean"}, "team": {"enum": ["billing", "other"]}}}
REQUEST: dict[str, Any] = {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}}
TEXT = '{"refund": true, "team": "other"}'


def probabilities(text: str, record: str | None = None) -> list[tuple[float, ...] | None]:
    stated = stated_decision(REQUEST, text, record)
    assert stated is not None
    return [None if answer is None else answer.probabilities for answer in stated.answers]


def test_a_chats_answer_is_certain() -> None:
    assert probabilities(TEXT) == [(1.0, 0.0), (0.0, 1.0)]
    assert probabilities('{"team": "legal", "refund": false}') == [(0.0, 1.0), None]
    assert probabilities("It is billing.") == [None, None]


def test_a_record_gives_the_probabilities_behind_an_answer() -> None:
    schema = read_schema(SCHEMA)
    answers = [answer_of(schema.questions[0], [0.9, 0.1]), answer_of(schema.questions[1], [0.3, 0.7])]
    record = record_of("native", schema, answers)
    assert orjson.loads(record)["reading"] == "native"
    assert probabilities(TEXT, record) == [(0.9, 0.1), (0.3, 0.7)]


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"probabilities": {"refund": [0.9]}}'])
def test_a_record_that_cannot_be_used_leaves_the_answers_own_words(record: str) -> None:
    assert probabilities(TEXT, record) == [(1.0, 0.0), (0.0, 1.0)]


def test_a_request_for_no_decision_states_none() -> None:
    assert stated_decision({"response_format": {"type": "json_object"}}, TEXT, None) is None
    assert stated_decision({}, TEXT, None) is None
