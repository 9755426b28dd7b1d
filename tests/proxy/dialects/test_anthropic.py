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
from gateway.proxy.dialects.anthropic import MAX_TOKENS, Anthropic, messages_of, to_anthropic
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


def test_spliced_members_are_sent(claude: Anthropic, make_call: MakeCall) -> None:
    """The parsed fields (`call.fields`) may leave out what is large; the body holds all of it."""
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


TURN = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
PLAIN = {"model": "claude", "max_tokens": MAX_TOKENS, "messages": TURN}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
FUNCTION = {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True}}
TOOL = {"name": "f", "description": "d", "input_schema": SCHEMA, "strict": True}
FORM = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}}


@pytest.mark.parametrize(
    ("asked", "translated"),
    [
        ({}, {}),
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"max_completion_tokens": 6, "max_tokens": 5}, {"max_tokens": 6}),
        ({"temperature": 0.70}, {"temperature": 0.70}),
        ({"temperature": 1.7}, {"temperature": 1}),
        ({"top_p": 0.9, "top_k": 5}, {"top_p": 0.9, "top_k": 5}),
        ({"stop": "x"}, {"stop_sequences": ["x"]}),
        ({"stop": ["x", "y"]}, {"stop_sequences": ["x", "y"]}),
        ({"stop": None}, {}),
        ({"stream": True, "stream_options": {"include_usage": True}}, {"stream": True}),
        ({"user": "u1"}, {"metadata": {"user_id": "u1"}}),
        ({"safety_identifier": "s1"}, {"metadata": {"user_id": "s1"}}),
        ({"n": 1, "presence_penalty": 0, "frequency_penalty": 0.0, "logprobs": False, "logit_bias": {}}, {}),
        ({"seed": 7, "store": True, "metadata": {"a": "b"}, "service_tier": "auto", "modalities": ["text"]}, {}),
        ({"continue_final_message": True, "add_generation_prompt": False}, {}),
        ({"tools": [FUNCTION]}, {"tools": [TOOL]}),
        ({"tools": []}, {}),
        ({"tools": [{"type": "function", "function": {"name": "g"}}]},
         {"tools": [{"name": "g", "input_schema": {"type": "object", "properties": {}}}]}),
        ({"tools": [FUNCTION], "tool_choice": "auto"}, {"tools": [TOOL], "tool_choice": {"type": "auto"}}),
        ({"tools": [FUNCTION], "tool_choice": "none"}, {"tools": [TOOL], "tool_choice": {"type": "none"}}),
        ({"tools": [FUNCTION], "tool_choice": "required"}, {"tools": [TOOL], "tool_choice": {"type": "any"}}),
        ({"tools": [FUNCTION], "tool_choice": {"type": "function", "function": {"name": "f"}}},
         {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "f"}}),
        ({"tools": [FUNCTION], "parallel_tool_calls": False},
         {"tools": [TOOL], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}),
        ({"tools": [FUNCTION], "parallel_tool_calls": False, "tool_choice": "required"},
         {"tools": [TOOL], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}}),
        ({"tools": [FUNCTION], "parallel_tool_calls": False, "tool_choice": "none"},
         {"tools": [TOOL], "tool_choice": {"type": "none"}}),
        ({"reasoning_effort": "high"}, {"output_config": {"effort": "high"}, "thinking": {"type": "adaptive"}}),
        ({"reasoning_effort": "minimal"}, {"output_config": {"effort": "low"}}),
        ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
        ({"reasoning_effort": "low", "thinking": {"type": "enabled", "budget_tokens": 2000}},
         {"output_config": {"effort": "low"}, "thinking": {"type": "enabled", "budget_tokens": 2000}}),
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": FORM}, {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}),
        ({"response_format": FORM, "reasoning_effort": "max"},
         {"output_config": {"effort": "max", "format": {"type": "json_schema", "schema": SCHEMA}},
          "thinking": {"type": "adaptive"}}),
    ],
)  # fmt: skip
def test_supported_members_are_translated(asked: dict[str, Any], translated: dict[str, Any]) -> None:
    assert to_anthropic({"model": "alias", "messages": USER, **asked}, "claude") == {**PLAIN, **translated}


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"frequency_penalty": -1}, "frequency_penalty"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "alloy"}}, "audio"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"web_search_options": {"a": 1}}, "web_search_options"),
        ({"min_p": 0.1}, "min_p"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": "json"}, "response_format"),
    ],
)
def test_an_unsupported_member_is_refused_by_name(asked: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest, match="Anthropic") as refused:
        to_anthropic({"model": "alias", "messages": USER, **asked}, "claude")
    assert (refused.value.param, refused.value.code) == (param, "unsupported_parameter")


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def call(name: str, arguments: str) -> dict[str, Any]:
    return {"id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": arguments}}


