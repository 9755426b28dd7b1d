"""Gemini's own API: requests of chats, answers and events of every chunk size, for clients of three APIs."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import orjson
import pytest

from gateway.core.errors import BadRequest
from gateway.core.exchange import Usage
from gateway.proxy.dialects.gemini import Gemini
from gateway.proxy.dialects.gemini_reader import usage_in
from gateway.proxy.dialects.gemini_request import to_gemini
from gateway.proxy.dialects.kinds import build_dialect
from gateway.proxy.dialects.types import Cut

ASKED = {"stream_options": {"include_usage": True}}
HI = [{"role": "user", "content": "hi"}]
DATA = b64encode(b"png").decode()
FAR = {"type": "image_url", "image_url": "https://x.example/a.png"}
TOO_LONG = "The input token count exceeds the maximum number of tokens allowed"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.fixture
def dialect(make_upstream: Any) -> Gemini:
    """The dialect of Google's own address."""
    return Gemini(make_upstream("gemini_native"))


def body_of(dialect: Gemini, call: Any) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(dialect.request(call, "gemini-2.5-flash").body)
    return found


def test_model_and_verb_are_in_the_path(dialect: Any, make_call: Any, make_upstream: Any) -> None:
    plain = dialect.request(make_call(messages=HI), "gemini-2.5-flash")
    assert plain.origin == "https://generativelanguage.googleapis.com"
    assert plain.path == b"/v1beta/models/gemini-2.5-flash:generateContent"
    assert (b"x-goog-api-key", b"sk-up") in plain.headers
    assert dialect.request(make_call(messages=HI, stream=True), "m").path.endswith(b"/m:streamGenerateContent?alt=sse")
    vertex = "https://europe-west4-aiplatform.googleapis.com/v1/projects/p/locations/europe-west4/publishers/google"
    there = Gemini(make_upstream("gemini_native", base_url=vertex)).request(make_call(messages=HI), "g")
    assert there.path == b"/v1/projects/p/locations/europe-west4/publishers/google/models/g:generateContent"


