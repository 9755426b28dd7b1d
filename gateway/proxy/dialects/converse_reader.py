"""Reads answers of Bedrock's Converse API: plain ones as messages in Anthropic's form, and the binary frames of
ConverseStream as Anthropic's events, which the readers of those then translate or pass on.

The frames (`application/vnd.amazon.eventstream`, each with two checksums) are decoded by botocore.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.core.json_values import as_object
from gateway.core.sse import Event
from gateway.proxy.dialects import lenient_json
from gateway.proxy.dialects.anthropic_reader import MessagesReader, ToChatReader
from gateway.proxy.dialects.types import Cut
from gateway.proxy.request.call import Call

AnthropicEvent = dict[str, Any]

STOPS = {
    "guardrail_intervened": "refusal",
    "content_filtered": "refusal",
    "malformed_model_output": "end_turn",
    "malformed_tool_use": "end_turn",
}
"""Reasons to stop that have another name in Anthropic's form."""
ERRORS = {
    "throttlingException": "rate_limit_error",
    "serviceUnavailableException": "overloaded_error",
    "validationException": "invalid_request_error",
    "modelStreamErrorException": "api_error",
    "internalServerException": "api_error",
}


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
        "content": [block for each in content if (block := _block(as_object(each))) is not None],
        "stop_reason": STOPS.get(str(reason), reason),
        "stop_sequence": None,
        "usage": usage_block(as_object(answer.get("usage"))),
    }


def _block(block: dict[str, Any]) -> dict[str, Any] | None:
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
        from botocore.eventstream import EventStreamBuffer

        self._buffer: Any = EventStreamBuffer()
        self._id = id
        self._model = model
        self._begun: set[Any] = set()  # blocks whose start was said
        self._reason: str | None = None

    @property
    def stopped(self) -> bool:
        """Whether the model has finished: only the usage can follow."""
        return self._reason is not None

    def feed(self, data: bytes) -> Iterator[AnthropicEvent]:
        """Raises Cut for a frame whose checksum or length is wrong."""
        from botocore.eventstream import ParserError

        self._buffer.add_data(data)
        try:
            for frame in self._buffer:
                yield from self._events(frame.headers, frame.payload)
        except ParserError as error:
            raise Cut(f"a frame of the event stream is broken: {error}") from None

    def rest(self) -> Iterator[AnthropicEvent]:
        """The end of a message whose usage was not reported."""
        if self._reason is not None:
            yield from self._ended({})

    def _events(self, headers: dict[str, Any], payload: bytes) -> Iterator[AnthropicEvent]:
        try:
            part = as_object(lenient_json.loads(payload)) if payload else {}
        except ValueError:
            part = {}
        kind = str(headers.get(":event-type") or headers.get(":exception-type") or headers.get(":error-code") or "")
        if headers.get(":message-type") in ("exception", "error"):
            text = part.get("message") or headers.get(":error-message") or kind
            yield {"type": "error", "error": {"type": ERRORS.get(kind, "api_error"), "message": str(text)}}
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


_NO_EVENT = Event(b"", b"", b"")


class ConverseToChatReader(ToChatReader):
    """ConverseStream → chat chunks."""

    __slots__ = ("_frames",)

    def __init__(self, call: Call, *, keep_text: bool) -> None:
        super().__init__(call, keep_text=keep_text)
        self._frames = ConverseFrames(call.id, call.named or call.alias)

    def feed(self, data: bytes) -> bytes:
        return b"" if self.complete else self._read_all(self._frames.feed(data))

    def _read_all(self, found: Iterator[AnthropicEvent]) -> bytes:
        out = []
        for event in found:
            out.append(self._part(event, _NO_EVENT))
            if self.complete:
                break
        self.finished = self.finished or self._frames.stopped
        return b"".join(out)

    def end(self) -> bytes:
        if self.complete or self._ended:
            return b""
        self._ended = True
        return self._closed(self._read_all(self._frames.rest()))


class ConverseToMessagesReader(MessagesReader):
    """ConverseStream → Anthropic's events, for Anthropic's clients."""

    __slots__ = ("_frames",)

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._frames = ConverseFrames(f"msg_{call.id}", call.named or call.alias)

    def feed(self, data: bytes) -> bytes:
        return b"" if self.complete else self._read_all(self._frames.feed(data))

    def passes(self, data: bytes) -> int:
        return 0

    def _read_all(self, found: Iterator[AnthropicEvent]) -> bytes:
        out = []
        for event in found:
            self._read(event)
            if event["type"] == "message_start":  # Anthropic's clients read numbers there; Converse knows none yet
                event["message"]["usage"] = {"input_tokens": 0, "output_tokens": 0}
            out.append(b"event: %b\ndata: %b\n\n" % (event["type"].encode(), lenient_json.dumps(event)))
            if self.complete:
                break
        self.finished = self.finished or self._frames.stopped
        return b"".join(out)

    def end(self) -> bytes:
        if self.complete or self._ended:
            return b""
        self._ended = True
        return self._closed(self._read_all(self._frames.rest()))
