"""The steps of a run, each once, from the requests of every API."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.completion import ToolCall
from gateway.scoring.trajectory import Trajectory
from gateway.scoring.types import RunCall, RunStep

LOOK = ToolCall("t1", "look", '{"at": 1}')


def path_of(*calls: tuple[Any, RunCall]) -> Trajectory:
    path = Trajectory()
    for body, call in calls:
        path.add(body if isinstance(body, bytes) else orjson.dumps(body), call)
    return path


def chat() -> list[tuple[Any, RunCall]]:
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "where?"}]
    called = {"role": "assistant", "content": None, "tool_calls": [
        {"id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}]}  # fmt: skip
    returned = {"role": "tool", "tool_call_id": "t1", "content": "attic"}
    return [
        ({"messages": asked}, RunCall(tool_calls=(LOOK,), finish_reason="tool_calls")),
        ({"messages": [*asked, called, returned]}, RunCall(text="In the attic.")),
    ]


def messages() -> list[tuple[Any, RunCall]]:
    asked = [{"role": "user", "content": [{"type": "text", "text": "where?"}]}]
    called = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {"at": 1}}]}
    returned = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "attic"}]}
    return [
        ({"system": "Be brief.", "messages": asked}, RunCall(tool_calls=(LOOK,), finish_reason="tool_use")),
        ({"system": "Be brief.", "messages": [*asked, called, returned]}, RunCall(text="In the attic.")),
    ]


def responses() -> list[tuple[Any, RunCall]]:
    asked = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "where?"}]}]
    called = {"type": "function_call", "call_id": "t1", "name": "look", "arguments": '{"at": 1}'}
    returned = {"type": "function_call_output", "call_id": "t1", "output": "attic"}
    thought = {"type": "reasoning", "summary": [], "encrypted_content": "x"}
    return [
        ({"instructions": "Be brief.", "input": asked}, RunCall(tool_calls=(LOOK,), finish_reason="completed")),
        ({"instructions": "Be brief.", "input": [*asked, thought, called, returned]}, RunCall(text="In the attic.")),
    ]


@pytest.mark.parametrize("calls", [chat(), messages(), responses()], ids=["chat", "messages", "responses"])
def test_each_step_is_there_once_in_every_api(calls: list[tuple[Any, RunCall]]) -> None:
    path = path_of(*calls)
    assert path.complete
    assert path.steps == [
        RunStep("system", "Be brief."),
        RunStep("user", "where?"),
        RunStep("assistant", "", (LOOK,)),
        RunStep("tool", "attic", tool_call_id="t1"),
        RunStep("assistant", "In the attic."),
    ]


def test_a_marked_error_is_kept() -> None:
    failed = {"type": "tool_result", "tool_use_id": "t1", "content": "no such file", "is_error": True}
    path = path_of(
        ({"messages": [{"role": "user", "content": [failed, {"type": "text", "text": "go on"}]}]}, RunCall())
    )
    assert path.steps == [
        RunStep("tool", "no such file", tool_call_id="t1", failed=True), RunStep("user", "go on"),
    ]  # fmt: skip


def test_a_history_that_the_agent_shortens_brings_nothing_twice() -> None:
    (first, looked), (second, found) = chat()
    shorter = {"messages": [{"role": "system", "content": "Summary: found it."}, *second["messages"][1:]]}
    path = path_of((first, looked), (second, found), (shorter, RunCall(text="As I said.")))
    assert [step.text for step in path.steps] == [
        "Be brief.", "where?", "", "attic", "In the attic.", "Summary: found it.", "As I said.",
    ]  # fmt: skip


@pytest.mark.parametrize("request_", [b"", b"{}", b'{"messages": [{"role"', b"[1]", b"null"])
def test_a_request_that_was_not_recorded_whole_leaves_it_incomplete(request_: bytes) -> None:
    path = path_of((request_, RunCall(text="Done.")))
    assert not path.complete
    assert path.steps == [RunStep("assistant", "Done.")]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["type", "role", "content", "tool_calls", "function", "name", "arguments", "output", "text"]),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.lists(JSON, max_size=4))
def test_no_request_breaks_it(turns: list[Any]) -> None:
    path = path_of(({"messages": turns}, RunCall()), ({"input": turns}, RunCall(text="x")))
    assert path.steps[-1] == RunStep("assistant", "x")
