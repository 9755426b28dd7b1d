"""Refusals in each API's own shape, read by its own client's models."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.types import Message
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response

from gateway.core.completion import assemble
from gateway.proxy.guards.refusals import StreamSoFar, plain_refusal, stream_refusal

TEXT = "The answer was refused by the guard g. If this is wrong, report the call 1."


def test_plain_refusals_are_what_the_clients_expect() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    given = {"id": "x", "model": "m", "usage": usage, "choices": [{"message": {"content": "secret"}}]}
    chat = ChatCompletion.model_validate_json(plain_refusal("chat", TEXT, "1", "chat", given))
    assert (chat.id, chat.choices[0].finish_reason, chat.choices[0].message.refusal) == (
        "blocked-1",
        "content_filter",
        TEXT,
    )
    assert chat.usage is not None
    text = Completion.model_validate_json(plain_refusal("completions", TEXT, "1", "chat"))
    assert (text.id, text.choices[0].text, text.choices[0].finish_reason) == ("blocked-1", TEXT, "content_filter")
    message = Message.model_validate_json(plain_refusal("messages", TEXT, "1", "chat"))
    assert (message.stop_reason, message.content[0].to_dict()["text"]) == ("refusal", TEXT)


def test_a_refused_response_keeps_no_text_of_the_answer() -> None:
    given = {
        "id": "resp_1", "object": "response", "created_at": 3, "model": "m", "status": "completed",
        "output_text": "secret",
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "secret"}]}],
        "tools": [], "tool_choice": "auto", "parallel_tool_calls": True,
    }  # fmt: skip
    body = plain_refusal("responses", TEXT, "1", "chat", given)
    response = Response.model_validate_json(body)
    assert response.incomplete_details is not None
    assert (response.id, response.status, response.incomplete_details.reason) == (
        "blocked-1",
        "incomplete",
        "content_filter",
    )
    assert b"secret" not in body


@pytest.mark.parametrize("api", ["chat", "completions", "messages", "responses"])
@pytest.mark.parametrize("begun", [False, True])
def test_a_refused_stream_ends_as_the_api_says(api: str, begun: bool) -> None:
    so_far = StreamSoFar()
    so_far.note("chat", {"id": "x", "model": "m", "created": 5})
    ended = stream_refusal(api, TEXT, "1", "chat", so_far if begun else None)
    answer = assemble(api, True, ended)
    assert answer.finish_reason in ("content_filter", "refusal")
    assert TEXT in answer.text + answer.refusal
    assert TEXT not in json.dumps(answer.text) or api in ("completions", "messages")


def test_chunks_of_a_refusal_are_valid() -> None:
    events = stream_refusal("chat", TEXT, "1", "chat", None).decode().split("\n\n")
    chunks = [ChatCompletionChunk.model_validate_json(each[6:]) for each in events if each.startswith("data: {")]
    assert chunks[-1].choices[0].finish_reason == "content_filter"
    assert events[-2] == "data: [DONE]"


def test_an_open_block_is_closed_first() -> None:
    so_far = StreamSoFar()
    parts: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "m1", "model": "m"}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    ]
    for part in parts:
        so_far.note("messages", part)
    kinds = [json.loads(line[6:]) for line in stream_refusal("messages", TEXT, "1", "c", so_far).decode().splitlines()
             if line.startswith("data: ")]  # fmt: skip
    assert [kind["type"] for kind in kinds[:2]] == ["content_block_stop", "content_block_start"]
    assert kinds[1]["index"] == 1


def test_events_of_a_response_continue_its_numbers() -> None:
    so_far = StreamSoFar()
    so_far.note("responses", {"type": "response.created", "sequence_number": 0, "response": {"id": "r", "model": "m"}})
    so_far.note("responses", {"type": "response.output_text.delta", "sequence_number": 7, "delta": "x"})
    lines = stream_refusal("responses", TEXT, "1", "c", so_far).decode().splitlines()
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    assert [event["sequence_number"] for event in events] == [8, 9, 10]
    assert events[-1]["response"]["id"] == "r"
