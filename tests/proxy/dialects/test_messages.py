"""Anthropic's clients on an upstream that speaks OpenAI's API: requests, answers and streams are translated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import orjson
import pytest
from fixtures.piece_sizes import STEPS, piece_sizes

from gateway.config.upstreams import Upstream
from gateway.core.errors import BadRequest, UpstreamFailed
from gateway.core.exchange import Usage
from gateway.proxy.dialects.messages import (
    Messages,
    ToMessagesReader,
    to_anthropic_error,
    to_chat_request,
    to_message,
    usage_block,
)
from gateway.proxy.dialects.openai import OpenAI
from gateway.proxy.dialects.types import Cut, Reader
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


DataOf = Callable[[bytes], list[dict[str, Any]]]


def built(heard: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The content that a client builds; every block is opened before it is spoken of, and closed at most once."""
    blocks: list[dict[str, Any]] = []
    pieces: dict[int, str] = {}
    for event in heard:
        if event["type"] == "content_block_start":
            assert event["index"] == len(blocks)
            blocks.append(event["content_block"])
        elif event["type"] == "content_block_delta":
            kind = event["delta"]["type"]
            if kind == "input_json_delta":
                pieces[event["index"]] = pieces.get(event["index"], "") + event["delta"]["partial_json"]
            else:
                blocks[event["index"]][kind.removesuffix("_delta")] += event["delta"][kind.removesuffix("_delta")]
    for index, piece in pieces.items():
        blocks[index]["input"] = orjson.loads(piece)
    return blocks


def test_the_events_build_the_message(chat_sse: Any, read: Read, data_of: DataOf) -> None:
    reader = ToMessagesReader()
    out = read(reader, chat_sse.stream, 10_000)
    heard = data_of(out)
    assert built(heard) == list(chat_sse.blocks)
    assert (reader.usage, reader.error) == (chat_sse.usage, chat_sse.error)
    if chat_sse.stop is None:
        assert heard[-1] == {
            "type": "error",
            "error": {"type": "api_error", "message": chat_sse.error, "code": "oom"},
        }
    else:
        assert heard[0]["type"] == "message_start"
        assert [e["type"] for e in heard][-2:] == ["message_delta", "message_stop"]
        assert heard[-2]["delta"] == dict(zip(("stop_reason", "stop_sequence"), chat_sse.stop, strict=True))
        assert heard[-2]["usage"] == usage_block(chat_sse.usage)
        opened, closed = (sum(e["type"] == f"content_block_{x}" for e in heard) for x in ("start", "stop"))
        assert opened == closed == len(chat_sse.blocks)


@STEPS
def test_pieces_of_any_size_give_the_same_events(chat_sse: Any, read: Read, step: int) -> None:
    whole = read(ToMessagesReader(), chat_sse.stream, len(chat_sse.stream))
    for size in piece_sizes(len(chat_sse.stream), step):
        assert read(ToMessagesReader(), chat_sse.stream, size) == whole, size


def test_a_stream_without_a_finish_is_cut() -> None:
    reader = ToMessagesReader()
    reader.feed(b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n')
    with pytest.raises(Cut):
        reader.end()


def completion(message: dict[str, Any], finish: str = "stop", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish, **more}
    return {"id": "chatcmpl-1", "model": "m", "choices": [choice],
            "usage": {"prompt_tokens": 9, "completion_tokens": 2}}  # fmt: skip


def test_a_completion_is_a_message() -> None:
    assert to_message(completion({"content": "Hi"})) == {
        "id": "chatcmpl-1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 2},
    }


def test_reasoning_and_tool_calls_are_blocks() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    message = to_message(completion({"content": None, "reasoning": "Hm.", "tool_calls": [call]}, "tool_calls"))
    assert message["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}},
    ]
    assert message["stop_reason"] == "tool_use"


def test_a_refusal_is_text_and_a_stop_reason() -> None:
    message = to_message(completion({"content": None, "refusal": "No."}))
    assert (message["content"], message["stop_reason"]) == ([{"type": "text", "text": "No."}], "refusal")


@pytest.mark.parametrize("arguments", ["{oops", "[1]", "7"])
def test_arguments_that_are_not_an_object_are_not_an_answer(arguments: str) -> None:
    call = {"id": "call_1", "function": {"name": "f", "arguments": arguments}}
    with pytest.raises(ValueError, match="'f' are not a JSON object"):
        to_message(completion({"tool_calls": [call]}))


@pytest.mark.parametrize("chat", [{}, {"choices": []}, {"choices": None}])
def test_an_answer_without_a_choice_is_none(chat: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no choices"):
        to_message(chat)


def test_cached_input_is_counted_apart() -> None:
    assert usage_block(Usage(9, 2, 4)) == {"input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 4}
    assert usage_block(Usage(9, 2, 0)) == {"input_tokens": 9, "output_tokens": 2, "cache_read_input_tokens": 0}


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (401, "authentication_error"), (404, "not_found_error"), (429, "rate_limit_error"),
     (500, "api_error"), (503, "overloaded_error"), (504, "timeout_error"), (418, "api_error")],
)  # fmt: skip
def test_errors_have_anthropics_type_for_their_status(status: int, kind: str) -> None:
    error = orjson.loads(to_anthropic_error(status, b'{"error":{"message":"no","code":404}}'))
    assert error == {"type": "error", "error": {"type": kind, "message": "no"}}


def test_the_error_code_is_kept_for_the_fallback() -> None:
    body = b'{"error":{"message":"long","code":"context_length_exceeded"}}'
    assert orjson.loads(to_anthropic_error(400, body))["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    ("body", "text"), [(b"Internal Server Error", "Internal Server Error"), (b"", "HTTP 500"), (b"[]", "[]")]
)
def test_any_error_body_becomes_an_error(body: bytes, text: str) -> None:
    assert orjson.loads(to_anthropic_error(500, body))["error"]["message"] == text


USER = {"role": "user", "content": "Hi"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
TOOL = {"name": "f", "description": "d", "input_schema": SCHEMA, "cache_control": {"type": "ephemeral"}}
FUNCTION = {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}


def asked(**members: Any) -> dict[str, Any]:
    return to_chat_request({"model": "alias", "messages": [USER], **members}, "max_tokens")


@pytest.mark.parametrize(
    ("members", "translated"),
    [
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"temperature": 0.5, "top_p": 0.9, "top_k": 3}, {"temperature": 0.5, "top_p": 0.9, "top_k": 3}),
        ({"stop_sequences": ["x"]}, {"stop": ["x"]}),
        ({"stop_sequences": []}, {}),
        ({"stream": True}, {"stream": True}),
        ({"metadata": {"user_id": "u"}}, {"user": "u"}),
        ({"metadata": {}, "service_tier": "auto", "container": None}, {}),
        ({"tools": [TOOL]}, {"tools": [FUNCTION]}),
        ({"tools": [TOOL | {"type": "custom"}], "tool_choice": {"type": "auto"}},
         {"tools": [FUNCTION], "tool_choice": "auto"}),
        ({"tools": [TOOL], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
         {"tools": [FUNCTION], "tool_choice": "required", "parallel_tool_calls": False}),
        ({"tools": [TOOL], "tool_choice": {"type": "none"}}, {"tools": [FUNCTION], "tool_choice": "none"}),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "f"}},
         {"tools": [FUNCTION], "tool_choice": {"type": "function", "function": {"name": "f"}}}),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, {"reasoning_effort": "low"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 10000}}, {"reasoning_effort": "medium"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 32000}}, {"reasoning_effort": "high"}),
        ({"thinking": {"type": "adaptive"}}, {}),
        ({"thinking": {"type": "disabled"}}, {}),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}, {"reasoning_effort": "high"}),
        ({"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
         {"response_format": {"type": "json_schema",
                              "json_schema": {"name": "output", "schema": SCHEMA, "strict": True}}}),
    ],
)  # fmt: skip
def test_members(members: dict[str, Any], translated: dict[str, Any]) -> None:
    assert asked(**members) == {"model": "alias", "messages": [USER], **translated}


