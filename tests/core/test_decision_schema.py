from __future__ import annotations

from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from gateway.core.decision import Answer, Question, answer_of, refusal
from gateway.core.decision_schema import INELIGIBLE, Ineligible, chosen, read_schema

TEAM = {"type": "string", "enum": ["billing", "shipping", "other"], "description": "Which team?"}
FIVE = {"type": "integer", "minimum": 1, "maximum": 5}
TICKET = {
    "type": "object",
    "properties": {"team": TEAM, "needsRefund": {"type": "boolean"}, "tone": FIVE},
    "required": ["team", "needsRefund", "tone"],
    "additionalProperties": False,
}  # fmt: skip


def with_member(member: Any, **root: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"member": member}, **root}


def reason_of(schema: Any) -> str:
    with pytest.raises(Ineligible) as refused:
        read_schema(schema)
    assert refused.value.reason in INELIGIBLE
    return refused.value.reason


def test_members_become_questions_in_the_order_of_the_schema() -> None:
    team, refund, tone = read_schema(TICKET).members
    assert (team.name, team.question.kind, team.question.key, team.question.instructions) == (
        "team", "choice", "q0", "Which team?",
    )  # fmt: skip
    assert team.values == ("billing", "shipping", "other")
    assert (refund.question.kind, refund.question.instructions, refund.values) == (
        "predicate",
        "needs refund",
        (True, False),
    )
    assert (tone.question.kind, tone.values) == ("score", (1, 2, 3, 4, 5))
    assert [option.value for option in tone.question.options] == ["1", "2", "3", "4", "5"]


def test_an_answer_is_the_object_that_the_schema_asks_for() -> None:
    schema = read_schema(TICKET)
    team, refund, tone = schema.questions
    answers = [answer_of(team, [0.1, 0.7, 0.2]), answer_of(refund, [0.4, 0.6]), answer_of(tone, [0, 0, 0.1, 0.9, 0])]
    assert schema.render(answers) == b'{"team":"shipping","needsRefund":false,"tone":4}'
    with pytest.raises(ValueError, match="refusal"):
        schema.render([answers[0], refusal(refund), answers[2]])


@pytest.mark.parametrize(("member", "reason"), [
    ({"type": "string"}, "free_text"),
    ({}, "free_text"),
    ({"type": "object", "properties": {}}, "nested"),
    ({"type": "array", "items": {"type": "string", "enum": ["a", "b"]}}, "nested"),
    ({"oneOf": [{"type": "string"}, {"type": "null"}]}, "combined"),
    ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, "combined"),
    ({"type": ["boolean", "null"]}, "combined"),
    ({"$ref": "http://localhost/schema"}, "combined"),
    ({"$ref": "#/$defs/missing"}, "combined"),
    ({"type": "number", "minimum": 0, "maximum": 1}, "number"),
    ({"type": "integer"}, "number"),
    ({"type": "integer", "minimum": 0, "maximum": 10}, "number"),
    ({"type": "integer", "minimum": 0.5, "maximum": 3}, "number"),
    ({"type": "string", "enum": [f"option {n}" for n in range(300)]}, "options"),
    ({"enum": ["only"]}, "options"),
    ({"const": "v1"}, "options"),
    ({"enum": "ab"}, "options"),
    ({"enum": [1, "1"]}, "options"),
    ({"enum": ["a", "a"]}, "options"),
    ({"enum": ["a", None]}, "values"),
    ({"enum": ["a", 0.5]}, "values"),
    ({"type": "string", "enum": ["a", 1]}, "values"),
    ({"enum": ["", "a"]}, "values"),
    ({"type": "string", "enum": ["a", "b"], "pattern": "a"}, "keywords"),
    ({"type": "integer", "minimum": 0, "maximum": 4, "multipleOf": 2}, "keywords"),
])  # fmt: skip
def test_another_member_is_ineligible_for_its_reason(member: Any, reason: str) -> None:
    assert reason_of(with_member(member)) == reason
    beside = {"type": "object", "properties": {"first": {"type": "boolean"}, "member": member}}
    assert reason_of(beside) == reason  # one such member makes the whole schema ineligible


@pytest.mark.parametrize(("schema", "reason"), [
    ({}, "no_schema"),
    (True, "no_schema"),
    ({"type": "array", "items": TEAM}, "nested"),
    ({"type": "object", "properties": {}}, "questions"),
    ({"type": "object"}, "questions"),
    (with_member(TEAM, required=["member", "explanation"]), "required"),
    (with_member(TEAM, additionalProperties={"type": "string"}), "nested"),
    (with_member(TEAM, oneOf=[{}]), "combined"),
    (with_member(TEAM, minProperties=2), "keywords"),
    ({"type": "object", "properties": {f"m{n}": {"type": "boolean"} for n in range(401)}}, "questions"),
])  # fmt: skip
def test_another_schema_is_ineligible_for_its_reason(schema: Any, reason: str) -> None:
    assert reason_of(schema) == reason


