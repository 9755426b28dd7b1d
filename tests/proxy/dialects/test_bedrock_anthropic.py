"""Claude by InvokeModel: requests as Anthropic's own client for Bedrock sends them, and its events out of frames."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

import anthropic
import botocore.session
import orjson
import pytest
from botocore.validate import ParamValidator
from fixtures.event_frames import event, exception
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import BadRequest
from gateway.core.sse import events
from gateway.proxy.dialects.bedrock_anthropic import BedrockAnthropic, InvokeFrames
from gateway.proxy.dialects.event_frames import FrameDecoder, exception_frame
from gateway.proxy.dialects.kinds import build_dialect
from gateway.proxy.dialects.types import Cut

URL = "https://bedrock-runtime.eu-west-1.amazonaws.com"
MODEL = "eu.anthropic.claude-sonnet-5-v1:0"
HI = [{"role": "user", "content": "hi"}]


@pytest.fixture
def dialect(make_upstream: Any) -> BedrockAnthropic:
    """The dialect of one upstream, which takes an API key."""
    return BedrockAnthropic(make_upstream("bedrock_anthropic", base_url=URL))


def framed(stream: bytes) -> bytes:
    """Anthropic's events as InvokeModelWithResponseStream sends them."""
    found = [each.data for each in events(stream) if each.data.startswith(b"{")]
    return b"".join(event("chunk", bytes=b64encode(data).decode(), p="abcd") for data in found)


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_the_one_of_anthropics_own_client(dialect: Any, make_call: Any, stream: bool) -> None:
    import httpx2

    theirs: list[Any] = []

    def send(request: Any) -> Any:
        theirs.append(request)
        raise RuntimeError

    client = anthropic.AnthropicBedrock(
        aws_region="eu-west-1", api_key="sk-up", max_retries=0,
        http_client=httpx2.Client(transport=httpx2.MockTransport(send)),
    )  # fmt: skip
    betas = {"anthropic-beta": "context-1m-2025-08-07,x-2026-01-01"}
    with pytest.raises(Exception):  # noqa: B017, PT011 - nothing is sent
        client.messages.create(model=MODEL, max_tokens=9, messages=HI, stream=stream, extra_headers=betas)  # type: ignore[arg-type]
    sent = orjson.loads(theirs[0].content)
    call = make_call("messages", messages=HI, max_tokens=9, **({"stream": True} if stream else {}))
    call.headers.append((b"anthropic-version", sent["anthropic_version"].encode()))
    call.headers.append((b"anthropic-beta", betas["anthropic-beta"].encode()))
    ours = dialect.request(call, MODEL)
    assert f"{ours.origin}{ours.path.decode()}" == str(theirs[0].url).replace("v1:0", "v1%3A0")
    assert orjson.loads(ours.body) == sent
    assert dict(ours.headers)[b"authorization"].decode() == theirs[0].headers["authorization"]
    assert not any(name.startswith(b"anthropic-") for name, _ in ours.headers)
    assert orjson.loads(ours.recorded)["model"] == MODEL


