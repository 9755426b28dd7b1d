"""The decisions that two answers to one request state: the common form in which an experiment compares APIs. Pure.

A target with `as: decision` leaves its probabilities in the record. An answer of a chat is read by the schema of its
request, and each member is certain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.core.chat_decision import schema_of
from gateway.core.decision import Answer, InvalidAnswer, Question, answer_of
from gateway.core.decision_schema import DecisionSchema, Ineligible
from gateway.core.json_values import as_list, as_object, parse_object


@dataclass(frozen=True, slots=True)
class StatedDecision:
    """The decision that an answer states."""

    schema: DecisionSchema
    answers: tuple[Answer | None, ...]
    """One for each member of the schema; None where the answer states none of its options."""


def record_of(reading: str, schema: DecisionSchema, answers: Sequence[Answer]) -> str:
    """The probabilities as the record keeps them, in JSON. reading: how they were read, such as `native`."""
    pairs = zip(schema.members, answers, strict=True)
    probabilities = {member.name: answer.probabilities for member, answer in pairs}
    return orjson.dumps({"reading": reading, "probabilities": probabilities}).decode()


def stated_decision(request: Mapping[str, Any], text: str, record: str | None) -> StatedDecision | None:
    """The decision of one answer; None if its request asks for none. text: the answer's. record: the probabilities that
    its record has; None if it has none."""
    try:
        schema = schema_of(request)
    except Ineligible:
        return None
    answers = schema.read(text) or (None,) * len(schema.members)
    if record is not None:
        known = as_object((parse_object(record) or {}).get("probabilities"))
        answers = tuple([
            _of_record(member.question, known.get(member.name)) or answer
            for member, answer in zip(schema.members, answers, strict=True)
        ])  # fmt: skip
    return StatedDecision(schema, answers)


def _of_record(question: Question, probabilities: Any) -> Answer | None:
    try:
        return answer_of(question, as_list(probabilities))
    except InvalidAnswer:
        return None
