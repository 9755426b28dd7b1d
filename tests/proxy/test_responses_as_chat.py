"""The Responses API on upstreams without it, over real sockets: openai-python's own client, faults and records."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest

from gateway.core.completion import completion_of
from gateway.core.exchange import Target
from gateway.fake import CUT, HOLD, FakeToolCall, FakeUpstream, Fault

TEXT = ("Paris ", "is ", "the ", "capital.")
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "weather",
    "description": "Tells the weather.",
    "strict": True,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
                   "additionalProperties": False},
}  # fmt: skip
PATCH: dict[str, Any] = {"type": "custom", "name": "apply_patch", "description": "Edits a file."}
Configured = Callable[..., dict[str, Any]]
KINDS = pytest.mark.parametrize("kind", ["openai", "anthropic"])
PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}


def as_chat(config: dict[str, Any], kind: str) -> dict[str, Any]:
    """The config with upstreams of this kind, none of which has a Responses API."""
    for upstream in config["upstreams"].values():
        upstream |= {"kind": kind, "responses": "chat"}
    return config


@pytest.fixture
def translating(start: Any, configured: Configured) -> Callable[..., Any]:
    """Starts a gateway in front of upstreams of this kind without a Responses API."""

    async def make(kind: str, *upstreams: FakeUpstream, **sections: Any) -> Any:
        return await start(as_chat(configured(*upstreams, **sections), kind))

    return make


def client_of(gateway: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=gateway.base_url, api_key="test-key", max_retries=0)


def asked_paths(*upstreams: FakeUpstream) -> set[str]:
    return {call.path for upstream in upstreams for call in upstream.calls}


@KINDS
async def test_openais_client_reads_a_plain_answer(translating: Any, upstream: FakeUpstream, kind: str) -> None:
    gateway = await translating(kind, upstream)
    upstream.says(*TEXT)
    async with client_of(gateway) as client:
        response = await client.responses.create(model="chat", input="Where is Paris?", instructions="Be brief.")
    assert response.output_text == "".join(TEXT)
    assert (response.status, response.store, response.object) == ("completed", False, "response")
    assert response.usage is not None
    assert response.usage.output_tokens == len(TEXT)
    assert asked_paths(upstream) == {PATHS[kind]}
    [exchange] = await gateway.recorded(1)
    assert (exchange.api, exchange.outcome) == ("responses", "ok")
    assert json.loads(exchange.request) == {
        "model": "model-u0", "input": "Where is Paris?", "instructions": "Be brief.",
    }  # fmt: skip
    assert exchange.usage is not None
    assert (exchange.usage.input_tokens, exchange.usage.output_tokens) == (response.usage.input_tokens, len(TEXT))
    assert completion_of(exchange).text == "".join(TEXT)


@KINDS
async def test_openais_client_reads_a_stream(translating: Any, upstream: FakeUpstream, kind: str) -> None:
    gateway = await translating(kind, upstream)
    upstream.says(*TEXT)
    async with (
        client_of(gateway) as client,
        client.responses.stream(model="chat", input="Where is Paris?") as stream,
    ):
        kinds = [event.type async for event in stream]
        response = await stream.get_final_response()
    assert response.output_text == "".join(TEXT)
    assert kinds.count("response.output_text.delta") == len(TEXT)
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    [exchange] = await gateway.recorded(1)
    assert (exchange.stream, exchange.first_token_s is not None) == (True, True)
    assert response.usage is not None
    assert exchange.usage is not None
    assert (exchange.usage.input_tokens, exchange.usage.output_tokens) == (response.usage.input_tokens, len(TEXT))
    assert completion_of(exchange).text == "".join(TEXT)


@KINDS
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_tools_are_called_and_their_results_read(
    translating: Any, upstream: FakeUpstream, kind: str, stream: bool
) -> None:
    gateway = await translating(kind, upstream)
    upstream.replies(lambda received: answer_to(received.body))
    async with client_of(gateway) as client:

        async def ask(items: list[Any]) -> Any:
            given: Any = {"model": "chat", "input": items, "tools": [WEATHER, PATCH, {"type": "web_search"}]}
            if not stream:
                return await client.responses.create(**given)
            async with client.responses.stream(**given) as events:
                return await events.get_final_response()

        items: list[Any] = [{"role": "user", "content": "Go."}]
        seen = []
        for _ in range(3):
            response = await ask(items)
            seen.append(response.output[-1].type)
            items += [item.model_dump(exclude_none=True) for item in response.output]
            for call in response.output:
                if call.type.endswith("_call"):
                    items.append({"type": f"{call.type}_output", "call_id": call.call_id, "output": "done"})
    assert seen == ["function_call", "custom_tool_call", "message"]
    called = [json.loads(item["arguments"]) for item in items if item.get("type") == "function_call"]
    assert called == [{"city": "Paris"}]
    assert [item["input"] for item in items if item.get("type") == "custom_tool_call"] == ["*** Begin\n🦜"]
    assert response.output_text == "It is done."
    assert not any(b"web_search" in call.body for call in upstream.calls)


def answer_to(body: bytes) -> Any:
    done = body.count(b'"tool_call_id"') + body.count(b'"tool_result"')
    if done == 0:
        return FakeToolCall("weather", '{"city": "Paris"}', "call_1")
    return FakeToolCall("apply_patch", '{"input": "*** Begin\\n🦜"}', "call_2") if done == 1 else "It is done."


@KINDS
async def test_an_answer_that_was_cut_short_is_incomplete(translating: Any, upstream: FakeUpstream, kind: str) -> None:
    gateway = await translating(kind, upstream)
    upstream.says(*TEXT)
    async with client_of(gateway) as client:
        response = await client.responses.create(model="chat", input="Go.", max_output_tokens=2)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")  # type: ignore[union-attr]


async def test_an_answer_of_a_schema_is_parsed(translating: Any, upstream: FakeUpstream) -> None:
    from pydantic import BaseModel

    class Reply(BaseModel):
        city: str

    gateway = await translating("openai", upstream)
    upstream.says('{"city": "Paris"}')
    async with client_of(gateway) as client:
        response = await client.responses.parse(model="chat", input="Go.", text_format=Reply)
    assert response.output_parsed == Reply(city="Paris")
    assert json.loads(upstream.calls[0].body)["response_format"]["json_schema"]["name"] == "Reply"


@KINDS
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("fault", [Fault.status(500), Fault.reset(), Fault.silence()], ids=["500", "reset", "silence"])
async def test_a_fallback_answers_before_the_first_event(
    translating: Any, upstream: FakeUpstream, second: FakeUpstream, kind: str, stream: bool, fault: Any
) -> None:
    quick = {"connect_s": 2, "first_token_s": 0.5, "answer_s": 0.5, "idle_s": 2, "total_s": 20}
    gateway = await translating(kind, upstream, second, chat={"timeouts": quick})
    upstream.always(fault)
    second.says(*TEXT)
    body = {"model": "chat", "input": "Go.", "stream": stream}
    reply = await gateway.client.post("/responses", json=body)
    assert reply.status_code == 200
    assert "".join(TEXT) in reply.text
    assert reply.headers["x-gateway-upstream"] == "u1"
    [exchange] = await gateway.recorded(1)
    assert exchange.target == Target("u1", "model-u1")
    assert exchange.attempts[0].failure is not None


@KINDS
async def test_a_cut_stream_ends_with_an_error_event(
    translating: Any, upstream: FakeUpstream, second: FakeUpstream, kind: str, events: Callable[[bytes], list[Any]]
) -> None:
    gateway = await translating(kind, upstream, second)
    upstream.says(TEXT[0], TEXT[1], CUT)
    body = {"model": "chat", "input": "Go.", "stream": True}
    heard = events((await gateway.client.post("/responses", json=body)).content)
    assert heard[-1]["type"] == "error"
    assert heard[-1]["code"] == "stream_cut"
    assert not any(event["type"].startswith("response.completed") for event in heard)
    [exchange] = await gateway.recorded(1)
    assert exchange.outcome == "cut"
    assert completion_of(exchange).text == "".join(TEXT[:2])
    assert await gateway.metric("gateway_requests_total", outcome="cut") == 1


@KINDS
async def test_an_upstreams_error_within_the_stream_fails_the_response(
    translating: Any, upstream: FakeUpstream, kind: str, events: Callable[[bytes], list[Any]]
) -> None:
    gateway = await translating(kind, upstream)
    upstream.says(TEXT[0], HOLD, *TEXT[1:])
    upstream.always(Fault.error_event_after(2))
    body, content = {"model": "chat", "input": "Go.", "stream": True}, b""
    async with gateway.client.stream("POST", "/responses", json=body) as reply:
        async for data in reply.aiter_bytes():
            content += data
            upstream.release()  # the first text has been sent on: no other target can answer now
    heard = events(content)
    assert (heard[-1]["type"], heard[-1]["response"]["status"]) == ("response.failed", "failed")
    assert heard[-1]["response"]["error"]["code"]
    [exchange] = await gateway.recorded(1)
    assert exchange.outcome == "upstream_error"


@KINDS
async def test_refusals_of_the_upstream_are_openais(translating: Any, upstream: FakeUpstream, kind: str) -> None:
    gateway = await translating(kind, upstream)
    upstream.always(Fault.status(404))
    async with client_of(gateway) as client:
        with pytest.raises(openai.NotFoundError):
            await client.responses.create(model="chat", input="Go.")
        with pytest.raises(openai.BadRequestError, match="file_search"):
            await client.responses.create(
                model="chat", input="Go.", tools=[{"type": "file_search", "vector_store_ids": ["v"]}]
            )
    assert len(upstream.calls) == 1


@KINDS
async def test_nothing_is_stored_and_the_error_says_what_to_send(
    translating: Any, upstream: FakeUpstream, kind: str
) -> None:
    gateway = await translating(kind, upstream)
    async with client_of(gateway) as client:
        response = await client.responses.create(model="chat", input="Go.")
        with pytest.raises(openai.BadRequestError, match="send the whole conversation in `input`") as caught:
            await client.responses.create(model="chat", input="More.", previous_response_id=response.id)
        assert caught.value.param == "previous_response_id"
        with pytest.raises(openai.NotFoundError, match="is not stored"):
            await client.responses.retrieve(response.id)
        with pytest.raises(openai.BadRequestError, match="cannot be translated"):
            await client.responses.compact(model="chat", input="Go.")
    assert len(upstream.calls) == 1


async def test_an_upstream_without_responses_says_how_to_configure_it(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    gateway = await start(configured(upstream))
    upstream.answers(404, b"404 page not found", content_type="text/plain")
    reply = await gateway.client.post("/responses", json={"model": "chat", "input": "Go."})
    assert reply.status_code == 404
    assert "`responses: chat`" in reply.json()["error"]["message"]


ALONE: dict[str, tuple[Fault, int, str]] = {
    "limited": (Fault.rate_limited(), 429, "rate_limit"),
    "503": (Fault.status(503), 503, ""),
    "reset": (Fault.reset(), 502, "upstream_failed"),
    "silent": (Fault.silence(), 504, ""),
    "slow": (Fault.slow_first_token(20), 504, ""),
    "context": (Fault.context_length(), 400, ""),
    "policy": (Fault.content_policy(), 400, ""),
    "cut": (Fault.cut_after(3), 502, ""),
    "stalled": (Fault.stall_after(3), 504, ""),
    "error-event": (Fault.error_event_after(3), 502, ""),
    "no-done": (Fault.no_done(), 200, ""),
    "error-body": (Fault.error_body(), 502, ""),
}
"""Faults by name, with the status and a part of the error's code without a fallback."""
BREAK = ("cut", "stalled", "error-event")
"""Faults after some events of a stream: then nobody else can answer."""


