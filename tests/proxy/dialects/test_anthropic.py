"""Anthropic upstream, asked by both kinds of clients; the official SDKs judge what their clients get."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import openai
import orjson
import pytest
from openai.types.chat import ChatCompletionChunk

from gateway.config.upstreams import Upstream
from gateway.core.errors import BadRequest, UpstreamFailed
from gateway.proxy.dialects.anthropic import Anthropic
from gateway.proxy.dialects.types import Reader
from gateway.proxy.request.call import Call

MakeCall = Callable[..., Call]
MakeUpstream = Callable[..., Upstream]
Read = Callable[[Reader, bytes, int], bytes]

USER = [{"role": "user", "content": "Hi"}]
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "tool_use",
    "stop_sequence": None, "usage": {"input_tokens": 5, "output_tokens": 2},
    "content": [{"type": "text", "text": "Hi"}, {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}],
}  # fmt: skip


@pytest.fixture
def claude(make_upstream: MakeUpstream) -> Anthropic:
    """The dialect of Anthropic's API."""
    return Anthropic(make_upstream("anthropic"))


def test_a_chat_is_asked_as_a_message(claude: Anthropic, make_call: MakeCall) -> None:
    call = make_call(messages=USER)
    call.headers.append((b"openai-organization", b"org"))
    request = claude.request(call, "claude")
    assert (request.method, request.origin, request.path) == (b"POST", "https://api.anthropic.com", b"/v1/messages")
    assert isinstance(request.body, bytes)
    assert orjson.loads(request.body)["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    assert request.headers == [
        (b"content-type", b"application/json"),
        (b"user-agent", b"test"),
        (b"accept-encoding", b"identity"),
        (b"x-api-key", b"sk-up"),
        (b"anthropic-version", b"2023-06-01"),
    ]


def test_what_was_spliced_into_the_body_is_asked_for(claude: Anthropic, make_call: MakeCall) -> None:
    """call.fields may leave out what is large; the body holds all of it."""
    call = make_call(messages=..., body=b'{"model":"alias","messages":[{"role":"user","content":"large"}]}')
    body = claude.request(call, "claude").body
    assert isinstance(body, bytes)
    assert b"large" in body


def test_its_own_clients_bytes_pass(claude: Anthropic, make_call: MakeCall) -> None:
    body = b'{ "model":"alias", "max_tokens": 10, "temperature":0.70, "messages":[ ] }'
    for api, path in (("messages", b"/v1/messages"), ("count_tokens", b"/v1/messages/count_tokens")):
        call = make_call(api, body=body)
        call.headers.append((b"anthropic-version", b"2024-01-01"))
        request = claude.request(call, "claude")
        assert (request.path, request.body) == (path, body.replace(b"alias", b"claude"))
        assert [v for n, v in request.headers if n == b"anthropic-version"] == [b"2024-01-01"]


def test_its_own_clients_answers_pass(claude: Anthropic, make_call: MakeCall) -> None:
    body = orjson.dumps(MESSAGE)
    assert claude.answer(make_call("messages"), body).body is body
    assert claude.error(make_call("messages"), 400, b"x") == b"x"


def test_a_chat_client_gets_a_completion(claude: Anthropic, make_call: MakeCall) -> None:
    chat = openai.types.chat.ChatCompletion.model_validate_json(claude.answer(make_call(), orjson.dumps(MESSAGE)).body)
    calls = chat.choices[0].message.tool_calls
    assert calls is not None
    assert chat.choices[0].message.content == "Hi"
    assert calls[0].model_dump()["function"] == {"name": "f", "arguments": '{"a":1}'}
    assert chat.created == 1764000000


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"type":"error","error":{"type":"api_error","message":"no"}}', b'{"content":"x"}']
)
def test_a_body_that_is_not_a_message_is_refused(claude: Anthropic, make_call: MakeCall, body: bytes) -> None:
    with pytest.raises(ValueError, match="the body is"):
        claude.answer(make_call(), body)


def test_a_chat_clients_errors_are_openais(claude: Anthropic, make_call: MakeCall) -> None:
    body = b'{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}'
    assert orjson.loads(claude.error(make_call(), 429, body))["error"]["code"] == "rate_limit_exceeded"


def test_a_broken_stream_ends_in_the_clients_own_form(claude: Anthropic, make_call: MakeCall) -> None:
    error = UpstreamFailed("it broke off")
    assert claude.broken(make_call(), error) == b"\n\ndata: " + error.body() + b"\n\n"
    assert claude.broken(make_call("messages"), error) == b"\n\nevent: error\ndata: " + error.anthropic_body() + b"\n\n"


def test_a_body_that_is_no_object_is_refused(claude: Anthropic, make_call: MakeCall) -> None:
    with pytest.raises(BadRequest):
        claude.request(make_call(body=b"[]"), "claude")


def test_openais_sdk_reads_every_stream(sse: Any, claude: Anthropic, make_call: MakeCall, read: Read) -> None:
    call = make_call(stream=True, stream_options={"include_usage": True})
    body = read(claude.reader(call, False), sse.stream, 50)
    reply = httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)
    transport = httpx2.MockTransport(lambda _: reply)
    chunks: list[ChatCompletionChunk] = []
    with openai.OpenAI(api_key="k", http_client=httpx2.Client(transport=transport), max_retries=0) as client:
        stream = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}], stream=True)
        if sse.error is None:
            chunks += stream
        else:
            with pytest.raises(openai.APIError, match=sse.error):
                chunks += stream
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "".join(d.get("content", "") for d in sse.deltas) or sse.error


@pytest.mark.parametrize("stream", [True, False])
def test_the_request_says_whether_its_reply_is_a_stream(claude: Anthropic, make_call: MakeCall, stream: bool) -> None:
    call = make_call(stream=stream, messages=[{"role": "user", "content": "hi"}])
    assert claude.request(call, "m").stream is stream
