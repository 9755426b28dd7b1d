"""Loops at the end of a request, in every API, against the rule of the scorer."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.limits.tool_loops import loops_at_the_end
from gateway.proxy.request.call import Call, Caller


def call_with(**body: Any) -> Call:
    return Call("id", 0.0, 0.0, Caller("k"), "chat", b"POST", b"/chat/completions", "chat", False, orjson.dumps(body))


def made(n: int, name: str, result: str | None) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = [{"type": "function_call", "call_id": f"c{n}", "name": name, "arguments": "{}"}]
    return items if result is None else [*items, {"type": "function_call_output", "call_id": f"c{n}", "output": result}]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy")), max_size=8))
def test_the_last_equal_ones_in_a_row_are_counted(calls: list[tuple[str, str]]) -> None:
    items = [item for n, (name, result) in enumerate(calls) for item in made(n, name, result)]
    expected = 0
    for one in reversed(calls):
        if one != calls[-1]:
            break
        expected += 1
    assert loops_at_the_end(call_with(input=items)) == expected


def test_a_call_without_a_result_ends_the_row() -> None:
    items = [*made(0, "a", "x"), *made(1, "a", "x"), *made(2, "a", None), *made(3, "a", "x")]
    assert loops_at_the_end(call_with(input=items)) == 1


def test_parallel_calls_of_one_turn_count_each() -> None:
    turn = [{"type": "tool_use", "id": f"c{n}", "name": "read", "input": {"a": 1}} for n in range(3)]
    results = [{"type": "tool_result", "tool_use_id": f"c{n}", "content": "no"} for n in range(3)]
    messages = [{"role": "assistant", "content": turn}, {"role": "user", "content": results}]
    assert loops_at_the_end(call_with(messages=messages)) == 3


@pytest.mark.parametrize(
    "body",
    [{}, {"input": "text"}, {"messages": []}, {"messages": [1]}, {"messages": ["a"]}, {"messages": [[]]},
     {"messages": [{"role": "user", "content": "hi"}]}, {"messages": [{"role": "tool", "content": "lost"}]},
     {"messages": [{"role": "assistant", "tool_calls": [None, {"function": None}]}]}],
)  # fmt: skip
def test_other_bodies_have_no_loop(body: dict[str, Any]) -> None:
    assert loops_at_the_end(call_with(**body)) == 0
