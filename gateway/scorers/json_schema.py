"""Tests whether an answer is valid against the JSON Schema in its request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import orjson

from gateway.core.completion import Completion
from gateway.core.request_format import output_format
from gateway.core.score import Score, Skipped
from gateway.scorers.preconditions import require_complete
from gateway.scoring.json_schema import REMOTE, CompiledSchema, SchemaCache, SchemaTooSlow, UnboundedSchema
from gateway.scoring.types import Golden, Rule, Subject

NO_SCHEMA = Skipped("a response_format of type json_schema")
NO_TEXT = Skipped("an answer in text, not a refusal or a tool call")
VALID = Score(1.0, "valid")


@dataclass(frozen=True, slots=True)
class JsonSchema(Rule):
    """Scores 1 if the answer is JSON and valid against the request's schema, formats included, else 0.

    Remote and file references are never followed. A schema beyond the bounds on size, depth, patterns and work is
    skipped.
    """

    heavy: ClassVar[bool] = True

    schemas: SchemaCache = field(default_factory=SchemaCache, init=False, repr=False, compare=False)

    def score_immediately(self, subject: Subject) -> Score | Skipped | None:
        wanted = output_format(subject.request)
        if wanted is None or wanted.schema is None:
            return NO_SCHEMA
        answer = subject.completion
        if not answer.text.strip() and (answer.refusal or answer.tool_calls):
            return NO_TEXT
        if skipped := require_complete(subject):
            return skipped
        try:
            compiled = self.schemas.find(wanted.schema)
            return None if compiled is None else _judge(answer.text, compiled, immediate=True)
        except UnboundedSchema as unbounded:
            return Skipped(unbounded.need)
        except SchemaTooSlow:
            return None

    async def score(self, subject: Subject) -> Score | Skipped:
        result = self.score_immediately(subject)
        wanted = output_format(subject.request)
        if result is not None or wanted is None:
            return result or NO_SCHEMA
        try:
            return _judge(subject.completion.text, self.schemas.compile(wanted.schema))
        except UnboundedSchema as unbounded:
            return Skipped(unbounded.need)

    def golden(self) -> tuple[Golden, ...]:
        person = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
        request = {"response_format": {"type": "json_schema", "json_schema": {"name": "person", "schema": person}}}
        remote = {"response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": "http://localhost/"}}}}
        return (
            Golden("valid", request, Completion('{"age": 3}'), 1.0),
            Golden("a missing field", request, Completion("{}"), 0.0),
            Golden("the wrong type", request, Completion('{"age": "3"}'), 0.0),
            Golden("not JSON", request, Completion("three"), 0.0),
            Golden("no schema", {"response_format": {"type": "json_object"}}, Completion("{}"), None),
            Golden(REMOTE, remote, Completion("{}"), None),
        )


def _judge(text: str, schema: CompiledSchema, *, immediate: bool = False) -> Score:
    try:
        answer = orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError) as error:
        return Score(0.0, "not JSON", str(error))
    mistake = schema.mistake(answer, len(text), immediate=immediate)
    return Score(0.0, "invalid", mistake) if mistake else VALID
