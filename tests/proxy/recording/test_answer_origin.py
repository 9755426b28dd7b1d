"""The model and the fingerprint that answers name, in every API and form, and what is not taken for them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.recording.answer_origin import AnswerOrigin, origin_of

NONE = AnswerOrigin()
CHUNK = {"id": "c", "object": "chat.completion.chunk", "model": "gpt-5-2026-08-07", "system_fingerprint": "fp_44"}
BOTH = AnswerOrigin("gpt-5-2026-08-07", "fp_44")


def plain(**members: Any) -> bytes:
    return json.dumps(members).encode()


def stream(*parts: dict[str, Any] | str, end: str = "\n\n") -> bytes:
    lines = (part if isinstance(part, str) else json.dumps(part) for part in parts)
    return "".join(f"data: {line}{end}" for line in lines).encode()


def delta(text: str, **members: Any) -> dict[str, Any]:
    return {**CHUNK, "choices": [{"index": 0, "delta": {"content": text}}], **members}


ANSWERS = {
    "chat": (plain(**CHUNK, choices=[]), BOTH),
    "chat without fingerprint": (plain(model="m", system_fingerprint=None), AnswerOrigin("m")),
    "Messages": (plain(type="message", model="claude-x", content=[]), AnswerOrigin("claude-x")),
    "Responses": (plain(object="response", model="gpt-5", output=[]), AnswerOrigin("gpt-5")),
    "members of a tool's input": (
        plain(model="claude-x", content=[{"type": "tool_use", "input": {"model": "x", "system_fingerprint": "y"}}]),
        AnswerOrigin("claude-x"),
    ),
    "an error": (plain(error={"message": "no", "type": "t", "param": None, "code": None}), NONE),
    "another type": (plain(model=["m"], system_fingerprint={"a": 1}), NONE),
    "too long": (plain(model="m" * 257, system_fingerprint="f" * 256), AnswerOrigin(None, "f" * 256)),
    "control characters": (plain(model="m\0", system_fingerprint="f\n"), NONE),
    "empty": (plain(model="", system_fingerprint=""), NONE),
    "cut": (plain(**CHUNK)[:-1], NONE),
    "no JSON": (b"<html>", NONE),
    "nothing": (b"", NONE),
    "a list": (b"[1]", NONE),
    "deep": (b'{"model":' + b"[" * 100_000, NONE),
}


@pytest.mark.parametrize(("body", "origin"), ANSWERS.values(), ids=ANSWERS)
def test_a_plain_answer_names_its_model(body: bytes, origin: AnswerOrigin) -> None:
    assert origin_of(body, stream=False) == origin


USAGE = {"usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
VLLM_LAST = [delta("a", system_fingerprint=None), {**CHUNK, "choices": [], **USAGE}]
MESSAGES = [
    {"type": "message_start", "message": {"type": "message", "model": "claude-x", "content": []}},
    {"type": "content_block_delta", "index": 0, "delta": {"text": 'it says "model": "y" and {"model": "z"}'}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
    {"type": "message_stop"},
]
RESPONSES = [
    {"type": "response.created", "response": {"object": "response", "model": "gpt-5"}},
    {"type": "response.output_text.delta", "delta": '"model": 1'},
    {"type": "response.completed", "response": {"object": "response", "model": "gpt-5-2026", "output": []}},
]
STREAMS = {
    "chat": (stream(delta("a"), delta("b"), "[DONE]"), BOTH),
    "chat with CRLF": (stream(delta("a"), delta("b"), "[DONE]", end="\r\n\r\n"), BOTH),
    "vLLM, in its last chunk": (stream(*VLLM_LAST, "[DONE]"), BOTH),
    "in an earlier chunk": (stream(delta("a"), {"model": "gpt-5-2026-08-07", "choices": []}, "[DONE]"), BOTH),
    "Azure's first chunk without a model": (stream(delta("", model=""), delta("a"), "[DONE]"), BOTH),
    "Messages": (stream(*MESSAGES), AnswerOrigin("claude-x")),
    "Responses": (stream(*RESPONSES), AnswerOrigin("gpt-5-2026")),
    "Responses that was cut": (stream(*RESPONSES[:2]), AnswerOrigin("gpt-5")),
    "a stream that was cut in an event": (stream(delta("a"), delta("b"))[:-40], BOTH),
    "text that looks like an event": (stream(delta('\n\ndata: {"model": "x"}')), BOTH),
    "a refusal before the stream": (plain(error={"message": "no"}), NONE),
    "comments alone": (b": keep-alive\n\n" * 3, NONE),
}


@pytest.mark.parametrize(("body", "origin"), STREAMS.values(), ids=STREAMS)
def test_a_stream_names_its_model(body: bytes, origin: AnswerOrigin) -> None:
    assert origin_of(body, stream=True) == origin


def test_a_continued_stream_names_the_second_model_alone() -> None:
    first, second = delta("a"), {"model": "fallback", "choices": []}
    assert origin_of(stream(first, second, "[DONE]"), stream=True, spliced=True) == AnswerOrigin("fallback")


@given(body=st.binary(max_size=300), streamed=st.booleans())
def test_no_bytes_raise(body: bytes, streamed: bool) -> None:
    origin_of(body, stream=streamed)
    origin_of(b'data: {"model"' + body + b"\n\n", stream=True)
