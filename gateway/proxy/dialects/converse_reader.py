"""Reads answers of Bedrock's Converse API: plain ones as messages in Anthropic's form, and the binary frames of
ConverseStream as Anthropic's events, which a framed reader then translates or passes on (framed_reader.py)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.core.json_values import as_object
from gateway.proxy.dialects.event_frames import Frame, FrameDecoder
from gateway.proxy.dialects.framed_reader import AnthropicEvent

STOPS = {
    "guardrail_intervened": "refusal",
    "content_filtered": "refusal",
    "malformed_model_output": "end_turn",
    "malformed_tool_use": "end_turn",
}
"""Reasons to stop that have another name in Anthropic's form."""


def to_message(answer: dict[str, Any], id: str, model: str) -> dict[str, Any]:
    """A plain answer as a message. Raises ValueError if it is none."""
    content = as_object(as_object(answer.get("output")).get("message")).get("content")
    if not isinstance(content, list):
        raise ValueError("the body is not an answer of Converse: it has no output.message.content")
    reason = answer.get("stopReason")
    return {
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [block for each in content if (block := to_block(as_object(each))) is not None],
        "stop_reason": STOPS.get(str(reason), reason),
        "stop_sequence": None,
        "usage": usage_block(as_object(answer.get("usage"))),
    }


def to_block(block: dict[str, Any]) -> dict[str, Any] | None:
    """A block of an answer in Anthropic's form; None if that has none for it."""
    if "text" in block:
        return {"type": "text", "text": block["text"]}
    if "toolUse" in block:
        use = block["toolUse"]
        return {
            "type": "tool_use",
            "id": use.get("toolUseId"),
            "name": use.get("name"),
            "input": use.get("input") or {},
        }
    reasoning = as_object(block.get("reasoningContent"))
    if "reasoningText" in reasoning:
        text = as_object(reasoning["reasoningText"])
        return {"type": "thinking", "thinking": text.get("text") or "", "signature": text.get("signature") or ""}
    if "redactedContent" in reasoning:
        return {"type": "redacted_thinking", "data": reasoning["redactedContent"]}
    return None


def usage_block(usage: dict[str, Any]) -> dict[str, Any]:
    """Usage in Anthropic's form: both count cached input besides the input."""
    names = {"inputTokens": "input_tokens", "outputTokens": "output_tokens"}
    names |= {"cacheReadInputTokens": "cache_read_input_tokens", "cacheWriteInputTokens": "cache_creation_input_tokens"}
    return {ours: usage[theirs] for theirs, ours in names.items() if isinstance(usage.get(theirs), int)}


class ConverseFrames:
    """Frames → Anthropic's events. Converse ends a message before it reports the usage; Anthropic's form, after."""

    def __init__(self, id: str, model: str) -> None:
        self._decoder = FrameDecoder()
        self._id = id
        self._model = model
        self._begun: set[Any] = set()  # blocks whose start was announced
        self._reason: str | None = None

    @property
    def stopped(self) -> bool:
        """Whether the model has finished: only the usage can follow."""
        return self._reason is not None

    def feed(self, data: bytes) -> Iterator[AnthropicEvent]:
        """Raises Cut for a frame whose checksum or length is wrong."""
        for frame in self._decoder.feed(data):
            yield from self._events(frame)

    def rest(self) -> Iterator[AnthropicEvent]:
        """The end of a message whose usage was not reported."""
        if self._reason is not None:
            yield from self._ended({})

    def _events(self, frame: Frame) -> Iterator[AnthropicEvent]:
        part, kind = frame.json(), frame.kind
        if frame.error is not None:
            yield {"type": "error", "error": frame.error}
        elif kind == "messageStart":
            message = {"id": self._id, "type": "message", "role": "assistant", "model": self._model, "content": []}
            more: dict[str, Any] = {"stop_reason": None, "stop_sequence": None, "usage": {}}
            yield {"type": "message_start", "message": {**message, **more}}
        elif kind == "contentBlockStart":
            yield from self._start(part)
        elif kind == "contentBlockDelta":
            yield from self._delta(part.get("contentBlockIndex", 0), as_object(part.get("delta")))
        elif kind == "contentBlockStop" and part.get("contentBlockIndex", 0) in self._begun:
            yield {"type": "content_block_stop", "index": part.get("contentBlockIndex", 0)}
        elif kind == "messageStop":
            reason = str(part.get("stopReason") or "end_turn")
            self._reason = STOPS.get(reason, reason)
        elif kind == "metadata":
            yield from self._ended(usage_block(as_object(part.get("usage"))))

    def _start(self, part: dict[str, Any]) -> Iterator[AnthropicEvent]:
        use = as_object(as_object(part.get("start")).get("toolUse"))
        if use:
            block = {"type": "tool_use", "id": use.get("toolUseId"), "name": use.get("name")}
            yield self._begin(part.get("contentBlockIndex", 0), {**block, "input": {}})

    def _begin(self, index: Any, block: dict[str, Any]) -> AnthropicEvent:
        self._begun.add(index)
        return {"type": "content_block_start", "index": index, "content_block": block}

    def _delta(self, index: Any, delta: dict[str, Any]) -> Iterator[AnthropicEvent]:
        reasoning = as_object(delta.get("reasoningContent"))
        empty: dict[str, Any] = {}
        if "text" in delta:
            said, empty = {"type": "text_delta", "text": delta["text"]}, {"type": "text", "text": ""}
        elif "text" in reasoning:
            said = {"type": "thinking_delta", "thinking": reasoning["text"]}
            empty = {"type": "thinking", "thinking": "", "signature": ""}
        elif "signature" in reasoning:
            said = {"type": "signature_delta", "signature": reasoning["signature"]}
            empty = {"type": "thinking", "thinking": "", "signature": ""}
        elif "redactedContent" in reasoning:
            if index not in self._begun:
                yield self._begin(index, {"type": "redacted_thinking", "data": reasoning["redactedContent"]})
            return
        elif "toolUse" in delta:
            said = {"type": "input_json_delta", "partial_json": as_object(delta["toolUse"]).get("input") or ""}
        else:
            return
        if empty and index not in self._begun:  # Converse says the start of a block only where it is a call of a tool
            yield self._begin(index, empty)
        yield {"type": "content_block_delta", "index": index, "delta": said}

    def _ended(self, usage: dict[str, Any]) -> Iterator[AnthropicEvent]:
        reason, self._reason = self._reason or "end_turn", None
        yield {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}
        yield {"type": "message_stop"}
