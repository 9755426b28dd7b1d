"""The reply of the process of guards to a frame. The process itself is tested in tests/proxy/guards/test_process.py."""

from __future__ import annotations

from gateway.core.completion import ToolCall
from gateway.features.guards.process import SharedSubjects, subject_of


def test_a_subject_has_the_answer_and_the_facts_of_the_call() -> None:
    call = {"id": "1", "api": "messages", "alias": "chat", "stream": True, "received": 5.0, "caller": "web", "odd": 1}
    tool = {"id": "t", "name": "f", "arguments": "{}"}
    answer = {"text": "a", "reasoning": None, "tool_calls": [tool, 7], "finish_reason": None}
    found = subject_of({"call": call, "request": {"messages": []}, "answer": answer})
    assert (found.exchange.id, found.exchange.api, found.exchange.caller) == ("1", "messages", "web")
    assert (found.completion.text, found.completion.reasoning, found.completion.finish_reason) == ("a", "", "stop")
    assert found.completion.tool_calls[0] == ToolCall("t", "f", "{}")
    assert found.request == {"messages": []}


def test_a_frame_of_another_shape_is_an_empty_subject() -> None:
    assert subject_of({}).completion.text == ""
    assert subject_of({"answer": [1], "call": "x", "request": 3}).request == {}


def test_guards_that_share_calls_get_one_subject_for_a_text() -> None:
    subjects = SharedSubjects({"rude", "unsolved"})
    call, answer = {"id": "1"}, {"text": "a"}

    def subject(guard: str, text: str = "a") -> object:
        return subjects.subject({"guard": guard, "call": call, "answer": {**answer, "text": text}})

    assert subject("rude") is subject("unsolved")
    assert subject("rude") is not subject("rude", "another text of the same stream")
    assert subject("other") is not subject("other")


def test_subjects_that_guards_share_are_few() -> None:
    subjects = SharedSubjects({"rude"})
    first = subjects.subject({"guard": "rude", "call": {"id": "0"}})
    for number in range(1, 300):
        subjects.subject({"guard": "rude", "call": {"id": str(number)}})
    assert subjects.subject({"guard": "rude", "call": {"id": "0"}}) is not first
