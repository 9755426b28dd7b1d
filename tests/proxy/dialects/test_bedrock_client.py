"""Bedrock's own clients at Bedrock's runtime: frames pass in every chunk size, and what is read from them is right."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import orjson
import pytest
from botocore.eventstream import EventStreamBuffer
from fixtures.event_frames import event, exception
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import BadRequest, UpstreamFailed
from gateway.core.exchange import Usage
from gateway.core.sse import events
from gateway.proxy.dialects.bedrock_client import ConverseReader, InvokeReader, header_usage
from gateway.proxy.dialects.event_frames import frame_count
from gateway.proxy.dialects.kinds import build_dialect
from gateway.proxy.dialects.types import Cut, PlainReply

URL = "https://bedrock-runtime.eu-west-1.amazonaws.com"
MODEL = "eu.amazon.nova-lite-v1:0"
KINDS = pytest.mark.parametrize("kind", ["bedrock_converse", "bedrock_anthropic"])


def at(make_upstream: Any, kind: str = "bedrock_converse") -> Any:
    return build_dialect(make_upstream(kind, base_url=URL))


@KINDS
def test_a_request_passes_with_the_model_of_the_target(kind: str, make_upstream: Any, make_call: Any) -> None:
    dialect, body = at(make_upstream, kind), b'{ "messages": [], "futureField": 1e2 }'
    verbs = {
        ("converse", False): b"converse",
        ("converse", True): b"converse-stream",
        ("invoke_model", False): b"invoke",
        ("invoke_model", True): b"invoke-with-response-stream",
        ("bedrock_count_tokens", False): b"count-tokens",
    }
    for (api, stream), verb in verbs.items():
        request = dialect.request(make_call(api, body=body, stream=stream), MODEL)
        assert request.path == b"/model/eu.amazon.nova-lite-v1%3A0/" + verb
        assert (request.body, request.origin, request.stream) == (body, URL, stream)
        assert dict(request.headers)[b"authorization"] == b"Bearer sk-up"


def test_the_headers_of_guardrails_reach_bedrock(make_upstream: Any, make_call: Any) -> None:
    call = make_call("invoke_model", body=b"{}")
    call.passed.append((b"x-amzn-bedrock-guardrailidentifier", b"g1"))
    assert (b"x-amzn-bedrock-guardrailidentifier", b"g1") in at(make_upstream).request(call, MODEL).headers


def read_in(reader: Any, stream: bytes, size: int) -> bytes:
    out = [reader.feed(stream[n : n + size]) for n in range(0, len(stream), size)]
    return b"".join([*out, reader.end()])


def test_every_chunk_size_of_converse_passes_the_same(converse: Any) -> None:
    for size in (*range(1, 40), 200, len(converse.stream)):
        reader = ConverseReader()
        assert read_in(reader, converse.stream, size) == converse.stream, size
        assert (reader.usage, reader.error, reader.complete) == (converse.usage, converse.error, True)
        assert reader.first_content


def chunks(*parts: dict[str, Any]) -> bytes:
    return b"".join(event("chunk", bytes=b64encode(orjson.dumps(part)).decode()) for part in parts)


METRICS = {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 11, "outputTokenCount": 4, "invocationLatency": 9}}
STREAMS = {
    "nova": chunks(
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"delta": {"text": "Hi"}, "contentBlockIndex": 0}},
        {"messageStop": {"stopReason": "end_turn"}},
        {"metadata": {"usage": {"inputTokens": 11, "outputTokens": 4}}, **METRICS},
    ),
    "titan": chunks(
        {"outputText": "Hi", "completionReason": None}, {"outputText": "", "completionReason": "FINISH", **METRICS}
    ),
    "llama": chunks({"generation": "Hi", "stop_reason": None}, {"generation": "", "stop_reason": "stop", **METRICS}),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
def test_the_usage_of_every_model_is_in_bedrocks_metrics(name: str) -> None:
    stream = STREAMS[name]
    for size in (1, 3, 50, len(stream)):
        reader = InvokeReader()
        assert read_in(reader, stream, size) == stream
        assert (reader.usage, reader.finished, reader.first_content) == (Usage(11, 4), True, True)


def test_claudes_own_usage_counts_before_the_metrics(sse: Any) -> None:
    """Every stream of Anthropic's that ends: the usage is the one that is read at Anthropic."""
    parts = [orjson.loads(each.data) for each in events(sse.stream) if each.data.startswith(b"{")]
    if sse.error is not None or sse.finish is None or parts[-1]["type"] != "message_stop":
        return
    stream = chunks(*parts[:-1], {**parts[-1], **METRICS})
    for size in (1, 7, len(stream)):
        reader = InvokeReader()
        assert read_in(reader, stream, size) == stream
        assert reader.usage == sse.usage


