"""Requests that an upstream gets compressed, because its config says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.config.upstreams import Upstream
from gateway.fake import FakeUpstream
from gateway.proxy.dialects.kinds import build_dialect
from gateway.proxy.request.call import Call
from gateway.proxy.request.zstandard import zstd

MakeCall = Callable[..., Call]
MakeUpstream = Callable[..., Upstream]
LONG = [{"role": "user", "content": "word " * 2000}]


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_long_body_is_compressed(make_upstream: MakeUpstream, make_call: MakeCall, kind: str) -> None:
    call = make_call("chat", messages=LONG)
    plain = build_dialect(make_upstream(kind)).request(call, "m")
    packed = build_dialect(make_upstream(kind, compress="zstd")).request(call, "m")
    assert isinstance(packed.body, bytes)
    assert len(packed.body) < 1000
    assert zstd().decompress(packed.body) == plain.body == packed.recorded
    assert packed.headers == [*plain.headers, (b"content-encoding", b"zstd")]
    assert (packed.path, packed.origin, packed.stream) == (plain.path, plain.origin, plain.stream)


def test_a_translated_request_keeps_its_record(make_upstream: MakeUpstream, make_call: MakeCall) -> None:
    dialect = build_dialect(make_upstream("vllm", compress="zstd", responses="chat"))
    request = dialect.request(make_call("responses", input="word " * 2000), "m")
    assert isinstance(request.body, bytes)
    assert "messages" in json.loads(zstd().decompress(request.body))
    assert "input" in json.loads(request.recorded)


def test_a_short_body_is_sent_as_it_is(make_upstream: MakeUpstream, make_call: MakeCall) -> None:
    call = make_call("chat", messages=[{"role": "user", "content": "Hi"}])
    plain = build_dialect(make_upstream("openai")).request(call, "m")
    assert build_dialect(make_upstream("openai", compress="zstd")).request(call, "m") == plain


def test_an_upstream_that_takes_none_names_the_config(make_upstream: MakeUpstream, make_call: MakeCall) -> None:
    for kind, shape in (("openai", "openai"), ("anthropic", "anthropic")):
        dialect = build_dialect(make_upstream(kind, compress="zstd"))
        body = dialect.error(make_call("chat" if shape == "openai" else "messages"), 415, b"no")
        assert "remove `compress`" in json.loads(body)["error"]["message"]
        assert dialect.error(make_call("chat"), 400, b'{"error":{"message":"no"}}').count(b"no") == 1


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_the_upstream_gets_it_and_the_record_is_plain(
    start: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream, stream: bool
) -> None:
    config = configured(upstream)
    config["upstreams"]["u0"]["compress"] = "zstd"
    gateway = await start(config)
    upstream.answers(200, json.dumps(CHAT).encode())
    body = {"model": "chat", "messages": LONG, "stream": stream}
    reply = await gateway.client.post("/chat/completions", json=body)
    assert reply.status_code == 200, reply.text
    [received] = upstream.calls
    assert received.header("content-encoding") == "zstd"
    assert json.loads(zstd().decompress(received.body))["messages"] == LONG
    [exchange] = await gateway.recorded(1)
    assert json.loads(exchange.request)["messages"] == LONG


CHAT = {
    "id": "chatcmpl-1", "object": "chat.completion", "model": "m",
    "usage": {"prompt_tokens": 9, "completion_tokens": 2},
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}],
}  # fmt: skip
