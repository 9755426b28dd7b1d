"""Chat and completions as OpenAI's SDK and a plain client get them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest

from gateway.fake import FakeUpstream, PromptScores
from gateway.fake.speech import split

Chat = Callable[..., dict[str, Any]]
EventsOf = Callable[[str], list[Any]]
TEXT = "Hello from the fake upstream."


async def test_a_plain_answer_says_the_text_and_counts_words(sdk: openai.AsyncOpenAI, chat: Chat) -> None:
    reply = await sdk.chat.completions.create(**chat(model="asked-for"))
    assert reply.id == "chatcmpl-fake-1"
    assert reply.model == "asked-for"
    assert reply.choices[0].message.content == TEXT
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (2, 5, 7)
    assert reply.usage.prompt_tokens_details is not None
    assert reply.usage.prompt_tokens_details.cached_tokens == 0


async def test_a_stream_is_role_words_finish_usage_done(
    http: httpx2.AsyncClient, chat: Chat, events_of: EventsOf
) -> None:
    reply = await http.post("/chat/completions", json=chat(stream=True, stream_options={"include_usage": True}))
    assert reply.headers["content-type"] == "text/event-stream"
    first, *deltas, finish, usage, done = events_of(reply.text)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [d["choices"][0]["delta"] for d in deltas] == [{"content": w} for w in split(TEXT)]
    assert all(d["usage"] is None for d in [first, *deltas, finish])
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 5)
    assert done == "[DONE]"


async def test_a_stream_without_usage_asked_has_none(http: httpx2.AsyncClient, chat: Chat, events_of: EventsOf) -> None:
    reply = await http.post("/chat/completions", json=chat(stream=True))
    assert all("usage" not in e for e in events_of(reply.text)[:-1])


@pytest.mark.parametrize("stream", [False, True])
async def test_n_gives_n_choices(http: httpx2.AsyncClient, stream: bool, chat: Chat, events_of: EventsOf) -> None:
    reply = await http.post("/chat/completions", json=chat(stream=stream, n=3))
    if stream:
        ends = [c["index"] for e in events_of(reply.text)[:-1] for c in e["choices"] if c["finish_reason"]]
        assert ends == [0, 1, 2]
    else:
        assert [c["index"] for c in reply.json()["choices"]] == [0, 1, 2]
        assert reply.json()["usage"]["completion_tokens"] == 15


async def test_logprobs_come_when_asked(sdk: openai.AsyncOpenAI, chat: Chat) -> None:
    reply = await sdk.chat.completions.create(**chat(logprobs=True, top_logprobs=1))
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert "".join(t.token for t in logprobs.content) == TEXT
    assert logprobs.content[0].top_logprobs[0].token == "Hello "


async def test_a_tool_call_in_both_forms(sdk: openai.AsyncOpenAI, upstream: FakeUpstream, chat: Chat) -> None:
    arguments = '{"city": "Paris", "unit": "C"}'
    upstream.tool_call("weather", arguments, id="call_9")
    whole = await sdk.chat.completions.create(**chat())
    assert whole.choices[0].finish_reason == "tool_calls"

    async with sdk.chat.completions.stream(**chat()) as stream:
        streamed = await stream.get_final_completion()
    for reply in (whole, streamed):
        calls = reply.choices[0].message.tool_calls
        assert calls is not None
        assert calls[0].id == "call_9"
        assert calls[0].type == "function"
        assert (calls[0].function.name, calls[0].function.arguments) == ("weather", arguments)


async def test_completions_in_both_forms(sdk: openai.AsyncOpenAI) -> None:
    whole = await sdk.completions.create(model="m", prompt="two words")
    assert whole.choices[0].text == TEXT
    stream = await sdk.completions.create(model="m", prompt="two words", stream=True)
    parts = [event.choices[0] async for event in stream]
    assert "".join(p.text for p in parts) == TEXT
    assert parts[-1].finish_reason == "stop"


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("JSON", 'JSON {"named_metrics":{"num_requests_running":1.0,"kv_cache_usage_perc":0.5}}'),
        ("TEXT", "TEXT named_metrics.num_requests_running=1.0, named_metrics.kv_cache_usage_perc=0.5"),
        ("YAML", None),
    ],
)
async def test_vllm_reports_its_load_on_plain_answers(asked: str, given: str | None, chat: Chat) -> None:
    async with FakeUpstream(vllm=True) as upstream, httpx2.AsyncClient(base_url=upstream.base_url) as http:
        upstream.load = {"kv_cache_usage_perc": 0.5}
        headers = {"endpoint-load-metrics-format": asked}
        plain = await http.post("/chat/completions", json=chat(), headers=headers)
        stream = await http.post("/chat/completions", json=chat(stream=True), headers=headers)
    assert plain.headers.get("endpoint-load-metrics") == given
    assert "endpoint-load-metrics" not in stream.headers


SCORED = {
    "messages": [{"role": "user", "content": "two words"}, {"role": "assistant", "content": "Hi there "}],
    "prompt_logprobs": 1, "max_tokens": 1, "continue_final_message": True, "add_generation_prompt": False,
}  # fmt: skip


def decoded(reply: Any) -> list[str]:
    return [next(iter(entry.values()))["decoded_token"] for entry in reply["prompt_logprobs"][1:]]


async def test_the_prompt_ends_with_the_answer(
    upstream: FakeUpstream, http: httpx2.AsyncClient, chat: Callable[..., dict[str, Any]]
) -> None:
    upstream.vllm = True
    upstream.scores = PromptScores(lambda place, text: -3.0 if text == " there" else -0.5)
    reply = (await http.post("/chat/completions", json=chat(**SCORED, return_token_ids=True))).json()
    assert reply["prompt_logprobs"][0] is None
    assert decoded(reply)[-5:] == ["<|im_start|>", "assistant", "\n", "Hi", " there"]
    assert len(reply["prompt_token_ids"]) == len(reply["prompt_logprobs"])
    last = list(reply["prompt_logprobs"][-1].items())
    assert last[0][0] == str(reply["prompt_token_ids"][-1])
    assert [each["rank"] for _, each in last] == [2, 1]
    assert [each["logprob"] for _, each in last] == [-3.0, -0.5]


async def test_other_engines_know_no_such_field(
    upstream: FakeUpstream, http: httpx2.AsyncClient, chat: Callable[..., dict[str, Any]]
) -> None:
    for upstream.vllm, upstream.scores in ((False, PromptScores()), (True, PromptScores(returned=False))):
        reply = await http.post("/chat/completions", json=chat(**SCORED))
        assert reply.status_code == 200
        assert "prompt_logprobs" not in reply.json()


async def test_a_stream_cannot_have_them(
    upstream: FakeUpstream, http: httpx2.AsyncClient, chat: Callable[..., dict[str, Any]]
) -> None:
    upstream.vllm = True
    reply = await http.post("/chat/completions", json=chat(**SCORED, stream=True))
    assert reply.status_code == 400
    assert "prompt_logprobs" in reply.json()["error"]["message"]
