"""An Anthropic client before an upstream that speaks OpenAI; the official SDK judges what it gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import orjson
import pytest

from gateway.config.upstreams import Upstream
from gateway.core.errors import BadRequest, UpstreamFailed
from gateway.proxy.dialects.messages import Messages
from gateway.proxy.dialects.openai import OpenAI
from gateway.proxy.dialects.types import Reader
from gateway.proxy.request.call import Call

MakeCall = Callable[..., Call]
MakeUpstream = Callable[..., Upstream]
Read = Callable[[Reader, bytes, int], bytes]
ASKED: dict[str, Any] = {"max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
CHAT = {
    "id": "chatcmpl-1", "model": "m", "usage": {"prompt_tokens": 9, "completion_tokens": 2},
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}],
}  # fmt: skip


def messages(upstream: Upstream) -> Messages:
    return Messages(upstream, OpenAI(upstream))


def test_a_message_is_asked_as_a_chat(make_upstream: MakeUpstream, make_call: MakeCall) -> None:
    call = make_call("messages", stream=True, **ASKED)
    call.headers.append((b"anthropic-beta", b"x"))
    request = messages(make_upstream("vllm")).request(call, "m")
    assert request.path == b"/v1/chat/completions"
    assert not any(name.startswith(b"anthropic") for name, _ in request.headers)
    assert isinstance(request.body, bytes)
    assert orjson.loads(request.body) == {
        "model": "m",
        "messages": ASKED["messages"],
        "stream": True,
        "max_tokens": 5,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize(("kind", "name"), [("openai", "max_completion_tokens"), ("vllm", "max_tokens")])
def test_the_limit_has_the_upstreams_own_name(
    make_upstream: MakeUpstream, make_call: MakeCall, kind: str, name: str
) -> None:
    body = messages(make_upstream(kind)).request(make_call("messages", **ASKED), "m").body
    assert isinstance(body, bytes)
    assert orjson.loads(body)[name] == 5


def test_a_body_that_is_no_object_is_refused(make_upstream: MakeUpstream, make_call: MakeCall) -> None:
    with pytest.raises(BadRequest):
        messages(make_upstream()).request(make_call("messages", body=b"[]"), "m")


def test_a_completion_is_answered_as_a_message(make_upstream: MakeUpstream, make_call: MakeCall) -> None:
    from anthropic.types import Message

    answer = messages(make_upstream()).answer(make_call("messages"), orjson.dumps(CHAT)).body
    message = Message.model_validate_json(answer)
    assert message.content[0].model_dump()["text"] == "Hi"
    assert (message.usage.input_tokens, message.stop_reason) == (9, "end_turn")


@pytest.mark.parametrize("body", [b"", b"{}", b'{"error":"no"}', b'{"choices":[7]}', b'{"choices":{"a":1}}'])
def test_a_body_without_a_completion_is_refused(make_upstream: MakeUpstream, make_call: MakeCall, body: bytes) -> None:
    with pytest.raises(ValueError, match="the body"):
        messages(make_upstream()).answer(make_call("messages"), body)


def test_errors_are_anthropics(make_upstream: MakeUpstream, make_call: MakeCall) -> None:
    dialect = messages(make_upstream())
    error = UpstreamFailed("it broke off")
    broken = dialect.broken(make_call("messages"), error)
    assert broken == b"\n\nevent: error\ndata: " + error.anthropic_body() + b"\n\n"
    assert orjson.loads(dialect.error(make_call("messages"), 404, b'{"error":{"message":"no"}}'))["type"] == "error"


def test_anthropics_sdk_reads_every_stream(
    chat_sse: Any, make_upstream: MakeUpstream, make_call: MakeCall, read: Read
) -> None:
    import anthropic

    body = read(messages(make_upstream()).reader(make_call("messages", stream=True), False), chat_sse.stream, 50)
    reply = httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)
    transport = httpx2.MockTransport(lambda _: reply)
    with (
        anthropic.Anthropic(api_key="k", http_client=httpx2.Client(transport=transport), max_retries=0) as client,
        client.messages.stream(model="m", max_tokens=5, messages=[{"role": "user", "content": "Hi"}]) as stream,
    ):
        if chat_sse.error is not None:
            with pytest.raises(anthropic.APIStatusError, match=chat_sse.error):
                stream.get_final_message()
            return
        message = stream.get_final_message()
    blocks = [{n: v for n, v in block.model_dump().items() if v is not None} for block in message.content]
    assert [{n: b[n] for n in want} for b, want in zip(blocks, chat_sse.blocks, strict=True)] == list(chat_sse.blocks)
    assert message.stop_reason == chat_sse.stop[0]
