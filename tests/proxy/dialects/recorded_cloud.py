"""Answers of clouds as their documentation shows them: Bedrock's Converse, Gemini's generateContent.

Sources: docs.aws.amazon.com/bedrock, API reference of the runtime; ai.google.dev/api/generate-content.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from fixtures.event_frames import event, exception

from gateway.core.exchange import Usage


@dataclass(frozen=True)
class CloudStream:
    """One stream, and what a chat's client and the gateway learn from it."""

    name: str
    stream: bytes
    deltas: tuple[dict[str, Any], ...]
    finish: str | None
    usage: Usage | None
    error: str | None = None
    text: str = ""


def _text(index: int, text: str) -> bytes:
    return event("contentBlockDelta", contentBlockIndex=index, delta={"text": text})


START = event("messageStart", role="assistant")
USAGE = {"inputTokens": 11, "outputTokens": 4, "totalTokens": 15}
METADATA = event("metadata", usage=USAGE, metrics={"latencyMs": 551})
CACHED = {**USAGE, "cacheReadInputTokens": 100, "cacheWriteInputTokens": 7, "totalTokens": 122}
ROLE = {"role": "assistant", "content": ""}


def _call(index: int, **function: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "function": function}]}


def _begun(index: int, id: str, name: str, arguments: str = "") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]}


CONVERSE = (
    CloudStream(
        "text",
        START + _text(0, "Hé") + _text(0, 'llo "you"\n') + event("contentBlockStop", contentBlockIndex=0)
        + event("messageStop", stopReason="end_turn") + METADATA,
        (ROLE, {"content": "Hé"}, {"content": 'llo "you"\n'}),
        "stop",
        Usage(11, 4),
        text='Hé' + 'llo "you"\n',
    ),
    CloudStream(
        "a call of a tool",
        START + _text(0, "I look.") + event("contentBlockStop", contentBlockIndex=0)
        + event("contentBlockStart", contentBlockIndex=1, start={"toolUse": {"toolUseId": "t1", "name": "weather"}})
        + event("contentBlockDelta", contentBlockIndex=1, delta={"toolUse": {"input": '{"city":'}})
        + event("contentBlockDelta", contentBlockIndex=1, delta={"toolUse": {"input": '"Oslo"}'}})
        + event("contentBlockStop", contentBlockIndex=1)
        + event("contentBlockStart", contentBlockIndex=2, start={"toolUse": {"toolUseId": "t2", "name": "now"}})
        + event("contentBlockStop", contentBlockIndex=2)
        + event("messageStop", stopReason="tool_use") + METADATA,
        (
            ROLE, {"content": "I look."},
            _begun(0, "t1", "weather"),
            _call(0, arguments='{"city":'), _call(0, arguments='"Oslo"}'),
            _begun(1, "t2", "now"),
            _call(1, arguments="{}"),
        ),
        "tool_calls",
        Usage(11, 4),
    ),
    CloudStream(
        "reasoning, and cached input",
        START + event("contentBlockDelta", contentBlockIndex=0, delta={"reasoningContent": {"text": "Hm."}})
        + event("contentBlockDelta", contentBlockIndex=0, delta={"reasoningContent": {"signature": "c2ln"}})
        + event("contentBlockStop", contentBlockIndex=0) + _text(1, "42")
        + event("contentBlockStop", contentBlockIndex=1)
        + event("messageStop", stopReason="max_tokens") + event("metadata", usage=CACHED, metrics={"latencyMs": 1}),
        (ROLE, {"reasoning": "Hm."}, {"content": "42"}),
        "length",
        Usage(118, 4, cached_input_tokens=100),
    ),
    CloudStream(
        "a guardrail",
        START + _text(0, "I cannot.") + event("contentBlockStop", contentBlockIndex=0)
        + event("messageStop", stopReason="guardrail_intervened") + METADATA,
        (ROLE, {"content": "I cannot."}),
        "content_filter",
        Usage(11, 4),
        text="I cannot.",
    ),
    CloudStream(
        "throttled in the middle",
        START + _text(0, "Half") + exception("throttlingException", "Too many requests, please wait."),
        (ROLE, {"content": "Half"}),
        None,
        None,
        error="Too many requests, please wait.",
        text="Half",
    ),
)  # fmt: skip


def _gemini(
    *parts: dict[str, Any], finish: str | None = None, usage: dict[str, int] | None = None, **more: Any
) -> bytes:
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    candidate |= {"finishReason": finish} if finish else {}
    found = {"candidates": [candidate], "modelVersion": "gemini-2.5-flash", "responseId": "r1", **more}
    found |= {"usageMetadata": usage} if usage else {}
    return b"data: " + orjson.dumps(found) + b"\r\n\r\n"


COUNTS = {"promptTokenCount": 8, "candidatesTokenCount": 5, "totalTokenCount": 13}
THOUGHT = COUNTS | {"thoughtsTokenCount": 20, "cachedContentTokenCount": 3, "totalTokenCount": 33}
CALL = {"functionCall": {"name": "weather", "args": {"city": "Oslo"}}, "thoughtSignature": "c2ln"}
GEMINI = (
    CloudStream(
        "text",
        _gemini({"text": "Hé"}, usage=COUNTS) + _gemini({"text": "llo"}, usage=COUNTS)
        + _gemini({"text": " you"}, finish="STOP", usage=COUNTS),
        ({"role": "assistant", "content": "Hé"}, {"content": "llo"}, {"content": " you"}),
        "stop",
        Usage(8, 5),
        text="Héllo you",
    ),
    CloudStream(
        "thoughts and a call of a tool",
        _gemini({"text": "Hm.", "thought": True}) + _gemini({"text": "I look."}, CALL)
        + _gemini({"functionCall": {"id": "f2", "name": "now", "args": {}}}, finish="STOP", usage=THOUGHT),
        (
            {"role": "assistant", "reasoning": "Hm."}, {"content": "I look."},
            {"tool_calls": [{
                "index": 0, "id": "call_0199-id_0_0", "type": "function",
                "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
                "extra_content": {"google": {"thought_signature": "c2ln"}},
            }]},
            _begun(1, "f2", "now", "{}"),
        ),
        "tool_calls",
        Usage(8, 25, cached_input_tokens=3, reasoning_tokens=20),
    ),
    CloudStream(
        "stopped by a filter",
        _gemini({"text": "So"}) + _gemini(finish="SAFETY", usage=COUNTS),
        ({"role": "assistant", "content": "So"},),
        "content_filter",
        Usage(8, 5),
        text="So",
    ),
    CloudStream(
        "a blocked prompt",
        b'data: {"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":8}}\r\n\r\n',
        ({"role": "assistant"},),
        "content_filter",
        Usage(8, 0),
    ),
    CloudStream(
        "an error in the middle",
        _gemini({"text": "Half"})
        + b'data: {"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}\r\n\r\n',
        ({"role": "assistant", "content": "Half"},),
        None,
        None,
        error="The model is overloaded.",
        text="Half",
    ),
)  # fmt: skip