def test_a_cut_stream_of_either_api_is_no_answer() -> None:
    said = event("contentBlockDelta", contentBlockIndex=0, delta={"text": "x"})
    for reader, part in ((ConverseReader(), said), (InvokeReader(), chunks({"outputText": "Hi"}))):
        assert reader.feed(part + part[:9]) == part, "half a frame does not pass"
        with pytest.raises(Cut):
            reader.end()


def test_an_exception_passes_as_it_came_and_says_whose_fault_it_is() -> None:
    for kind, source in (("throttlingException", "target"), ("validationException", "request")):
        for reader in (ConverseReader(), InvokeReader()):
            frame = exception(kind, "no")
            assert reader.feed(frame) == frame
            assert (reader.error, reader.error_source, reader.complete) == ("no", source, True)


@given(st.binary(max_size=300))
def test_no_bytes_are_an_answer_by_chance(data: bytes) -> None:
    for reader in (ConverseReader(), InvokeReader()):
        try:
            reader.feed(data)
            reader.end()
        except Cut:
            continue
        raise AssertionError(data)


def test_plain_answers_report_their_usage_in_each_form(make_upstream: Any, make_call: Any) -> None:
    dialect = at(make_upstream)
    usage = {"inputTokens": 11, "outputTokens": 4, "totalTokens": 15, "cacheReadInputTokens": 100}
    converse = orjson.dumps({"output": {"message": {"content": [{"text": "x"}]}}, "usage": usage})
    expected = Usage(111, 4, cached_input_tokens=100)
    assert dialect.answer(make_call("converse"), converse) == PlainReply(converse, expected)
    claude = b'{"content": [], "usage": {"input_tokens": 11, "output_tokens": 4}}'
    assert dialect.answer(make_call("invoke_model"), claude).usage == Usage(11, 4)
    titan = b'{"results": [{"outputText": "x"}]}'
    assert dialect.answer(make_call("invoke_model"), titan) == PlainReply(titan, None)
    assert header_usage(
        [(b"x-amzn-bedrock-input-token-count", b"11"), (b"x-amzn-bedrock-output-token-count", b"4")]
    ) == (Usage(11, 4))
    assert header_usage([(b"content-type", b"application/json")]) is None
    for api, body in (
        ("converse", b"{}"),
        ("bedrock_count_tokens", b"{}"),
        ("invoke_model", b"[]"),
        ("converse", b"<"),
    ):
        with pytest.raises(ValueError, match=r"answer of|JSON object|char|Expecting"):
            dialect.answer(make_call(api), body)


def test_a_broken_stream_ends_with_an_exception_that_botocore_reads(make_upstream: Any, make_call: Any) -> None:
    end = at(make_upstream).broken(make_call("converse", stream=True), UpstreamFailed("it broke off"))
    buffer = EventStreamBuffer()
    buffer.add_data(end)
    [message] = list(buffer)
    assert message.headers[":exception-type"] == "modelStreamErrorException"
    assert message.to_response_dict()["status_code"] == 400
    assert orjson.loads(message.payload) == {"message": "it broke off"}
    assert frame_count(end * 3) == 3


@pytest.mark.parametrize("kind", ["openai", "azure", "anthropic", "gemini_native", "vertex_anthropic"])
def test_other_upstreams_refuse_it(kind: str, make_upstream: Any, make_call: Any) -> None:
    other = build_dialect(make_upstream(kind, base_url="https://x.example/v1"))
    with pytest.raises(BadRequest) as refused:
        other.request(make_call("converse", messages=[]), "m")
    assert refused.value.code == "unsupported_api"
