"""Claude on Amazon Bedrock by InvokeModel: Anthropic's body with its version, the model in the path, and frames for a
stream, each of which holds one of Anthropic's events.

Sources: https://platform.claude.com/docs/en/build-with-claude/claude-on-amazon-bedrock and the API reference of
Bedrock's runtime, operations InvokeModel, InvokeModelWithResponseStream and CountTokens.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import orjson

from gateway.config.upstreams import Upstream
from gateway.core.json_values import as_object
from gateway.proxy.dialects import lenient_json
from gateway.proxy.dialects.anthropic import Anthropic
from gateway.proxy.dialects.bedrock_converse import to_openai_error
from gateway.proxy.dialects.event_frames import Frame, FrameDecoder
from gateway.proxy.dialects.framed_reader import AnthropicEvent, framed_reader
from gateway.proxy.dialects.messages import to_anthropic_error
from gateway.proxy.dialects.types import PlainReply, Reader
from gateway.proxy.dialects.upstream_address import UpstreamAddress, bearer
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.call import Call
from gateway.proxy.request.json_members import Change, edited, read_members

_VERSION = b"bedrock-2023-05-31"
_FIRST = b"2023-06-01"  # of Anthropic's own API; Bedrock has the name above for it


class BedrockAnthropic(Anthropic):
    """One upstream; its base URL is https://bedrock-runtime.REGION.amazonaws.com."""

    def __init__(self, upstream: Upstream) -> None:
        super().__init__(upstream)
        self._address = UpstreamAddress(upstream, bearer(upstream.api_key))

    def request(self, call: Call, model: str) -> UpstreamRequest:
        if call.api == "messages":
            body = call.body_with(_changes(call))
        elif call.api == "count_tokens":
            return self._count(call, model)
        else:
            translated = super().request(call, model).join()
            body = translated if isinstance(translated, bytes) else b""
            body = edited(body, read_members(body), _changes(call))
        verb = b"invoke-with-response-stream" if call.stream else b"invoke"
        path = b"/model/%b/%b" % (quote(model, safe="").encode(), verb)
        return self._sent(call, model, path, body)

    def _count(self, call: Call, model: str) -> UpstreamRequest:
        """Bedrock counts the tokens of a whole request, in which a limit is required; its value does not count."""
        body = call.body_with({**_changes(call), "max_tokens": b"1"})
        counted = orjson.dumps({"input": {"invokeModel": {"body": b64encode(body).decode()}}})
        return self._sent(call, model, b"/model/%b/count-tokens" % quote(model, safe="").encode(), counted)

    def _sent(self, call: Call, model: str, path: bytes, body: bytes) -> UpstreamRequest:
        request = self._address.request(call, model, path, body)
        passed = [h for h in call.passed if h[0] in self._passes and h not in request.headers]
        return replace(request, headers=[*request.headers, *passed]) if passed else request

    def raw(self, request: UpstreamRequest) -> UpstreamRequest:
        return self._address.raw(request)

    def reader(self, call: Call, keep_text: bool) -> Reader:
        return framed_reader(call, InvokeFrames(), keep_text=keep_text)

    def answer(self, call: Call, body: bytes) -> PlainReply:
        if call.api != "count_tokens":
            return super().answer(call, body)
        count = as_object(lenient_json.loads(body)).get("inputTokens")
        if not isinstance(count, int):
            raise ValueError("the body is not an answer of CountTokens: it has no inputTokens")
        return PlainReply(orjson.dumps({"input_tokens": count}), None)

    def error(self, call: Call, status: int, body: bytes) -> bytes:
        error = to_openai_error(status, body)
        return error if call.api == "chat" else to_anthropic_error(status, error)


class InvokeFrames:
    """Frames of InvokeModelWithResponseStream → the events of Anthropic's that they hold."""

    stopped = False

    def __init__(self) -> None:
        self._decoder = FrameDecoder()

    def feed(self, data: bytes) -> Iterator[AnthropicEvent]:
        """Raises Cut for a frame whose checksum or length is wrong."""
        for frame in self._decoder.feed(data):
            if frame.error is not None:
                yield {"type": "error", "error": frame.error}
            elif found := chunk_of(frame):
                yield found

    def rest(self) -> Iterator[AnthropicEvent]:
        return iter(())


def chunk_of(frame: Frame) -> dict[str, Any]:
    """The JSON object in a frame of InvokeModelWithResponseStream; {} if it holds none."""
    try:
        return as_object(lenient_json.loads(b64decode(frame.json().get("bytes") or "")))
    except (NotBase64, TypeError, ValueError):
        return {}


def _changes(call: Call) -> dict[str, Change]:
    """Members that Bedrock has elsewhere or needs besides: model and stream in the path, headers in the body."""
    headers = dict(call.headers)
    sent = headers.get(b"anthropic-version", _FIRST)
    version = orjson.dumps((_VERSION if sent == _FIRST else sent).decode("latin-1"))
    changes: dict[str, Change] = {"model": None, "stream": None, "anthropic_version": version}
    betas = [each.strip() for each in headers.get(b"anthropic-beta", b"").decode("latin-1").split(",") if each.strip()]
    return changes | ({"anthropic_beta": orjson.dumps(betas)} if betas else {})
