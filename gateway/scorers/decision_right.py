"""Tests whether the decisions of an answer are those of its reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from pydantic import Field, StrictBool, StrictInt, StrictStr

from gateway.core.completion import Completion
from gateway.core.decision import Answer
from gateway.core.decision_schema import DecisionSchema, Member, certain, chosen, same_value
from gateway.core.score import Score, Skipped
from gateway.core.stated_decision import StatedDecision, stated_decision
from gateway.scorers.preconditions import require_answer
from gateway.scorers.reference import NO_REFERENCE
from gateway.scoring.types import Golden, ImmediateRule, Subject

NO_DECISION = Skipped("a request whose JSON schema asks for decisions")
NO_OPTION = Skipped("a reference with this option")
NO_RIGHT = Skipped("a reference with an option of the request's schema")


@dataclass(frozen=True, slots=True)
class JudgedDecision:
    """A decision, and the right answer to each question that the reference answers."""

    stated: tuple[Answer | None, ...]
    right: tuple[Answer, ...]
    members: tuple[Member, ...]
    """Those of the schema that the answers belong to."""


def decision_of(subject: Subject) -> StatedDecision | None:
    """The decision that an answer states; None if its request asks for none."""
    return stated_decision(subject.request, subject.completion.text, subject.exchange.decision)


def judged(subject: Subject) -> JudgedDecision | Skipped:
    """The decision with its reference. Skipped where one of them is missing."""
    if subject.reference is None:
        return NO_REFERENCE
    if skipped := require_answer(subject):
        return skipped
    decision = decision_of(subject)
    if decision is None:
        return NO_DECISION
    right = _reference(decision.schema, subject.reference)
    members = zip(decision.answers, right, decision.schema.members, strict=True)
    pairs = [(own, wanted, member) for own, wanted, member in members if wanted is not None]
    if not pairs:
        return NO_RIGHT
    stated, wanted, named = zip(*pairs, strict=True)
    return JudgedDecision(stated, wanted, named)


def _reference(schema: DecisionSchema, text: str) -> tuple[Answer | None, ...]:
    """The right answers; of a schema with one member, the reference may be its value alone, without JSON."""
    read = schema.read(text)
    if read or len(schema.members) > 1:
        return read or (None,) * len(schema.members)
    [member] = schema.members
    word = text.strip().lower()
    place = next((n for n, value in enumerate(member.values) if str(value).lower() == word), None)
    return (None if place is None else certain(member.question, place),)


@dataclass(frozen=True, slots=True)
class DecisionRight(ImmediateRule):
    """Scores the share of the reference's decisions that the answer has. A decision that cannot be read is wrong."""

    option: StrictBool | StrictInt | Annotated[StrictStr, Field(min_length=1)] | None = None
    """Counts only decisions whose right answer is this option, such as `billing` or `true`. As a guardrail it finds a
    model that is right as often as the control on the whole, and errs on one option. None: all."""

    def score_immediately(self, subject: Subject) -> Score | Skipped:
        found = judged(subject)
        if isinstance(found, Skipped):
            return found
        pairs = [
            (own, wanted)
            for own, wanted, member in zip(found.stated, found.right, found.members, strict=True)
            if self.option is None or same_value(member.values[chosen(wanted)], self.option)
        ]
        if not pairs:
            return NO_OPTION
        right = [own is not None and chosen(own) == chosen(wanted) for own, wanted in pairs]
        return Score(sum(right) / len(right), detail={"decisions": float(len(right))})

    def golden(self) -> tuple[Golden, ...]:
        if self.option is not None:
            return (golden_decision("no option in the reference", '{"team": "other"}', None, '{"team": "legal"}'),)
        return (
            golden_decision("both", '{"team": "billing", "refund": true}', 1.0),
            golden_decision("one of two", '{"team": "billing", "refund": false}', 0.5),
            golden_decision("a member is missing", '{"team": "billing"}', 0.5),
            golden_decision("not JSON", "billing", 0.0),
            golden_decision("a reference of one member", '{"team": "other", "refund": true}', 1.0, '{"refund": true}'),
            golden_decision("no option in the reference", '{"team": "other"}', None, '{"team": "legal"}'),
            golden_decision("no reference", "{}", None, None),
        )


SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"team": {"enum": ["billing", "other"]}, "refund": {"type": "boolean"}},
}
REQUEST: Mapping[str, Any] = {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}}
RIGHT = '{"team": "billing", "refund": true}'


def golden_decision(
    name: str,
    answer: str,
    expected: float | None,
    reference: str | None = RIGHT,
    probabilities: Mapping[str, Any] | None = None,
) -> Golden:
    """probabilities: those that the record has; None if it has none."""
    stated = {} if probabilities is None else {"decision": orjson.dumps({"probabilities": probabilities}).decode()}
    return Golden(name, REQUEST, Completion(answer, finish_reason="stop"), expected, stated, reference)
