"""Positions of texts in each API's requests, answers and events."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.proxy.guards.texts import NameSlot, PartsSlot, answer_slots, event_slots, read_event, request_slots


def values(slots: Any) -> list[Any]:
    """The texts, without the names of members and what is judged across parts."""
    return [slot.value for slot in slots if not isinstance(slot, NameSlot | PartsSlot)]


def test_all_texts_of_a_request_are_found() -> None:
    request = {
        "model": "chat",
        "system": [{"type": "text", "text": "s"}],
        "instructions": "i",
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "u"}}],
            },
            {"role": "assistant", "tool_calls": [{"id": "x", "function": {"name": "f", "arguments": '{"b": 1}'}}]},
            {"role": "tool", "tool_call_id": "x", "content": "c"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "y", "name": "f", "input": {"d": "e"}}]},
        ],
        "metadata": {"user": "not a text"},
    }
    conversation = ["a", "u", "x", "f", '{"b": 1}', "x", "c", "y", "f", {"d": "e"}, "s", "i"]
    assert values(request_slots(request)) == [*conversation, {"user": "not a text"}]


def test_a_file_within_a_text_is_not_searched() -> None:
    request = {
        "messages": [{"role": "user", "content": [{"image_url": {"url": "data:image/png;base64," + "A" * 2000}}]}]
    }
    assert values(request_slots(request)) == []


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}}]}, ["a"]),
        (
            {
                "choices": [
                    {"message": {"content": "a", "reasoning_content": "b", "refusal": None, "new": ["c"]}},
                    {"text": "d"},
                ]
            },
            ["a", "b", "c", "d"],
        ),
        (
            {"output": [{"type": "message", "content": [{"type": "output_text", "text": "a"}]}], "output_text": "a"},
            ["a", "a"],
        ),
        ({"output": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, ["f", "{}"]),
        (
            {"content": [{"type": "thinking", "thinking": "t", "signature": "s" * 64}, {"type": "text", "text": "a"}]},
            ["t", "a"],
        ),
    ],
)
def test_all_texts_of_an_answer_are_found(answer: dict[str, Any], expected: list[str]) -> None:
    assert values(answer_slots(answer)) == expected


def test_pieces_of_one_text_have_one_channel() -> None:
    def channel(api: str, part: dict[str, Any]) -> Any:
        [(channel, slot)] = read_event(api, part).pieces
        return channel, slot.value

    def chat(**choice: Any) -> dict[str, Any]:
        return {"choices": [{"index": 1, "delta": {}, **choice}]}

    assert channel("chat", chat(delta={"content": "a"})) == ((1, "content"), "a")
    call = {"index": 2, "function": {"arguments": "{"}}
    assert channel("chat", chat(delta={"tool_calls": [call]})) == ((1, "tool_calls", 2, "function", "arguments"), "{")
    assert channel("completions", chat(text="a")) == ((1, "text"), "a")
    delta = {"type": "content_block_delta", "index": 3, "delta": {"type": "text_delta", "text": "a"}}
    assert channel("messages", delta) == ((3, "text"), "a")
    delta = {"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "content_index": 1, "delta": "a"}
    assert channel("responses", delta)[1] == "a"
    assert channel("responses", delta) != channel("responses", {**delta, "content_index": 2})


def test_events_say_which_texts_are_complete() -> None:
    assert read_event("chat", {"choices": [{"index": 1, "delta": {}, "finish_reason": "stop"}]}).ended == (1,)
    assert read_event("messages", {"type": "content_block_stop", "index": 3}).ended == (3,)
    done = read_event("responses", {"type": "response.output_text.done", "text": "whole"})
    assert (done.ended, done.repeats) == ((), True)
    whole = {"type": "response.output_text.done", "text": "whole", "item_id": "msg_" + "a" * 24}
    assert values(event_slots(whole)) == ["whole"]
    assert read_event("chat", {"choices": "odd"}).pieces == []