def use(name: str, given: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"call_{name}", "name": name, "input": given}


def result(name: str, content: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": f"call_{name}", "content": content}


def test_instructions_from_anywhere_go_to_the_head() -> None:
    system, turns = messages_of(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "developer", "content": [{**text("Be kind."), "cache_control": {"type": "ephemeral"}}]},
        ]
    )
    assert system == [text("Be brief."), {**text("Be kind."), "cache_control": {"type": "ephemeral"}}]
    assert turns == [{"role": "user", "content": [text("Hi")]}]


def test_a_conversation_with_tools() -> None:
    _, turns = messages_of(
        [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "", "tool_calls": [call("a", '{"x":1}'), call("b", "")]},
            {"role": "tool", "tool_call_id": "call_a", "content": "sunny"},
            {"role": "tool", "tool_call_id": "call_b", "content": [text("rain")]},
            {"role": "user", "content": "Thanks"},
            {"role": "assistant", "content": [text("Bye"), {"type": "refusal", "refusal": "no"}], "reasoning": "hm"},
        ]
    )
    assert turns == [
        {"role": "user", "content": [text("Weather?")]},
        {"role": "assistant", "content": [use("a", {"x": 1}), use("b", {})]},
        {"role": "user", "content": [result("a", "sunny"), result("b", [text("rain")])]},
        {"role": "user", "content": [text("Thanks")]},
        {"role": "assistant", "content": [text("Bye"), text("no")]},
    ]


@pytest.mark.parametrize(
    ("part", "block"),
    [
        ({"type": "image_url", "image_url": {"url": "https://x/a.png", "detail": "high"}},
         {"type": "image", "source": {"type": "url", "url": "https://x/a.png"}}),
        ({"type": "image_url", "image_url": "https://x/a.png"},
         {"type": "image", "source": {"type": "url", "url": "https://x/a.png"}}),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
         {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}),
        ({"type": "image_url", "image_url": {"url": "data:image/JPEG;name=a;base64,/9j/"}},
         {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "/9j/"}}),
        ({"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}},
         {"type": "document", "title": "a.pdf",
          "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}}),
    ],
)  # fmt: skip
def test_parts_that_are_not_text(part: dict[str, Any], block: dict[str, Any]) -> None:
    _, turns = messages_of([{"role": "user", "content": [text("See"), part, text("")]}])
    assert turns[0]["content"] == [text("See"), block]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "function", "content": "x"}, "messages[1].role"),
        ("no message", "messages[1].role"),
        ({"role": "user", "content": 7}, "messages[1].content"),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, "messages[1].content[0].type"),
        ({"role": "user", "content": ["x"]}, "messages[1].content[0].type"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "messages[1].content[0].image_url"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": "data:image/bmp;base64,Qk0"}]},
         "messages[1].content[0].image_url"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": "data:image/png,raw"}]},
         "messages[1].content[0].image_url"),
        ({"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}, "messages[1].content[0].file"),
        ({"role": "user", "content": [{"type": "file", "file": {"file_data": "data:text/csv;base64,YQ=="}}]},
         "messages[1].content[0].file.file_data"),
        ({"role": "system", "content": [{"type": "image_url", "image_url": "https://x"}]}, "messages[1].content[0]"),
        ({"role": "assistant", "audio": {"id": "a"}}, "messages[1].audio"),
        ({"role": "assistant", "tool_calls": [{"type": "custom", "custom": {}}]}, "messages[1].tool_calls[0]"),
        ({"role": "assistant", "tool_calls": [call("a", "{oops")]}, "messages[1].tool_calls[0].function.arguments"),
        ({"role": "assistant", "tool_calls": [call("a", "[1]")]}, "messages[1].tool_calls[0].function.arguments"),
    ],
)  # fmt: skip
def test_an_unsupported_value_is_refused_with_its_path(message: Any, param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        messages_of([{"role": "user", "content": "Hi"}, message])
    assert refused.value.param == param