def test_a_chat_is_translated_with_the_version_of_bedrock(dialect: Any, make_call: Any) -> None:
    request = dialect.request(make_call(messages=[{"role": "system", "content": "S"}, *HI], max_tokens=9), MODEL)
    assert orjson.loads(request.body) == {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 9,
        "system": [{"type": "text", "text": "S"}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    }
    assert request.path == b"/model/eu.anthropic.claude-sonnet-5-v1%3A0/invoke"
    assert orjson.loads(request.recorded)["messages"][0] == {"role": "system", "content": "S"}


def test_tokens_are_counted_by_an_operation_of_its_own(dialect: Any, make_call: Any) -> None:
    request = dialect.request(make_call("count_tokens", messages=HI), MODEL)
    assert request.path.endswith(b"/count-tokens")
    body = orjson.loads(request.body)
    shape = (
        botocore.session.get_session().get_service_model("bedrock-runtime").operation_model("CountTokens").input_shape
    )
    assert not ParamValidator().validate({"modelId": MODEL, **body}, shape).has_errors()
    counted = orjson.loads(b64decode(body["input"]["invokeModel"]["body"]))
    assert counted == {"anthropic_version": "bedrock-2023-05-31", "messages": HI, "max_tokens": 1}
    assert dialect.answer(make_call("count_tokens"), b'{"inputTokens":11}').body == b'{"input_tokens":11}'
    with pytest.raises(ValueError, match="CountTokens"):
        dialect.answer(make_call("count_tokens"), b"{}")


def test_other_apis_are_refused(dialect: Any, make_call: Any) -> None:
    with pytest.raises(BadRequest, match="has no embeddings"):
        dialect.request(make_call("embeddings", input="x"), MODEL)


@pytest.mark.parametrize("api", ["chat", "messages"])
def test_frames_of_every_chunk_size_read_as_anthropics_events(
    api: str, sse: Any, dialect: Any, make_upstream: Any, make_call: Any, data_of: Any
) -> None:
    """A client and the gateway learn the same of a stream as of the same events at Anthropic."""
    call = make_call(api, stream=True, stream_options={"include_usage": True})
    expected = fed(build_dialect(make_upstream("anthropic")).reader(call, True), sse.stream, len(sse.stream))
    stream = framed(sse.stream)
    for size in (1, 2, 3, 7, 50, 199, len(stream)):
        reader, out = fed(dialect.reader(call, True), stream, size)
        assert data_of(out) == data_of(expected[1]), size
        for name in ("usage", "error", "text", "continuable", "first_content", "complete"):
            assert getattr(reader, name) == getattr(expected[0], name), name


def fed(reader: Any, stream: bytes, size: int) -> tuple[Any, bytes]:
    """The reader and what its client has got; a stream that is cut has no end."""
    out = []
    for at in range(0, len(stream), size):
        out.append(reader.feed(stream[at : at + size]))
        if reader.complete:
            break
    try:
        out.append(reader.end())
    except Cut:
        out.append(b'data: {"cut":true}\n\n')
    return reader, b"".join(out)


def test_an_exception_within_a_stream_is_an_error(dialect: Any, make_call: Any) -> None:
    for api in ("chat", "messages"):
        reader = dialect.reader(make_call(api, stream=True), False)
        out = reader.feed(exception("throttlingException", "Too many requests"))
        assert (reader.error, reader.error_source) == ("Too many requests", "target")
        assert b"Too many requests" in out
    reader.feed(exception("validationException", "no"))


@given(st.data())
def test_a_damaged_frame_is_a_cut_and_never_an_answer(data: Any) -> None:
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}}
    whole = event("chunk", bytes=b64encode(orjson.dumps(delta)).decode())
    broken = bytearray(whole)
    broken[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert list(InvokeFrames().feed(bytes(broken))) == []
    except Cut:
        return


@pytest.mark.parametrize("bytes_", ["", "!!!", 7, b64encode(b"[1]").decode(), b64encode(b"\xff").decode()])
def test_a_frame_that_holds_no_event_is_left_out(bytes_: Any) -> None:
    good = event("chunk", bytes=b64encode(b'{"type":"ping"}').decode())
    assert list(InvokeFrames().feed(event("chunk", bytes=bytes_) + good)) == [{"type": "ping"}]


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4), st.integers(1, 40))
def test_frames_keep_their_bytes_in_any_split(texts: list[str], size: int) -> None:
    """A frame of the gateway's own is one of theirs, and what passes on is what came."""
    stream = b"".join(exception_frame("modelStreamErrorException", text) for text in texts)
    decoder = FrameDecoder()
    found = [f for at in range(0, len(stream), size) for f in decoder.feed(stream[at : at + size])]
    assert b"".join(frame.raw for frame in found) == stream
    assert [frame.json()["message"] for frame in found] == texts


def test_an_error_has_the_shape_of_the_clients_api(dialect: Any, make_call: Any) -> None:
    body = b'{"message":"Input is too long for requested model."}'
    assert orjson.loads(dialect.error(make_call(), 400, body))["error"]["code"] == "context_length_exceeded"
    theirs = orjson.loads(dialect.error(make_call("messages"), 400, body))
    assert (theirs["type"], theirs["error"]["code"]) == ("error", "context_length_exceeded")


def test_responses_are_translated_on_it(make_upstream: Any, make_call: Any) -> None:
    request = build_dialect(make_upstream("bedrock_anthropic", base_url=URL)).request(
        make_call("responses", input="hi"), MODEL
    )
    assert orjson.loads(request.body)["messages"] == [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
