"""The same JSON as the reference, however it is written."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.score import Skipped
from gateway.scorers.json_equal import JsonEqual
from gateway.scoring.golden import check_golden

LEAF = st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=3)
JSON = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
).filter(lambda value: isinstance(value, dict | list))  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "expected", "partly"),
    [
        ('{"b": [2, 3], "a": 1.0}', 1, 1.0),
        ('```json\n{"a": 1, "b": [2, 3]}\n```', 1, 1.0),
        ('{"a": 1, "b": [3, 2]}', 0, 1 / 3),
        ('{"a": 1}', 0, 1 / 3),
        ('{"a": true, "b": [2, 3]}', 0, 2 / 3),
        ("a is 1", 0, 0.0),
        ("1", 0, 0.0),
    ],
)
def test_keys_have_no_order_and_lists_have_one(ask, subject, answer, expected, partly):
    of = subject(answer, None, '{"a": 1, "b": [2, 3]}')
    assert ask(JsonEqual("j"), of).value == expected
    assert ask(JsonEqual("j", partial=True), of).value == pytest.approx(partly)


def test_the_explanation_names_the_fields(ask, subject):
    score = ask(JsonEqual("j"), subject('{"a": 1, "b": 2}', None, '{"a": 1, "b": 3}'))
    assert score.explanation == 'differs at ."b"'


def test_a_reference_that_is_not_json_is_not_scored(ask, subject):
    assert isinstance(ask(JsonEqual("j"), subject("{}", None, "1")), Skipped)


@given(JSON, JSON)
def test_it_is_equality_of_values(ask, subject, one, other):
    def plain(value):
        return json.dumps(value, sort_keys=True)

    score = ask(JsonEqual("j"), subject(json.dumps(one, indent=1), None, json.dumps(other)))
    assert score.value == float(plain(one) == plain(other))


def test_its_golden_cases_follow_the_option():
    assert check_golden(JsonEqual("j", partial=True)) == []
