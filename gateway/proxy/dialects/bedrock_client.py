"""Bedrock's own clients at an upstream that has Bedrock's runtime: Converse, InvokeModel and CountTokens. Bytes pass
unchanged, both ways; usage is read from what passes, in any model's form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from gateway.core.completion import usage_of
from gateway.core.errors import GatewayError
from gateway.core.exchange import Usage
from gateway.core.json_values import as_object
from gateway.proxy.dialects import lenient_json
from gateway.proxy.dialects.bedrock_anthropic import chunk_of
from gateway.proxy.dialects.converse_reader import usage_block
from gateway.proxy.dialects.event_frames import Frame, FrameDecoder, exception_frame
from gateway.proxy.dialects.event_reader import EventReader
from gateway.proxy.dialects.types import Cut, Dialect, PlainReply, Reader
from gateway.proxy.dialects.upstream_address import without_other_vendors
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.call import Call
from gateway.proxy.types import Headers

_VERBS: Mapping[tuple[str, bool], bytes] = {
    ("converse", False): b"converse",
    ("converse", True): b"converse-stream",
    ("invoke_model", False): b"invoke",
    ("invoke_model", True): b"invoke-with-response-stream",
    ("bedrock_count_tokens", False): b"count-tokens",
}


class BedrockClient:
    """The clients of one upstream."""

    def __init__(self, native: Dialect) -> None:
        self._native = native

    def request(self, call: Call, model: str) -> UpstreamRequest:
        path = b"/model/%b/%b" % (quote(model, safe="").encode(), _VERBS[call.api, call.stream])
        kept = without_other_vendors(call.headers) + _of_bedrock(call.passed)
        return self._native.raw(UpstreamRequest(b"POST", "", path, kept, call.sent_with({}), stream=call.stream))

    def reader(self, call: Call, keep_text: bool) -> Reader:
        return ConverseReader() if call.api == "converse" else InvokeReader()

    def answer(self, call: Call, body: bytes) -> PlainReply:
        answer = lenient_json.loads(body)
        if not isinstance(answer, dict):
            raise ValueError("the body is not a JSON object")
        if call.api == "bedrock_count_tokens":
            if not isinstance(answer.get("inputTokens"), int):
                raise ValueError("the body is not an answer of CountTokens: it has no inputTokens")
            return PlainReply(body, None)
        if call.api == "converse" and not as_object(answer.get("output")):
            raise ValueError("the body is not an answer of Converse: it has no output")
        return PlainReply(body, _usage(answer))

    def error(self, call: Call, status: int, body: bytes) -> bytes:
        return body

    def broken(self, call: Call, error: GatewayError) -> bytes:
        return exception_frame("modelStreamErrorException", error.message)


def _of_bedrock(headers: Headers) -> Headers:
    return [h for h in headers if h[0].startswith(b"x-amzn-bedrock-")]


def _usage(answer: dict[str, Any]) -> Usage | None:
    """The tokens of a plain answer, as Converse, Nova and Claude report them."""
    raw = as_object(answer.get("usage"))
    return usage_of(raw) or usage_of(usage_block(raw))


def header_usage(headers: Headers) -> Usage | None:
    """The tokens that InvokeModel reports of any model, in headers; None if it reports none."""
    named = dict(headers)
    counts = [named.get(b"x-amzn-bedrock-%b-token-count" % each, b"") for each in (b"input", b"output")]
    if not any(counts):
        return None
    return Usage(*(int(count) if count.isdigit() else 0 for count in counts))


class _FramePassingReader(EventReader):
    """Passes complete frames unchanged. Half a frame is dropped: what ends the stream could not be read after it."""

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        super().__init__()
        self._decoder = FrameDecoder()

    def feed(self, data: bytes) -> bytes:
        out = []
        for frame in self._decoder.feed(b"" if self.complete else data):
            out.append(frame.raw)
            if frame.error is not None:
                self.fail(frame.error)
            else:
                self._read(frame)
            if self.complete:
                break
        return b"".join(out)

    def end(self) -> bytes:
        if self.complete or self._ended:
            return b""
        self._ended = True
        if not self.finished:
            raise Cut("the stream ended without a finish")
        self.complete = True
        return b""

    def _read(self, frame: Frame) -> None:
        """Updates the reader's state from one event."""
        raise NotImplementedError


class ConverseReader(_FramePassingReader):
    """Frames of ConverseStream."""

    __slots__ = ()

    def _read(self, frame: Frame) -> None:
        if frame.kind in ("contentBlockStart", "contentBlockDelta"):
            self.first_content = True
        elif frame.kind == "messageStop":
            self.finished = True
        elif frame.kind == "metadata":
            self.usage = usage_of(usage_block(as_object(frame.json().get("usage"))))
            self.finished = self.complete = True


class InvokeReader(_FramePassingReader):
    """Frames of InvokeModelWithResponseStream. Each model has events of its own; Bedrock adds metrics to the last."""

    __slots__ = ("_raw_usage",)

    def __init__(self) -> None:
        super().__init__()
        self._raw_usage: dict[str, Any] = {}

    def _read(self, frame: Frame) -> None:
        part = chunk_of(frame)
        kind = part.get("type")
        if kind == "error":
            self.fail(part.get("error"))
            return
        if kind not in ("message_start", "ping"):
            self.first_content = True
        for found in (as_object(part.get("message")).get("usage"), part.get("usage")):
            self._count(found)
        metrics = as_object(part.get("amazon-bedrock-invocationMetrics"))
        if metrics:
            self.usage = self.usage or _of_metrics(metrics)
        if metrics or kind == "message_stop":
            self.finished = self.complete = True
        self.finished = self.finished or any(_reasons(part))

    def _count(self, usage: Any) -> None:
        """The last usage repeats what has changed; what it omits remains valid."""
        if isinstance(usage, dict):
            self._raw_usage |= {name: value for name, value in usage.items() if value is not None}
            self.usage = usage_of(self._raw_usage)


def _reasons(part: dict[str, Any]) -> list[Any]:
    """The reasons to stop, by the names of several vendors."""
    names = ("stop_reason", "completionReason", "finish_reason", "stopReason")
    return [found.get(name) for found in (part, as_object(part.get("delta"))) for name in names]


def _of_metrics(metrics: dict[str, Any]) -> Usage:
    def number(name: str) -> int:
        value = metrics.get(name)
        return value if isinstance(value, int) else 0

    cached = number("cacheReadInputTokenCount")
    inputs = number("inputTokenCount") + cached + number("cacheWriteInputTokenCount")
    return Usage(inputs, number("outputTokenCount"), cached_input_tokens=cached or None)
