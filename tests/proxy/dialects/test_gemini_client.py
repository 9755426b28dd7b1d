"""Gemini's own clients at Gemini's own API: bytes pass in every chunk size, and what is read from them is right."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.core.errors import BadRequest, UpstreamFailed
from gateway.core.exchange import Usage
from gateway.proxy.dialects.gemini_client import GeminiReader
from gateway.proxy.dialects.kinds import build_dialect
from gateway.proxy.dialects.types import Cut, PlainReply

HI = [{"role": "user", "parts": [{"text": "hi"}]}]
API: Any = "generate_content"


@pytest.fixture
def dialect(make_upstream: Any) -> Any:
    """The dialects of one upstream, for clients of every API."""
    return build_dialect(make_upstream("gemini_native"))


def test_a_request_passes_with_the_model_of_the_target(dialect: Any, make_call: Any) -> None:
    body = b'{ "contents": [], "futureField": 1e2 }'
    call = make_call(API, body=body, path=b"beta/models/alias:generateContent")
    request = dialect.request(call, "gemini-2.5-flash")
    assert request.path == b"/v1beta/models/gemini-2.5-flash:generateContent"
    assert request.body == body
    assert dict(request.headers)[b"x-goog-api-key"] == b"sk-up"
    streamed = dialect.request(make_call(API, contents=HI, stream=True), "g")
    assert streamed.path == b"/v1beta/models/g:streamGenerateContent?alt=sse"
    assert b"alias" not in streamed.body, "a model in the body could be another than the one that was authorized"
    assert dialect.request(make_call("gemini_count_tokens", contents=HI), "g").path.endswith(b"/models/g:countTokens")


def test_a_stream_is_asked_for_as_events(dialect: Any, make_call: Any) -> None:
    with pytest.raises(BadRequest, match=r"\?alt=sse"):
        dialect.request(make_call(API, contents=HI, stream=True, path=b"beta/models/a:streamGenerateContent"), "g")


def test_every_chunk_size_passes_the_same_and_is_read_alike(gemini: Any) -> None:
    for size in (*range(1, 60), 200, len(gemini.stream)):
        reader, out = GeminiReader(), []
        for at in range(0, len(gemini.stream), size):
            out.append(reader.feed(gemini.stream[at : at + size]))
        out.append(reader.end())
        assert b"".join(out) == gemini.stream, size
        assert (reader.usage, reader.error) == (gemini.usage, gemini.error)
        assert reader.complete


def test_a_stream_without_a_finish_is_cut(gemini: Any) -> None:
    first = gemini.stream.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    if b"finishReason" in first or b"blockReason" in first:
        return
    reader = GeminiReader()
    assert reader.feed(first + b"data: {") == first
    assert reader.first_content
    with pytest.raises(Cut):
        reader.end()


USAGE = {"promptTokenCount": 8, "candidatesTokenCount": 5, "thoughtsTokenCount": 2, "totalTokenCount": 15}
ANSWER = {"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}], "usageMetadata": USAGE}


def test_a_plain_answer_passes_and_its_usage_is_read(dialect: Any, make_call: Any) -> None:
    body = orjson.dumps(ANSWER)
    assert dialect.answer(make_call(API), body) == PlainReply(body, Usage(8, 7, reasoning_tokens=2))
    count = b'{"totalTokens": 31}'
    assert dialect.answer(make_call("gemini_count_tokens"), count) == PlainReply(count, None)


@pytest.mark.parametrize("body", [b"{}", b"[]", b"<html>", b'{"error":{"message":"no"}}'])
def test_a_malformed_answer_is_refused(dialect: Any, make_call: Any, body: bytes) -> None:
    with pytest.raises(ValueError, match=r"answer of Gemini|Expecting|char"):
        dialect.answer(make_call(API), body)


def test_errors_have_geminis_shape(dialect: Any, make_call: Any) -> None:
    theirs = b'{"error": {"code": 400, "message": "no", "status": "INVALID_ARGUMENT"}}'
    assert dialect.error(make_call(API), 400, theirs) == theirs
    end = dialect.broken(make_call(API, stream=True), UpstreamFailed("it broke off", code="stream_cut"))
    assert end.startswith(b"\n\ndata: ")
    error = orjson.loads(end.strip().removeprefix(b"data: "))["error"]
    assert (error["code"], error["status"], error["details"][0]["reason"]) == (502, "UNAVAILABLE", "STREAM_CUT")


@pytest.mark.parametrize(
    "kind", ["openai", "azure", "anthropic", "bedrock_converse", "bedrock_anthropic", "vertex_anthropic"]
)
def test_other_upstreams_refuse_it(kind: str, make_upstream: Any, make_call: Any) -> None:
    other = build_dialect(make_upstream(kind, base_url="https://x.example/v1"))
    with pytest.raises(BadRequest) as refused:
        other.request(make_call(API, contents=HI), "m")
    assert refused.value.code == "unsupported_api"
