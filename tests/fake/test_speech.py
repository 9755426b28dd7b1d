"""The texts of answers, seen in what chat answers: limits, JSON, and a prefill that is continued."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from gateway.fake import CUT, FakeUpstream

Chat = Callable[..., dict[str, Any]]
EventsOf = Callable[[str], list[Any]]
TextOf = Callable[[list[Any]], str]
TEXT = "Hello from the fake upstream."
MESSAGES = [{"role": "user", "content": "two words"}]


@pytest.mark.parametrize("stream", [False, True])
async def test_max_tokens_ends_the_answer_with_length(
    http: httpx2.AsyncClient, stream: bool, chat: Chat, events_of: EventsOf, text_of: TextOf
) -> None:
    reply = await http.post("/chat/completions", json=chat(stream=stream, max_tokens=2))
    if stream:
        events = events_of(reply.text)
        assert text_of(events) == "Hello from "
        assert events[-2]["choices"][0]["finish_reason"] == "length"
    else:
        assert reply.json()["choices"][0]["message"]["content"] == "Hello from "
        assert reply.json()["usage"]["completion_tokens"] == 2


async def test_json_mode_gives_an_object_unless_a_script_was_chosen(
    http: httpx2.AsyncClient, upstream: FakeUpstream, chat: Chat
) -> None:
    asked = chat(response_format={"type": "json_object"})
    reply = await http.post("/chat/completions", json=asked)
    assert json.loads(reply.json()["choices"][0]["message"]["content"]) == {"answer": TEXT}

    upstream.says("no object")
    reply = await http.post("/chat/completions", json=asked)
    assert reply.json()["choices"][0]["message"]["content"] == "no object"


async def test_a_prefill_is_continued_only_by_vllm(chat: Chat, events_of: EventsOf, text_of: TextOf) -> None:
    asked = chat(
        messages=[*MESSAGES, {"role": "assistant", "content": "Hello from "}],
        continue_final_message=True,
        add_generation_prompt=False,
    )
    texts = []
    for vllm in (True, False):
        async with FakeUpstream(vllm=vllm) as upstream, httpx2.AsyncClient(base_url=upstream.base_url) as http:
            whole = (await http.post("/chat/completions", json=asked)).json()
            streamed = events_of((await http.post("/chat/completions", json=asked | {"stream": True})).text)
            texts.append((whole["choices"][0]["message"]["content"], text_of(streamed)))
    assert texts == [("the fake upstream.", "the fake upstream."), (TEXT, TEXT)]


async def test_a_continued_script_keeps_only_the_marks_that_lie_ahead(chat: Chat) -> None:
    async with FakeUpstream(vllm=True) as upstream, httpx2.AsyncClient(base_url=upstream.base_url) as http:
        upstream.says("one ", CUT, "two ", "three ")
        messages = [{"role": "assistant", "content": "one tw"}]
        reply = await http.post("/chat/completions", json=chat(messages=messages, continue_final_message=True))
    assert reply.json()["choices"][0]["message"]["content"] == "o three "
