"""Steps of a run in requests of three APIs."""

from __future__ import annotations

from gateway.core.completion import ToolCall
from gateway.core.run_steps import canonical_call, steps_of


def test_the_same_call_and_result_read_alike_in_every_api() -> None:
    chat = {"messages": [
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "read", "arguments": '{"a":1}'}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "no"}]}  # fmt: skip
    messages = {"messages": [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "read", "input": {"a": 1}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "no"}]}]}  # fmt: skip
    responses = {"input": [
        {"type": "function_call", "call_id": "c1", "name": "read", "arguments": '{"a":1}'},
        {"type": "function_call_output", "call_id": "c1", "output": "no"}]}  # fmt: skip
    read = [[(s.role, s.text, s.tool_calls, s.tool_call_id) for s in steps_of(b)] for b in (chat, messages, responses)]
    assert read[0] == read[1] == read[2]
    assert read[0][0][2] == (ToolCall("c1", "read", '{"a":1}'),)


def test_arguments_have_one_form_whatever_their_order() -> None:
    one, other = ToolCall("1", "f", '{"b": 2, "a": 1}'), ToolCall("2", "f", '{"a":1,"b":2}')
    assert canonical_call(one) == canonical_call(other) == ("f", '{"a":1,"b":2}')
    assert canonical_call(ToolCall("3", "f", "not json")) == ("f", "not json")
