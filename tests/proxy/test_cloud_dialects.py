"""Bedrock's Converse and InvokeModel, Gemini's own API and Claude on Vertex behind a gateway, over real sockets: what
clients get of each, a stream that is cut, fallbacks from one to the other, usage and cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anthropic
import openai
import pytest
from fixtures.vendor_doubles import converse, gemini, invoke

from gateway.fake import FakeAnswer, FakeUpstream

Configured = Callable[..., dict[str, Any]]
HI: Any = [{"role": "user", "content": "hi"}]
PRICES = {"as_of": "2026-11-01", "models": {f"model-u{n}": {"input": 1.0, "output": 10.0} for n in range(3)}}

DOUBLES: dict[str, Callable[..., FakeAnswer]] = {
    "bedrock_converse": converse,
    "bedrock_anthropic": invoke,
    "gemini_native": gemini,
}


def of_kind(config: dict[str, Any], **kinds: str) -> dict[str, Any]:
    """The upstreams with these kinds, below the doubles' own path."""
    for name, kind in kinds.items():
        config["upstreams"][name] |= {"kind": kind, "api_key": "sk-cloud"}
    return config


@pytest.mark.parametrize("kind", DOUBLES)
async def test_clients_of_three_apis_are_answered_and_charged(
    kind: str, start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    upstream.replies(DOUBLES[kind])
    gateway = await start(of_kind(configured(upstream, prices=PRICES), u0=kind))
    client = openai.AsyncOpenAI(base_url=gateway.base_url, api_key="test-key", max_retries=0)
    plain = await client.chat.completions.create(model="chat", messages=HI)
    assert (plain.choices[0].message.content, plain.choices[0].finish_reason) == ("one two three", "stop")
    assert plain.usage is not None
    assert (plain.usage.prompt_tokens, plain.usage.completion_tokens) == (11, 4)
    said, usage = "", None
    asked = {"include_usage": True}
    stream = await client.chat.completions.create(model="chat", messages=HI, stream=True, stream_options=asked)  # type: ignore[call-overload]
    async for chunk in stream:
        said += chunk.choices[0].delta.content or "" if chunk.choices else ""
        usage = chunk.usage or usage
    assert (said, usage.total_tokens) == ("one two three", 15)
    response = await client.responses.create(model="chat", input="hi")
    assert response.output_text == "one two three"
    theirs = anthropic.AsyncAnthropic(base_url=gateway.base_url.removesuffix("/v1"), api_key="test-key", max_retries=0)
    message = await theirs.messages.create(model="chat", messages=HI, max_tokens=20)
    assert (message.content[0].text, message.usage.output_tokens) == ("one two three", 4)  # type: ignore[union-attr]
    async with theirs.messages.stream(model="chat", messages=HI, max_tokens=20) as events:
        final = await events.get_final_message()
    assert (final.content[0].text, final.stop_reason) == ("one two three", "end_turn")  # type: ignore[union-attr]
    assert final.usage.output_tokens == 4
    recorded = await gateway.recorded(5)
    assert {(e.usage.input_tokens, e.usage.output_tokens) for e in recorded} == {(11, 4)}
    cost = await gateway.metric("gateway_cost_usd_total", upstream="u0")
    assert cost == pytest.approx(5 * (11 * 1e-6 + 4 * 10e-6))
    for client_ in (client, theirs):
        await client_.close()


@pytest.mark.parametrize("kind", DOUBLES)
async def test_a_refusal_goes_to_another_dialect(
    kind: str, start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    """Throttled on one cloud, answered by the other; its error is read as a limit, and costs nothing."""
    other = next(name for name in DOUBLES if name != kind)
    errors = {
        "bedrock_converse": b'{"message": "Too many requests"}',
        "bedrock_anthropic": b'{"message": "Too many requests"}',
        "gemini_native": b'{"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED"}}',
    }
    upstream.answers(429, errors[kind])
    second.replies(DOUBLES[other])
    chat = {"retries": {"attempts": 1}}
    gateway = await start(of_kind(configured(upstream, second, chat=chat, prices=PRICES), u0=kind, u1=other))
    for stream in (False, True):
        answer = await gateway.chat(stream=stream)
        assert (answer.status_code, answer.headers["x-gateway-upstream"]) == (200, "u1")
    assert await gateway.metric("gateway_cost_usd_total", upstream="u0") == 0.0


@pytest.mark.parametrize("kind", DOUBLES)
async def test_a_cut_stream_goes_on_in_another_dialect(
    kind: str, start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    """The re-run is aligned with what the client has, as between upstreams of one dialect."""
    other = next(name for name in DOUBLES if name != kind)
    upstream.replies(lambda received: DOUBLES[kind](received, cut_after=2))
    second.replies(DOUBLES[other])
    gateway = await start(of_kind(configured(upstream, second), u0=kind, u1=other))
    client = openai.AsyncOpenAI(base_url=gateway.base_url, api_key="test-key", max_retries=0)
    said = ""
    async for chunk in await client.chat.completions.create(model="chat", messages=HI, stream=True):
        said += chunk.choices[0].delta.content or ""
    assert said == "one two three"
    [exchange] = await gateway.recorded()
    assert (exchange.spliced, exchange.target.upstream) == (True, "u1")
    await client.close()


@pytest.mark.parametrize("kind", DOUBLES)
async def test_a_cut_without_a_fallback_ends_with_an_error_event(
    kind: str, start: Any, configured: Configured, upstream: FakeUpstream, events: Any
) -> None:
    upstream.replies(lambda received: DOUBLES[kind](received, cut_after=2))
    gateway = await start(of_kind(configured(upstream), u0=kind))
    found = events((await gateway.chat(stream=True)).content)
    assert found[-1]["error"]["code"] == "stream_cut"
    assert "[DONE]" not in found


async def test_claude_on_vertex_is_asked_in_its_own_form(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "one two three"}], "usage": {"input_tokens": 11, "output_tokens": 4},
    }  # fmt: skip
    upstream.answers(200, json.dumps(message).encode())
    gateway = await start(of_kind(configured(upstream, prices=PRICES), u0="vertex_anthropic"))
    answer = await gateway.chat(max_tokens=9)
    assert answer.json()["choices"][0]["message"]["content"] == "one two three"
    received = upstream.calls[-1]
    assert received.path == "/v1/publishers/anthropic/models/model-u0:rawPredict"
    assert received.json["anthropic_version"] == "vertex-2023-10-16"
    assert "model" not in received.json
    assert await gateway.metric("gateway_cost_usd_total", upstream="u0") == pytest.approx(11e-6 + 40e-6)