@pytest.fixture
async def faulty(start: Any, configured: Configured, second: FakeUpstream) -> AsyncIterator[Callable[..., Any]]:
    """A gateway with two aliases for each fault: alone, and with a fallback that is well."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(kind: str) -> Any:
            doubles = {name: await stack.enter_async_context(FakeUpstream()) for name in ALONE}
            config = configured(second)
            quick = {"connect_s": 2, "first_token_s": 0.5, "answer_s": 0.5, "idle_s": 0.5, "total_s": 20}
            well = {"upstream": "u0", "model": "m"}
            for name, double in doubles.items():
                double.says(*TEXT)
                double.always(ALONE[name][0])
                config["upstreams"][name] = {"base_url": double.base_url}
                model = {"targets": [{"upstream": name, "model": "m"}], "timeouts": quick, "retries": {"attempts": 1}}
                config["models"] |= {f"{name}-alone": model, name: {**model, "fallback": [well]}}
            second.says(*TEXT)
            return await start(as_chat(config, kind))

        yield make


@KINDS
async def test_every_fault_is_survived_or_named(
    faulty: Callable[..., Any], kind: str, events: Callable[[bytes], list[Any]]
) -> None:
    gateway = await faulty(kind)

    async def ask(alias: str, stream: bool) -> Any:
        body = {"model": alias, "input": "Go.", "stream": stream}
        return await gateway.client.post("/responses", json=body)

    async def check(name: str, stream: bool) -> None:
        _, status, code = ALONE[name]
        for alias in (f"{name}-alone", name):
            reply = await ask(alias, stream)
            heard = events(reply.content) if reply.headers["content-type"].startswith("text/event-stream") else []
            broke = bool(heard) and heard[-1]["type"] != "response.completed"
            if broke:
                assert name in BREAK, (alias, heard[-1])
                assert heard[-1]["type"] in ("error", "response.failed"), (alias, heard[-1])
            elif alias == name and name != "policy":
                assert reply.status_code == 200, (alias, stream, reply.text)
                assert "".join(TEXT) in reply.text
            else:
                assert reply.status_code == status, (alias, stream, reply.text)
                assert status == 200 or code in str(reply.json()["error"]["code"]), reply.text

    await asyncio.gather(*(check(name, stream) for name in ALONE for stream in (False, True)))
