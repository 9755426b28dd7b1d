"""The distance between two answers' tool calls."""

from __future__ import annotations

import pytest

from gateway.core.completion import Completion, ToolCall
from gateway.core.score import Skipped
from gateway.scorers.tool_distance import ToolDistance


def calls(*pairs):
    return Completion(tool_calls=tuple(ToolCall("1", name, arguments) for name, arguments in pairs))


@pytest.mark.parametrize(
    ("a", "b", "value"),
    [
        ([("f", '{"x": 1}')], [("f", '{"x":1}')], 0.0),
        ([("f", '{"x": 1, "y": 2}')], [("f", '{"x": 1, "y": 3}')], 0.25),
        ([("f", '{"x": 1}')], [("g", '{"x": 1}')], 1.0),
        ([("f", "{}"), ("g", "{}")], [("g", "{}"), ("f", "{}")], 0.0),
        ([("f", "{}")], [("f", "{}"), ("f", "{}")], 0.5),
        ([("f", "no json")], [("f", " no json ")], 0.0),
        ([("f", "no json")], [("f", "{}")], 0.5),
        ([], [("f", "{}")], 1.0),
    ],
)
def test_names_and_arguments_count_half_each(ask_pair, pair, a, b, value):
    assert ask_pair(ToolDistance("t"), pair(calls(*a), calls(*b))).value == pytest.approx(value)


def test_where_neither_calls_there_is_nothing_to_compare(ask_pair, pair):
    assert isinstance(ask_pair(ToolDistance("t"), pair("a", "b")), Skipped)


def test_a_thousand_calls_are_compared_in_few_steps(ask_pair, pair, steps):
    many = calls(*(("f", f'{{"x": {i}}}') for i in range(1000)))
    with steps() as counted:
        ask_pair(ToolDistance("t"), pair(many, many))
    assert counted.n < 500_000, "a step for each pair of calls would be a million"
