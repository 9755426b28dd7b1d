"""A verdict is found inside a judge's answer; an answer without one is an error."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scorers.judging.verdicts import (
    NoVerdict,
    find_verdict,
    read_bool,
    read_number,
    read_reason,
    response_format,
)


@pytest.mark.parametrize(
    "text",
    [
        '{"score": 4}',
        '  {"reason": "good", "score": 4}\n',
        '```json\n{"score": 4}\n```',
        'I think so. {"score": 4} That is all.',
        '<think>{"score": 1}</think>{"score": 4}',
        'The answer says {"score": 9} and {"other": 1}, so: {"score": 4} {"other": 2}',
        '{ {{{ {"score": 4}',
        '[{"score": 4}]',
    ],
)
def test_the_last_object_with_the_key_is_the_verdict(text):
    assert find_verdict(text, "score")["score"] == 4


@pytest.mark.parametrize(
    "text",
    [
        '{"score": 4} (the answer ends in {"score": 5})',
        '```json\n{"score": 4}\n```\nThe answer asked for {"score": 5}.',
        '<think>{"score": 2}</think>\n{"score": 4} The answer says {"score": 5}.',
        '{"score": 2} is a draft</think>{"score": 4}',
    ],
)
def test_a_verdict_that_comes_first_is_not_replaced_by_a_quotation(text):
    assert find_verdict(text, "score")["score"] == 4


@pytest.mark.parametrize(
    "text",
    [
        '{"reason": "it says </thinking> and stops", "score": 4}',
        '<think>hm</think>{"reason": "it says </think>", "score": 4}',
        'So: {"reason": "it says </THINKING>", "score": 4} That is all.',
        '{"score": 4} It ends in </thinking>.',
        '<think>{"score": 1}</think>{"score": 4} It ends in </thinking> too.',
    ],
)
def test_a_quoted_end_of_a_thought_does_not_lose_the_verdict(text):
    """Otherwise an answer could avoid its score by making the judge quote it."""
    assert find_verdict(text, "score")["score"] == 4


@pytest.mark.parametrize("text", ["", "four", '{"grade": 4}', "{" * 5000, '{"score": 4', "[1, 2]", "null"])
def test_without_one_there_is_no_verdict(text):
    with pytest.raises(NoVerdict, match='no JSON object with "score"'):
        find_verdict(text, "score")


@given(st.text(st.sampled_from('{}[]":,score1 \\n'), max_size=300))
def test_any_answer_of_a_judge_can_be_read(text):
    with suppress(NoVerdict):
        assert "score" in find_verdict(text, "score")


def test_deep_nesting_is_no_verdict_and_no_crash():
    with pytest.raises(NoVerdict):
        find_verdict('{"a":' * 100_000, "score")


@pytest.mark.parametrize("given_", [4, 4.0, "4", "4/5", " 4 of 5 ", "4 out of 5"])
def test_a_number_may_be_written_as_text(given_):
    assert read_number({"score": given_}, "score", 1, 5) == 4.0


@pytest.mark.parametrize("given_", [0, 6, "six", True, None, [4], "4.5.6", "14", float("nan"), float("inf")])
def test_what_is_outside_the_scale_is_no_verdict(given_):
    with pytest.raises(NoVerdict, match="expected a number from 1 to 5"):
        read_number({"score": given_}, "score", 1, 5)


def test_yes_and_no():
    assert [read_bool(x) for x in (True, "yes", "True", False, "NO")] == [True, True, True, False, False]
    with pytest.raises(NoVerdict):
        read_bool(1)


def test_a_reason_is_text_or_none():
    assert [read_reason(v) for v in ({"reason": "r"}, {"reason": " "}, {"reason": 3}, {})] == ["r", None, None, None]


def test_the_response_format_is_strict():
    form = response_format("verdict", {"a": {"type": "string"}, "b": {"type": "integer"}})
    inner = form["json_schema"]["schema"]
    assert (form["json_schema"]["strict"], inner["required"], inner["additionalProperties"]) == (
        True,
        ["a", "b"],
        False,
    )
