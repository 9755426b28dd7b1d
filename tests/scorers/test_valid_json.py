"""An answer is JSON when a parser takes the whole of it."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.completion import Completion
from gateway.core.score import Skipped
from gateway.scorers.valid_json import NO_TEXT, ValidJson

RULE = ValidJson("valid_json")
OBJECT = {"response_format": {"type": "json_object"}}
ANY = {"guided_json": {"type": ["object", "array"]}}


@pytest.mark.parametrize(
    ("text", "request_", "value", "label"),
    [
        ('{"a": 123456789012345678901234567890}', ANY, 1.0, "valid"),
        ('{"a": 1e999}', ANY, 0.0, "invalid"),
        (" \n[]\n", ANY, 1.0, "valid"),
        ("3", ANY, 1.0, "valid"),
        ("3", OBJECT, 0.0, "not an object"),
        ('"a"', OBJECT, 0.0, "not an object"),
        ("null", OBJECT, 0.0, "not an object"),
        ('```json\n{"a": 1}\n```', OBJECT, 0.0, "fenced"),
        ("```\n{}\n```", OBJECT, 0.0, "fenced"),
        ("{}{}", OBJECT, 0.0, "invalid"),
        ("{'a': 1}", OBJECT, 0.0, "invalid"),
        ("{a: 1}", OBJECT, 0.0, "invalid"),
        ('{"a": NaN}', OBJECT, 0.0, "invalid"),
        ('{"a": 1,}', OBJECT, 0.0, "invalid"),
        ('{"a": "\n"}', OBJECT, 0.0, "invalid"),
        ("[" * 5000, ANY, 0.0, "invalid"),
        ("\ufeff{}", OBJECT, 0.0, "invalid"),
        ("\ud800", OBJECT, 0.0, "invalid"),
        (" ", OBJECT, 0.0, "empty"),
    ],
)
def test_valid_is_what_a_strict_parser_takes(ask, subject, text, request_, value, label):
    score = ask(RULE, subject(text, request_))
    assert (score.value, score.label) == (value, label)
    assert value == 1.0 or score.explanation


def test_a_refusal_is_not_broken_json(ask, subject):
    assert ask(RULE, subject(Completion(refusal="No."), OBJECT)) == NO_TEXT


@given(st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(), st.lists, max_leaves=20))
def test_whatever_a_serialiser_writes_is_valid(ask, subject, value):
    assert ask(RULE, subject(orjson.dumps(value).decode(), ANY)).value == 1.0


@given(st.text())
def test_nobody_asked_is_not_applicable(ask, subject, text):
    assert isinstance(ask(RULE, subject(text, {"response_format": {"type": "text"}})), Skipped)
