"""Records of vendors' own clients: requests are translated back, and answers read as those of all others."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import orjson
import pytest
from fixtures.event_frames import event
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.completion import assemble
from gateway.proxy.dialects.converse_messages import messages_of
from gateway.proxy.dialects.converse_request import to_converse
from gateway.proxy.dialects.gemini_chat import chat_of
from gateway.proxy.dialects.gemini_request import to_gemini
from gateway.proxy.dialects.vendor_records import recorded_form, vendor_error

MODEL = "anthropic.claude-x"
PNG = "data:image/png;base64," + b64encode(b"png").decode()
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
WORDS = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=["Cs"]), min_size=1, max_size=12
)
TOOL = {"type": "function", "function": {"name": "weather", "description": "d", "parameters": SCHEMA}}
CALLED = {"id": "call_0", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
SIGNED = CALLED | {"extra_content": {"google": {"thought_signature": "c2ln"}}}
CHATS: list[dict[str, Any]] = [
    {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "hi"}]},
    {"messages": [{"role": "user", "content": [
        {"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": PNG}},
        {"type": "input_audio", "input_audio": {"format": "wav", "data": "d2F2"}},
        {"type": "file", "file": {"file_data": "gs://b/f"}},
    ]}]},
    {"messages": [
        {"role": "user", "content": "weather"}, {"role": "assistant", "content": "I look.", "tool_calls": [SIGNED]},
        {"role": "tool", "tool_call_id": "call_0", "content": '{"cold":true}'}, {"role": "user", "content": "so?"},
    ], "tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
    {"messages": [{"role": "user", "content": "hi"}], "temperature": 0.5, "top_p": 0.9, "top_k": 4, "n": 2, "seed": 7,
     "max_tokens": 50, "stop": ["END"], "presence_penalty": 0.1, "frequency_penalty": 0.2, "reasoning_effort": "low",
     "safetySettings": [{"category": "x"}], "cachedContent": "cachedContents/1"},
    {"messages": [{"role": "user", "content": "hi"}], "tools": [TOOL], "tool_choice": "required",
     "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}},
    {"messages": [{"role": "user", "content": "hi"}], "reasoning_effort": "none",
     "response_format": {"type": "json_object"}},
]  # fmt: skip


@pytest.mark.parametrize("chat", CHATS)
def test_a_chat_comes_back_from_gemini_as_it_was(chat: dict[str, Any]) -> None:
    assert chat_of(to_gemini(chat), "m", stream=False) == {"model": "m", **chat}


def test_geminis_members_may_be_spelled_in_either_way() -> None:
    snake = {
        "system_instruction": {"parts": [{"text": "S"}]},
        "contents": [{"parts": [{"inline_data": {"mime_type": "image/png", "data": "cG5n"}}]}],
        "generation_config": {"max_output_tokens": 5, "thinking_config": {"thinking_level": "LOW"}},
        "tools": [{"function_declarations": [{"name": "f", "parameters_json_schema": SCHEMA}]}, {"google_search": {}}],
    }
    assert chat_of(snake, "m", stream=True) == {
        "model": "m", "stream": True, "max_tokens": 5, "reasoning_effort": "low",
        "messages": [
            {"role": "system", "content": "S"},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG}}]},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}, {"type": "google_search"}],
    }  # fmt: skip


TURN = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
MESSAGES: list[dict[str, Any]] = [
    {"messages": TURN, "system": [{"type": "text", "text": "S"}], "max_tokens": 9, "temperature": 0.5, "top_p": 0.9,
     "stop_sequences": ["END"], "top_k": 5, "thinking": {"type": "adaptive"}},
    {"messages": [{"role": "user", "content": [
        {"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "cG5n"}},
        {"type": "document", "title": "d",
         "source": {"type": "base64", "media_type": "application/pdf", "data": "cGRm"}},
    ]}]},
    {"messages": [
        *TURN,
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Oslo"}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "is_error": True,
             "content": [{"type": "text", "text": "cold"}]}
        ]},
    ], "tools": [{"name": "weather", "description": "d", "input_schema": SCHEMA}], "tool_choice": {"type": "any"}},
    {"messages": TURN, "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}}},
    {"messages": TURN, "tools": [{"name": "f", "input_schema": SCHEMA}], "tool_choice": {"type": "tool", "name": "f"}},
]  # fmt: skip


@pytest.mark.parametrize("messages", MESSAGES)
def test_messages_come_back_from_converse_as_they_were(messages: dict[str, Any]) -> None:
    assert messages_of(to_converse(messages, MODEL), "m", stream=False) == {"model": "m", **messages}


@given(st.lists(st.tuples(st.sampled_from(["user", "assistant"]), WORDS), min_size=1, max_size=5), WORDS)
def test_any_texts_come_back_from_both(turns: list[tuple[str, str]], system: str) -> None:
    chat = {"messages": [{"role": "system", "content": system}, *({"role": r, "content": t} for r, t in turns)]}
    assert chat_of(to_gemini(chat), "m", stream=False)["messages"] == chat["messages"]
    blocks = [{"role": r, "content": [{"type": "text", "text": t}]} for r, t in turns]
    assert messages_of(to_converse({"messages": blocks}, MODEL), "m", stream=False)["messages"] == blocks


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = [
    *("contents", "parts", "functionCall", "functionResponse", "inlineData", "tools", "generationConfig", "messages"),
    *("content", "system", "toolConfig", "toolUse", "toolResult", "image", "output", "candidates", "error", "message"),
]


@given(
    st.sampled_from(["generate_content", "converse", "invoke_model"]), st.booleans(), JSON, JSON, st.binary(max_size=40)
)
def test_nothing_that_a_client_or_server_sends_fails_the_record(
    make_call: Any, api: str, stream: bool, asked: Any, answered: Any, odd: bytes
) -> None:
    fields = {name: asked for name in NAMES}
    call = make_call(api, stream=stream, anthropic_version="x") if stream else make_call(api)
    for response in (orjson.dumps(answered), orjson.dumps({n: answered for n in NAMES}), odd, b"\0" + odd):
        found = recorded_form(call, "m", orjson.dumps(fields), response)
        assert found[0] in ("chat", "messages", api)
        assert not found[2].startswith(b"\0")
        assemble(found[0], stream, found[2])


def test_a_stream_of_gemini_is_recorded_as_a_chat(gemini: Any, make_call: Any) -> None:
    call = make_call("generate_content", stream=True)
    api, request, response = recorded_form(call, "m", b'{"contents":[{"parts":[{"text":"hi"}]}]}', gemini.stream)
    read = assemble(api, True, response)
    assert api == "chat"
    assert orjson.loads(request) == {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    assert (read.text, read.finish_reason) == ("".join(d.get("content") or "" for d in gemini.deltas), gemini.finish)
    assert read.error == gemini.error


def test_a_stream_of_converse_is_recorded_as_messages(converse: Any, make_call: Any) -> None:
    call = make_call("converse", stream=True)
    api, request, response = recorded_form(call, "m", b'{"messages":[]}', converse.stream)
    read = assemble(api, True, response)
    assert api == "messages"
    assert orjson.loads(request) == {"model": "m", "messages": [], "stream": True}
    assert read.text == "".join(d.get("content") or "" for d in converse.deltas)
    assert (read.usage, read.error) == (converse.usage, converse.error)


def test_a_call_of_claude_by_invoke_model_is_recorded_as_messages(make_call: Any) -> None:
    call = make_call("invoke_model", stream=True, anthropic_version="bedrock-2023-05-31", messages=TURN)
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}
    frames = event("chunk", bytes=b64encode(orjson.dumps(delta)).decode())
    api, request, response = recorded_form(
        call, "m", orjson.dumps({"anthropic_version": "x", "messages": TURN}), frames
    )
    assert (api, orjson.loads(request)) == ("messages", {"model": "m", "messages": TURN, "stream": True})
    assert assemble(api, True, response).text == "Hi"


def test_a_call_of_another_model_keeps_its_form_without_frames(make_call: Any) -> None:
    call = make_call("invoke_model", stream=True, inputText="hi")
    frames = event("chunk", bytes=b64encode(b'{"outputText":"Hi"}').decode())
    assert recorded_form(call, "m", b'{"inputText":"hi"}', frames) == (
        "invoke_model", b'{"inputText":"hi"}', b'data: {"outputText":"Hi"}\n\n'
    )  # fmt: skip


OURS = b'{"error":{"message":"no","type":"invalid_request_error","param":null,"code":"model_not_found"}}'


@pytest.mark.parametrize(
    ("api", "theirs", "message"),
    [
        ("generate_content", b'{"error":{"code":400,"message":"bad","status":"INVALID_ARGUMENT"}}', "bad"),
        ("converse", b'{"message":"bad"}', "bad"),
        ("invoke_model", b'{"message":"bad"}', "bad"),
        ("generate_content", OURS, "no"),
        ("converse", OURS, "no"),
    ],
)
def test_an_error_is_recorded_as_one(make_call: Any, api: str, theirs: bytes, message: str) -> None:
    call = make_call(api, anthropic_version="x")
    form, _, response = recorded_form(call, "m", b"{}", theirs)
    assert assemble(form, False, response).error == message


def test_errors_have_the_code_that_decides_about_a_fallback() -> None:
    gemini = b'{"error":{"code":400,"message":"The input token count exceeds the maximum number of tokens allowed"}}'
    assert b"context_length_exceeded" in vendor_error("generate_content", 400, gemini)
    assert b"context_length_exceeded" in vendor_error("converse", 400, b'{"message":"Input is too long"}')