def test_a_translated_limit_has_the_upstreams_own_name() -> None:
    chat = to_chat_request({"model": "a", "messages": [USER], "max_tokens": 5}, "max_completion_tokens")
    assert chat["max_completion_tokens"] == 5
    assert "max_tokens" not in chat


@pytest.mark.parametrize(
    ("system", "content"),
    [("Be brief.", "Be brief."), ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "a\n\nb")],
)
def test_the_system_prompt_comes_first(system: Any, content: str) -> None:
    assert asked(system=system)["messages"] == [{"role": "system", "content": content}, USER]


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}
IMAGE_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}
WEB_IMAGE = {"type": "image", "source": {"type": "url", "url": "https://x/a.png"}}
PDF = {"type": "document", "title": "a.pdf",
       "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}}  # fmt: skip
NOTE = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "note"}}


@pytest.mark.parametrize(
    ("content", "translated"),
    [
        ("Hi", "Hi"),
        ([{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}], "Hi"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
         [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
        ([IMAGE], [IMAGE_PART]),
        ([WEB_IMAGE], [{"type": "image_url", "image_url": {"url": "https://x/a.png"}}]),
        ([PDF, NOTE], [{"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}},
                       {"type": "text", "text": "note"}]),
    ],
)  # fmt: skip
def test_content_of_a_user_is_translated(content: Any, translated: Any) -> None:
    assert asked(messages=[{"role": "user", "content": content}])["messages"] == [
        {"role": "user", "content": translated}
    ]


def test_a_conversation_with_tools() -> None:
    """Tool results become messages of their own; the images they show go to the user's turn that follows."""
    chat = asked(
        messages=[
            USER,
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "text", "text": "Ok"},
                    {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
                    {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": "sunny"},
                    {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "seen"}, IMAGE]},
                    {"type": "text", "text": "Go on"},
                ],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t3"}]},
            {"role": "assistant", "content": "Bye"},
        ]
    )
    assert chat["messages"] == [
        USER,
        {
            "role": "assistant",
            "content": "Ok",
            "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
                {"id": "t2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "t2", "content": "seen"},
        {"role": "user", "content": [IMAGE_PART, {"type": "text", "text": "Go on"}]},
        {"role": "tool", "tool_call_id": "t3", "content": ""},
        {"role": "assistant", "content": "Bye"},
    ]


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"mcp_servers": [{"name": "x"}]}, "mcp_servers"),
        ({"container": "c1"}, "container"),
        ({"inference_geo": "eu"}, "inference_geo"),
        ({"not_known_yet": 1}, "not_known_yet"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [TOOL], "tool_choice": {"type": "new"}}, "tool_choice"),
        ({"system": [IMAGE]}, "system.content[0]"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "search_result"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}]},
         "messages[0].content[0].source"),
        ({"messages": [{"role": "assistant", "content": [IMAGE]}]}, "messages[0].content[0]"),
    ],
)  # fmt: skip
def test_members_that_chat_cannot_express_are_refused_by_name(members: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest, match="OpenAI") as refused:
        asked(**members)
    assert refused.value.param == param
