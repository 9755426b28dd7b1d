"""Bedrock's Converse API: requests as botocore's model of it takes them, answers and frames of every chunk size."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import botocore.session
import orjson
import pytest
from botocore.validate import ParamValidator
from fixtures.event_frames import event
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import BadRequest
from gateway.core.exchange import Usage
from gateway.proxy.dialects.bedrock_converse import BedrockConverse
from gateway.proxy.dialects.converse_reader import ConverseFrames
from gateway.proxy.dialects.converse_request import to_converse
from gateway.proxy.dialects.kinds import build_dialect
from gateway.proxy.dialects.types import Cut

ASKED = {"stream_options": {"include_usage": True}}
URL = "https://bedrock-runtime.eu-west-1.amazonaws.com"
CLAUDE, NOVA = "eu.anthropic.claude-sonnet-5-v1:0", "amazon.nova-lite-v1:0"
PNG = "data:image/png;base64," + b64encode(b"png").decode()
MODEL = botocore.session.get_session().get_service_model("bedrock-runtime")


@pytest.fixture
def dialect(make_upstream: Any) -> BedrockConverse:
    """The dialect of one upstream, which takes an API key."""
    return BedrockConverse(make_upstream("bedrock_converse", base_url=URL))


def sent(dialect: BedrockConverse, call: Any, model: str = NOVA) -> dict[str, Any]:
    """The body, which is valid by the model of the API that botocore has."""
    body = orjson.loads(dialect.request(call, model).body)
    shape = MODEL.operation_model("Converse").input_shape
    report = ParamValidator().validate({"modelId": model, **body}, shape)
    assert not report.has_errors(), report.generate_report()
    found: dict[str, Any] = body
    return found


def test_the_path_has_the_model_and_streams_have_their_own_verb(dialect: Any, make_call: Any) -> None:
    messages = [{"role": "user", "content": "hi"}]
    plain = dialect.request(make_call(messages=messages), CLAUDE)
    assert (plain.origin, plain.path) == (URL, b"/model/eu.anthropic.claude-sonnet-5-v1%3A0/converse")
    assert (b"authorization", b"Bearer sk-up") in plain.headers
    streamed = dialect.request(make_call(messages=messages, stream=True), CLAUDE)
    assert streamed.path.endswith(b"/converse-stream")
    assert streamed.stream
    assert orjson.loads(streamed.recorded)["messages"] == messages, "the record has the client's own request"


def test_a_chat_is_sent_with_all_of_its_parts(dialect: Any, make_call: Any) -> None:
    tool = {"name": "weather", "description": "d", "parameters": {"type": "object", "properties": {}}, "strict": True}
    body = sent(
        dialect,
        make_call(
            messages=[
                {"role": "system", "content": "Be short."},
                {"role": "user", "content": [
                    {"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {"url": PNG}}
                ]},
                {"role": "assistant", "content": "Look:", "tool_calls": [
                    {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
                ]},
                {"role": "tool", "tool_call_id": "t1", "content": "cold"},
            ],
            max_tokens=50, temperature=0.5, top_p=0.9, stop=["END"],
            tools=[{"type": "function", "function": tool}], tool_choice="required",
        ),
    )  # fmt: skip
    assert body == {
        "system": [{"text": "Be short."}],
        "messages": [
            {"role": "user", "content": [
                {"text": "hi"}, {"image": {"format": "png", "source": {"bytes": b64encode(b"png").decode()}}}
            ]},
            {"role": "assistant", "content": [
                {"text": "Look:"}, {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Oslo"}}}
            ]},
            {"role": "user", "content": [{"toolResult": {"toolUseId": "t1", "content": [{"text": "cold"}]}}]},
        ],
        "inferenceConfig": {"maxTokens": 50, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END"]},
        "toolConfig": {
            "tools": [{"toolSpec": {
                "name": "weather", "description": "d", "strict": True,
                "inputSchema": {"json": {"type": "object", "properties": {}}},
            }}],
            "toolChoice": {"any": {}},
        },
    }  # fmt: skip


HI = [{"role": "user", "content": "hi"}]
FAR = {"type": "image_url", "image_url": "https://x.example/a.png"}
TOOLS = [{"type": "function", "function": {"name": "f"}}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def test_without_a_limit_none_is_sent(dialect: Any, make_call: Any) -> None:
    assert "inferenceConfig" not in sent(dialect, make_call(messages=HI))


def test_formats_and_efforts_have_members_of_their_own(dialect: Any, make_call: Any) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    body = sent(dialect, make_call(messages=HI, response_format=form, reasoning_effort="low"))
    assert body["outputConfig"]["effort"] == "low"
    structure = body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
    assert json.loads(structure["schema"]) == SCHEMA
    assert "additionalModelRequestFields" not in body
    claude = sent(dialect, make_call(messages=HI, reasoning_effort="low", top_k=5), CLAUDE)
    assert claude["additionalModelRequestFields"] == {"top_k": 5, "thinking": {"type": "adaptive"}}
    nova = sent(dialect, make_call(messages=HI, top_k=5))
    assert nova["additionalModelRequestFields"] == {"inferenceConfig": {"topK": 5}}


def test_messages_of_anthropics_clients_keep_thinking_and_caching(dialect: Any, make_call: Any) -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    cached = {"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}
    turns = [
        {"role": "user", "content": [cached]},
        {"role": "assistant", "content": [thought, {"type": "text", "text": "x"}]},
    ]
    body = sent(dialect, make_call("messages", messages=[*turns, *HI], max_tokens=9, system="S"), CLAUDE)
    assert body["system"] == [{"text": "S"}]
    assert body["messages"][0]["content"] == [{"text": "long"}, {"cachePoint": {"type": "default"}}]
    reasoning = {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}}
    assert body["messages"][1]["content"] == [reasoning, {"text": "x"}]


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"n": 2}, "n"),
        ({"logit_bias": {"1": 2}}, "logit_bias"),
        ({"top_k": 5}, "top_k"),
        ({"messages": [{"role": "user", "content": [FAR]}]}, "messages[0].content[0].source"),
        ({"tools": TOOLS, "parallel_tool_calls": False}, "parallel_tool_calls"),
    ],
)
def test_parameters_that_it_cannot_express_are_refused_by_name(
    dialect: Any, make_call: Any, members: Any, param: str
) -> None:
    with pytest.raises(BadRequest, match="Bedrock's Converse API") as refused:
        dialect.request(make_call(**{"messages": HI, **members}), "mistral.large")
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "system", "content": "x"}, "messages[0].role"),
        ({"role": "user", "content": [{"type": "server_tool_use"}]}, "messages[0].content[0].type"),
        ({"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/tiff"}}]},
         "messages[0].content[0].source.media_type"),
    ],
)  # fmt: skip
def test_messages_that_it_cannot_express_are_named_by_their_place(message: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        to_converse({"messages": [message]}, NOVA)
    assert refused.value.param == param


@pytest.mark.parametrize("api", ["embeddings", "count_tokens", "completions"])
def test_other_apis_are_refused(dialect: Any, make_call: Any, api: str) -> None:
    with pytest.raises(BadRequest, match="which has no"):
        dialect.request(make_call(api), NOVA)


def test_every_chunk_size_gives_a_chats_client_the_same(
    converse: Any, dialect: Any, make_call: Any, read: Any, data_of: Any
) -> None:
    call = make_call(stream=True, **ASKED)
    for size in (*range(1, 60), 200, len(converse.stream)):
        reader = dialect.reader(call, True)
        out = read(reader, converse.stream, size) if converse.error is None else fed(reader, converse.stream, size)
        choices = [c["choices"][0] for c in data_of(out) if c.get("choices")]
        assert tuple(c["delta"] for c in choices if c["delta"]) == converse.deltas, size
        assert next((c["finish_reason"] for c in choices if c["finish_reason"]), None) == converse.finish
        assert (reader.usage, reader.error, reader.text) == (converse.usage, converse.error, converse.text)
        assert out.endswith(b"data: [DONE]\n\n") is (converse.error is None)
        if converse.error is None:
            assert data_of(out)[-1]["usage"]["prompt_tokens"] == converse.usage.input_tokens


def fed(reader: Any, stream: bytes, size: int) -> bytes:
    """Feeds a stream without the end, which an error has replaced."""
    return b"".join(reader.feed(stream[at : at + size]) for at in range(0, len(stream), size))


def test_every_chunk_size_gives_anthropics_client_the_same(
    converse: Any, dialect: Any, make_call: Any, data_of: Any
) -> None:
    import anthropic

    call = make_call("messages", stream=True)
    whole = fed(dialect.reader(call, False), converse.stream, len(converse.stream))
    for size in (1, 2, 3, 7, 50, 199):
        assert fed(dialect.reader(call, False), converse.stream, size) == whole
    events = data_of(whole)
    adapter = anthropic.types.RawMessageStreamEvent
    import pydantic

    for each in events:
        if each["type"] != "error":
            pydantic.TypeAdapter(adapter).validate_python(each)
    starts = [e["index"] for e in events if e["type"] == "content_block_start"]
    assert starts == sorted(set(starts)), "each block begins once"
    assert (events[-1]["type"] == "message_stop") is (converse.error is None)


def test_a_stream_without_usage_is_complete_and_without_stop_is_cut(dialect: Any, make_call: Any) -> None:
    start, said = (
        event("messageStart", role="assistant"),
        event("contentBlockDelta", contentBlockIndex=0, delta={"text": "x"}),
    )
    stop = event("messageStop", stopReason="end_turn")
    reader = dialect.reader(make_call(stream=True), True)
    reader.feed(start + said + stop)
    assert reader.finished
    assert not reader.complete
    assert reader.end().endswith(b"data: [DONE]\n\n")
    assert reader.usage is None
    for cut in (start + said, start + said + stop[:-1], start + said[:9]):
        reader = dialect.reader(make_call(stream=True), True)
        reader.feed(cut)
        with pytest.raises(Cut):
            reader.end()
        assert reader.text == ("x" if len(cut) > len(start) + 9 else "")
        assert reader.continuable


@given(st.data())
def test_a_damaged_frame_is_a_cut_and_never_an_answer(data: Any) -> None:
    whole = event("contentBlockDelta", contentBlockIndex=0, delta={"text": "hello"})
    at = data.draw(st.integers(0, len(whole) - 1))
    broken = bytearray(whole)
    broken[at] ^= data.draw(st.integers(1, 255))
    frames = ConverseFrames("id", "model")
    try:
        found = list(frames.feed(bytes(broken)))
    except Cut:
        return
    assert found == [], "a wrong length can also leave a frame incomplete"


ANSWER = {
    "output": {"message": {"role": "assistant", "content": [
        {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "s"}}},
        {"text": "Hello"},
        {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Oslo"}}},
    ]}},
    "stopReason": "tool_use",
    "usage": {"inputTokens": 11, "outputTokens": 4, "totalTokens": 15, "cacheReadInputTokens": 100},
    "metrics": {"latencyMs": 5},
}  # fmt: skip


def test_a_plain_answer_is_a_chat_and_a_message(dialect: Any, make_call: Any) -> None:
    reply = dialect.answer(make_call(), orjson.dumps(ANSWER))
    chat = orjson.loads(reply.body)
    message = chat["choices"][0]["message"]
    assert (message["content"], message["reasoning"]) == ("Hello", "Hm.")
    assert message["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Oslo"}'}
    assert chat["choices"][0]["finish_reason"] == "tool_calls"
    assert (chat["model"], chat["usage"]["prompt_tokens"]) == ("alias", 111)
    assert reply.usage == Usage(111, 4, cached_input_tokens=100)
    found = orjson.loads(dialect.answer(make_call("messages"), orjson.dumps(ANSWER)).body)
    assert [block["type"] for block in found["content"]] == ["thinking", "text", "tool_use"]
    assert (found["stop_reason"], found["usage"]["cache_read_input_tokens"]) == ("tool_use", 100)


@pytest.mark.parametrize("body", [b"{}", b"[]", b"<html>", b'{"output":{"message":{}}}', b'{"message":"no"}'])
def test_anything_but_an_answer_is_refused(dialect: Any, make_call: Any, body: bytes) -> None:
    with pytest.raises(ValueError, match=r"answer of Converse|Expecting|char"):
        dialect.answer(make_call(), body)


@pytest.mark.parametrize(
    ("status", "message", "code"),
    [
        (400, "Input is too long for requested model.", "context_length_exceeded"),
        (400, "Malformed input request", None),
        (403, "User is not authorized", "permission_denied"),
        (404, "The model was not found", "model_not_found"),
        (429, "Too many requests", "rate_limit_exceeded"),
        (500, "Internal", None),
    ],
)
def test_errors_get_the_code_that_decides_about_a_fallback(
    dialect: Any, make_call: Any, status: int, message: str, code: str | None
) -> None:
    body = orjson.dumps({"message": message})
    error = orjson.loads(dialect.error(make_call(), status, body))["error"]
    assert (error["message"], error["code"]) == (message, code)
    theirs = orjson.loads(dialect.error(make_call("messages"), status, body))["error"]
    assert theirs["message"] == message


def test_responses_are_translated_on_it(make_upstream: Any, make_call: Any, converse: Any, read: Any) -> None:
    dialect = build_dialect(make_upstream("bedrock_converse", base_url=URL))
    call = make_call("responses", input="hi", stream=True)
    request = dialect.request(call, NOVA)
    assert orjson.loads(request.body)["messages"] == [{"role": "user", "content": [{"text": "hi"}]}]
    if converse.error is None:
        out = read(dialect.reader(call, False), converse.stream, 7)
        assert b"event: response.completed" in out or b"event: response.incomplete" in out
