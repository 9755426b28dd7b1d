"""An answer against the schema its own request gave."""

from __future__ import annotations

import pytest

from gateway.config.scorers import ScorerConfig as Section
from gateway.core.completion import Completion
from gateway.core.score import Skipped
from gateway.scorers.json_schema import JsonSchema
from gateway.scoring.registry import build
from gateway.scoring.run import score_all

RULE = JsonSchema("json_schema")
PERSON = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


def asking(schema):
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}}


@pytest.mark.parametrize(
    ("text", "value", "why"),
    [
        ('{"age": 3}', 1.0, None),
        ('{"age": "3"}', 0.0, 'at /age: "3" is not of type "integer"'),
        ("{}", 0.0, 'at /: "age" is a required property'),
        ('```json\n{"age": 3}\n```', 0.0, "unexpected character"),
    ],
)
def test_the_answer_is_judged_and_the_place_is_named(ask, subject, text, value, why):
    result = ask(RULE, subject(text, asking(PERSON)))
    assert result.value == value
    assert result.explanation is None if why is None else result.explanation.startswith(why)


@pytest.mark.parametrize(
    ("request_", "need"),
    [
        ({}, "a response_format of type json_schema"),
        (asking({"$ref": "https://example.org/schema.json"}), "a schema without remote references"),
        (asking({"$ref": "file:///etc/hostname"}), "a schema without remote references"),
        (asking({"enum": ["x" * 100] * 5000}), "a schema of at most 256 KB"),
        (asking("no schema"), "a schema that is an object"),
    ],
)
def test_a_schema_that_may_not_be_used_is_not_applicable(ask, subject, request_, need):
    for _ in range(2):
        assert ask(RULE, subject('{"age": 3}', request_)) == Skipped(need)


def test_a_refusal_is_not_judged_by_the_schema(ask, subject):
    assert isinstance(ask(RULE, subject(Completion(refusal="No."), asking(PERSON))), Skipped)


async def test_a_compiled_schema_is_applied_immediately(subject, threads):
    scorers = build({"json_schema": Section()})
    rule = scorers["json_schema"].scorer
    of = subject('{"age": 3}', asking({**PERSON, "title": "new"}))
    assert rule.score_immediately(of) is None
    (first,) = await score_all(scorers, of, lambda _: 0.0, threads)
    assert rule.score_immediately(of) == first.score
    assert first.score.value == 1.0