def test_a_chat_is_sent_with_all_of_its_parts(dialect: Any, make_call: Any) -> None:
    signed = {"google": {"thought_signature": "c2ln"}}
    body = body_of(dialect, make_call(
        messages=[
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": [
                {"type": "text", "text": "hi"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DATA}"}},
                {"type": "input_audio", "input_audio": {"format": "wav", "data": DATA}},
            ]},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "a", "type": "function", "extra_content": signed,
                 "function": {"name": "f", "arguments": '{"x":1}'}},
                {"id": "b", "type": "function", "function": {"name": "g", "arguments": ""}},
            ]},
            {"role": "tool", "tool_call_id": "a", "content": '{"ok":true}'},
            {"role": "tool", "tool_call_id": "b", "content": "plain"},
        ],
        max_tokens=50, temperature=0.5, top_p=0.9, top_k=4, seed=7, n=2, stop="END", presence_penalty=0.1,
        tools=[{"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}],
        tool_choice={"type": "function", "function": {"name": "f"}},
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
        reasoning_effort="low", user="u", store=True, safetySettings=[{"category": "c"}],
    ))  # fmt: skip
    sound = {"inlineData": {"mimeType": "audio/wav", "data": DATA}}
    inline = {"inlineData": {"mimeType": "image/png", "data": DATA}}
    assert body == {
        "systemInstruction": {"parts": [{"text": "Be short."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "hi"}, inline, sound]},
            {"role": "model", "parts": [
                {"functionCall": {"name": "f", "args": {"x": 1}}, "thoughtSignature": "c2ln"},
                {"functionCall": {"name": "g", "args": {}}},
            ]},
            {"role": "user", "parts": [
                {"functionResponse": {"name": "f", "response": {"ok": True}}},
                {"functionResponse": {"name": "g", "response": {"result": "plain"}}},
            ]},
        ],
        "generationConfig": {
            "temperature": 0.5, "topP": 0.9, "topK": 4, "seed": 7, "candidateCount": 2, "presencePenalty": 0.1,
            "maxOutputTokens": 50, "stopSequences": ["END"], "responseMimeType": "application/json",
            "responseJsonSchema": SCHEMA, "thinkingConfig": {"thinkingLevel": "low", "includeThoughts": True},
        },
        "tools": [{"functionDeclarations": [{"name": "f", "description": "d", "parametersJsonSchema": SCHEMA}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
        "safetySettings": [{"category": "c"}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"1": 1}}, "logit_bias"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"messages": [{"role": "user", "content": [FAR]}]}, "messages[0].content[0].image_url"),
        ({"messages": [{"role": "tool", "tool_call_id": "none", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
    ],
)  # fmt: skip
def test_parameters_that_it_cannot_express_are_refused_by_name(
    dialect: Any, make_call: Any, members: Any, param: str
) -> None:
    with pytest.raises(BadRequest, match="Gemini's own API") as refused:
        dialect.request(make_call(**{"messages": HI, **members}), "m")
    assert refused.value.param == param


@pytest.mark.parametrize("api", ["embeddings", "completions", "rerank"])
def test_other_apis_are_refused(dialect: Any, make_call: Any, api: str) -> None:
    with pytest.raises(BadRequest, match="cannot be asked for here"):
        dialect.request(make_call(api), "m")


def test_every_chunk_size_gives_a_chats_client_the_same(
    gemini: Any, dialect: Any, make_call: Any, read: Any, data_of: Any
) -> None:
    call = make_call(stream=True, **ASKED)
    for size in (*range(1, 60), 200, len(gemini.stream)):
        reader = dialect.reader(call, True)
        out = read(reader, gemini.stream, size)
        choices = [c["choices"][0] for c in data_of(out) if c.get("choices")]
        assert tuple(c["delta"] for c in choices if c["delta"]) == gemini.deltas, size
        assert next((c["finish_reason"] for c in choices if c["finish_reason"]), None) == gemini.finish
        assert (reader.usage, reader.error, reader.text) == (gemini.usage, gemini.error, gemini.text)
        assert out.endswith(b"data: [DONE]\n\n") is (gemini.error is None)


def test_every_chunk_size_gives_anthropics_client_the_same(
    gemini: Any, make_upstream: Any, make_call: Any, read: Any, data_of: Any
) -> None:
    dialect = build_dialect(make_upstream("gemini_native"))
    call = make_call("messages", stream=True, messages=HI, max_tokens=9)
    assert orjson.loads(dialect.request(call, "m").body)["generationConfig"] == {"maxOutputTokens": 9}
    whole = read(dialect.reader(call, False), gemini.stream, len(gemini.stream))
    for size in (1, 2, 5, 64):
        assert read(dialect.reader(call, False), gemini.stream, size) == whole
    events = data_of(whole)
    if gemini.error is None:
        assert events[-1]["type"] == "message_stop"
        assert events[-2]["usage"]["output_tokens"] == gemini.usage.output_tokens
    else:
        assert events[-1] == {
            "type": "error",
            "error": {"type": "api_error", "message": gemini.error, "code": "overloaded"},
        }


def test_clients_of_responses_get_it_too(gemini: Any, make_upstream: Any, make_call: Any, read: Any) -> None:
    dialect = build_dialect(make_upstream("gemini_native"))
    call = make_call("responses", stream=True, input="hi")
    assert orjson.loads(dialect.request(call, "m").body)["contents"] == [{"role": "user", "parts": [{"text": "hi"}]}]
    if gemini.error is None:
        out = read(dialect.reader(call, False), gemini.stream, 9)
        assert b"event: response.completed" in out or b"event: response.incomplete" in out


def test_a_stream_without_a_finish_is_cut(gemini: Any, dialect: Any, make_call: Any) -> None:
    reader = dialect.reader(make_call(stream=True), True)
    reader.feed(gemini.stream[: gemini.stream.index(b"\r\n\r\n") + 4])
    if not reader.finished:
        with pytest.raises(Cut):
            reader.end()


def test_several_candidates_are_several_choices(dialect: Any, make_call: Any) -> None:
    answer = {"candidates": [
        {"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"},
        {"content": {"parts": [{"text": "hm", "thought": True}, {"text": "b"}]},
         "finishReason": "MAX_TOKENS", "index": 1},
    ], "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2}, "modelVersion": "g"}  # fmt: skip
    reply = dialect.answer(make_call(n=2), orjson.dumps(answer))
    chat = orjson.loads(reply.body)
    assert [(c["index"], c["message"]["content"], c["finish_reason"]) for c in chat["choices"]] == [
        (0, "a", "stop"),
        (1, "b", "length"),
    ]
    assert chat["choices"][1]["message"]["reasoning"] == "hm"
    assert (reply.usage, chat["model"]) == (Usage(3, 2), "g")


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        ({}, None),
        ({"candidatesTokenCount": 3}, None),
        ({"promptTokenCount": 3}, Usage(3, 0)),
        (
            {"promptTokenCount": 3, "toolUsePromptTokenCount": 2, "thoughtsTokenCount": 4},
            Usage(5, 4, reasoning_tokens=4),
        ),
    ],
)
def test_thoughts_are_output_and_results_of_tools_are_input(raw: dict[str, Any], usage: Usage | None) -> None:
    assert usage_in(raw) == usage


def test_a_chat_without_settings_has_no_config() -> None:
    assert to_gemini({"model": "m", "messages": HI, "n": 1, "stream": True}) == {
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}]
    }


def test_a_blocked_prompt_is_a_refusal_and_not_an_empty_answer(dialect: Any, make_call: Any) -> None:
    body = orjson.dumps({"promptFeedback": {"blockReason": "SAFETY"}})
    choice = orjson.loads(dialect.answer(make_call(), body).body)["choices"][0]
    assert choice["finish_reason"] == "content_filter"
    assert "SAFETY" in choice["message"]["refusal"]


@pytest.mark.parametrize("body", [b"{}", b"[]", b"<html>", b'{"candidates":[]}'])
def test_anything_but_an_answer_is_refused(dialect: Any, make_call: Any, body: bytes) -> None:
    with pytest.raises(ValueError, match=r"no candidates|Expecting|char"):
        dialect.answer(make_call(), body)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"code": 400, "message": TOO_LONG, "status": "INVALID_ARGUMENT"}, "context_length_exceeded"),
        ({"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED"}, "rate_limit_exceeded"),
        ({"code": 404, "message": "no such model", "status": "NOT_FOUND"}, "model_not_found"),
        ({"code": 400, "message": "API key not valid", "status": "INVALID_ARGUMENT"}, None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("listed", [False, True])
def test_errors_get_the_code_that_decides_about_a_fallback(
    dialect: Any, make_call: Any, error: dict[str, Any], code: str | None, listed: bool
) -> None:
    body = orjson.dumps([{"error": error}] if listed else {"error": error})
    found = orjson.loads(dialect.error(make_call(), error["code"], body))["error"]
    assert (found["message"], found["code"]) == (error["message"], code)