@pytest.mark.parametrize(("name", "member", "contradicts"), [
    ("spam", {"type": "boolean", "description": "Whether the mail is not spam"}, True),
    ("is_spam", {"type": "boolean", "description": "False if it is spam"}, True),
    ("refund", {"type": "boolean", "description": "The customer doesn't want a refund"}, True),
    ("urgent", {"type": "boolean", "description": "True when the message is not urgent"}, True),
    ("is_spam", {"type": "boolean", "description": "True if spam, false if not spam"}, False),
    ("not_spam", {"type": "boolean", "description": "The mail is not spam"}, False),
    ("urgent", {"type": "boolean", "description": "Whether it cannot wait"}, False),
    ("team", {"enum": ["billing", "other"], "description": 'One of "billing" and "legal"'}, True),
    ("team", {"enum": ["billing", "other"], "description": 'Use "billing" for payments. Texts may say "hello"'}, False),
    ("tone", {"type": "integer", "minimum": 0, "maximum": 3, "description": "From 1 to 5"}, True),
    ("tone", {"type": "integer", "minimum": 1, "maximum": 5, "description": "1-5, 5 is furious"}, False),
])  # fmt: skip
def test_a_description_must_not_contradict_its_member(name: str, member: Any, contradicts: bool) -> None:
    schema = {"type": "object", "properties": {name: member}}
    if contradicts:
        assert reason_of(schema) == "contradiction"
    else:
        assert read_schema(schema).members[0].name == name


def test_a_definition_of_the_same_schema_is_followed() -> None:
    """Pydantic writes a member of an Enum class so, with and without a description."""
    defs = {"Team": {"enum": ["billing", "other"], "title": "Team", "type": "string"}}
    plain = {"$ref": "#/$defs/Team"}
    described = {"allOf": [{"$ref": "#/$defs/Team"}], "description": "Which team?"}
    schema = {"type": "object", "$defs": defs, "properties": {"a": plain, "b": described}}
    first, second = read_schema(schema).members
    assert first.values == second.values == ("billing", "other")
    assert (first.question.instructions, second.question.instructions) == ("a", "Which team?")
    endless = {"type": "object", "$defs": {"A": {"$ref": "#/$defs/A"}}, "properties": {"a": {"$ref": "#/$defs/A"}}}
    assert reason_of(endless) == "combined"


def test_bounds_that_anthropics_clients_write_are_read() -> None:
    described = {"type": "integer", "description": "How urgent?\n\n{maximum: 5, minimum: 1}"}
    alone = {"type": "integer", "description": "{exclusiveMaximum: 3, minimum: 0}"}
    first, second = read_schema({"type": "object", "properties": {"a": described, "b": alone}}).members
    assert (first.values, first.question.instructions) == ((1, 2, 3, 4, 5), "How urgent?")
    assert (second.values, second.question.instructions) == ((0, 1, 2), "b")
    assert reason_of(with_member({"type": "integer", "description": "{pattern: 5}"})) == "number"


def test_values_of_an_answer_keep_their_type() -> None:
    schema = read_schema({"type": "object", "properties": {"a": {"enum": [True, "true", 7]}, "b": {"enum": [3, 1, 2]}}})
    assert schema.questions[0].kind == "choice"
    assert schema.members[1].values == (1, 2, 3)  # consecutive numbers are levels
    for value, place in ((True, 0), ("true", 1), (7, 2), (7.0, 2)):
        answer = schema.read(orjson.dumps({"a": value, "b": 2}))[0]
        assert answer is not None
        assert chosen(answer) == place
    assert schema.read('{"a": 1, "b": true}') == (None, None)


@pytest.mark.parametrize("text", ["", "billing", "[1]", "null", '{"team":', '"billing"'])
def test_a_text_that_is_no_object_states_no_answer(text: str) -> None:
    assert read_schema(TICKET).read(text) == ()


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=8)
MEMBERS = st.one_of(
    st.just({"type": "boolean"}),
    st.lists(st.one_of(TEXTS, st.booleans()), min_size=2, max_size=6, unique_by=lambda v: (type(v), v)).map(
        lambda options: {"enum": options}
    ),
    st.tuples(st.integers(-50, 50), st.integers(1, 9)).map(
        lambda bounds: {"type": "integer", "minimum": bounds[0], "maximum": sum(bounds)}
    ),
)
SCHEMAS = st.dictionaries(TEXTS, MEMBERS, min_size=1, max_size=5).map(
    lambda members: {"type": "object", "properties": members, "required": list(members), "additionalProperties": False}
)


def drawn_answer(data: st.DataObject, question: Question) -> Answer:
    weights = [data.draw(st.floats(0.01, 1)) for _ in question.options]
    return answer_of(question, [weight / sum(weights) for weight in weights])


@given(SCHEMAS, st.data())
def test_a_rendered_answer_is_valid_and_reads_back(raw: dict[str, Any], data: st.DataObject) -> None:
    """The identity holds for every schema that is read, so a façade and its comparison speak of the same options."""
    schema = read_schema(raw)
    answers = [drawn_answer(data, question) for question in schema.questions]
    text = schema.render(answers)
    Draft202012Validator(raw).validate(orjson.loads(text))
    stated = schema.read(text)
    assert [chosen(answer) for answer in stated if answer is not None] == [chosen(answer) for answer in answers]
    assert schema.render([answer for answer in stated if answer is not None]) == text
    assert all(answer is not None and set(answer.probabilities) <= {0.0, 1.0} for answer in stated)


NAMES = st.sampled_from([
    "type", "properties", "enum", "items", "$ref", "allOf", "required", "minimum", "maximum", "description", "a",
    "$defs",
])  # fmt: skip
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 300), st.floats(allow_nan=False), st.sampled_from(["string", "#/$defs/a"])
)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)


@given(JSON)
def test_any_json_is_a_schema_of_decisions_or_ineligible(schema: Any) -> None:
    with suppress(Ineligible):
        assert read_schema(schema).members
