"""Tool calls agree with the expected ones: the same tools, with arguments of equal JSON, in any order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.completion import Completion, ToolCall
from gateway.core.score import Score, Skipped
from gateway.scorers.tool_calls_agree import NO_EXPECTED, ToolCallsAgree, expected_calls

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=5,
)
STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.dictionaries(st.text(max_size=2), VALUES, max_size=2)), max_size=5
)


def calls(*steps: tuple[str, Any]) -> tuple[ToolCall, ...]:
    texts = (arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode() for _, arguments in steps)
    return tuple(ToolCall(str(n), name, text) for n, ((name, _), text) in enumerate(zip(steps, texts, strict=True)))


def listed(*steps: tuple[str, Any]) -> str:
    return orjson.dumps([{"name": name, "arguments": arguments} for name, arguments in steps]).decode()


@given(STEPS, st.randoms())
def test_any_order_of_the_same_calls_agrees(ask, subject, steps: list[tuple[str, Any]], random: Any) -> None:
    mixed = list(steps)
    random.shuffle(mixed)
    made = subject(Completion(tool_calls=calls(*mixed)))
    assert ask(ToolCallsAgree("t"), replace(made, expected_calls=listed(*steps))).value == 1.0


@given(STEPS, STEPS)
def test_agreement_is_symmetric(ask, subject, one: list[tuple[str, Any]], other: list[tuple[str, Any]]) -> None:
    found = [
        ask(ToolCallsAgree("t"), replace(subject(Completion(tool_calls=calls(*a))), expected_calls=listed(*b))).value
        for a, b in ((one, other), (other, one))
    ]
    assert found[0] == found[1]
    assert 0.0 <= found[0] <= 1.0


@pytest.mark.parametrize(
    ("made", "wanted", "value"),
    [
        ('{"a":1}', {"a": 1.0}, 1.0),
        ('{"a":true}', {"a": 1}, 0.0),
        ('{"a":"1"}', {"a": 1}, 0.0),
        ("", {}, 1.0),
        ('{"a":', '{"a":', 1.0),
        ('{"a":', {"a": 1}, 0.0),
        ('{"a":[1,2]}', {"a": [2, 1]}, 0.0),
    ],
)
def test_arguments_are_compared_as_json(ask, subject, made: str, wanted: Any, value: float) -> None:
    found = ask(
        ToolCallsAgree("t"),
        replace(subject(Completion(tool_calls=calls(("t", made)))), expected_calls=listed(("t", wanted))),
    )
    assert found.value == value


def test_the_explanation_names_tools_and_no_arguments(ask, subject) -> None:
    made = subject(Completion(tool_calls=calls(("write", {"secret": "s3cret"}))))
    found = ask(ToolCallsAgree("t"), replace(made, expected_calls=listed(("read", {"secret": "hidden"}))))
    assert isinstance(found, Score)
    assert found.explanation == "expected 'read'; made 'write'"


def test_recorded_calls_go_before_a_reference(ask, subject) -> None:
    made = subject(Completion(tool_calls=calls(("read", {}))), reference="It is sunny.")
    assert ask(ToolCallsAgree("t"), made) == NO_EXPECTED
    assert ask(ToolCallsAgree("t"), replace(made, expected_calls=listed(("read", {})))).value == 1.0


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"arguments": {}}]', '[{"name": ""}]', '"read"'])
def test_anything_else_is_no_list_of_calls(text: str) -> None:
    assert expected_calls(text) is None


def test_an_answer_that_was_cut_is_not_compared(ask, subject) -> None:
    cut = subject(Completion(tool_calls=calls(("read", {}))), truncated=True)
    assert isinstance(ask(ToolCallsAgree("t"), replace(cut, expected_calls="[]")), Skipped)
