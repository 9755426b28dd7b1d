"""Anthropic's dialect: requests of Anthropic's clients pass unchanged, those of OpenAI's clients are translated."""

from __future__ import annotations

from collections.abc import AsyncIterable
from dataclasses import replace
from typing import Any

import orjson

from gateway.config.upstreams import Upstream
from gateway.core.errors import BadRequest, GatewayError
from gateway.proxy.dialects import lenient_json
from gateway.proxy.dialects.anthropic_reader import MessagesReader, ToChatReader, to_chat, to_openai_error
from gateway.proxy.dialects.anthropic_request import to_anthropic
from gateway.proxy.dialects.lenient_json import translated
from gateway.proxy.dialects.openai import fixed_headers, split_base_url
from gateway.proxy.dialects.plain_answer import read_answer
from gateway.proxy.dialects.types import PlainReply, Reader
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.call import Call
from gateway.proxy.request.json_splice import replace_member
from gateway.proxy.request.output_limit import output_limit
from gateway.proxy.types import Headers

_VERSION: tuple[bytes, bytes] = (b"anthropic-version", b"2023-06-01")
_NATIVE_APIS = ("messages", "count_tokens")


def _limited(fields: dict[str, Any], default: int | None) -> dict[str, Any]:
    return fields if default is None or output_limit("chat", fields) else {**fields, "max_tokens": default}


class Anthropic:
    """One upstream that speaks the Messages API."""

    def __init__(self, upstream: Upstream) -> None:
        self.origin, self._prefix = split_base_url(upstream.url)
        key = upstream.api_key
        self._fixed = fixed_headers(upstream, (b"x-api-key", key.encode()) if key else None)
        self._fixed_names = frozenset(name for name, _ in self._fixed)
        self._passes = frozenset(name.lower().encode() for name in upstream.pass_headers) - self._fixed_names

    def request(self, call: Call, model: str) -> UpstreamRequest:
        if call.api in _NATIVE_APIS:
            body = replace_member(call.body, b"model", orjson.dumps(model))
            headers = self._with_passed(call, call.headers)
            return replace(self.raw(call.method, call.path, headers, body), stream=call.stream)
        if call.api != "chat":
            raise BadRequest(
                f"the upstream of {call.alias!r} speaks Anthropic's Messages API, which has no {call.api}; "
                "use /v1/chat/completions or /v1/messages",
                param="model",
                code="unsupported_api",
            )
        _, body = translated(call, lambda fields: to_anthropic(_limited(fields, call.default_output), model))
        headers = self._with_passed(call, [h for h in call.headers if not h[0].startswith(b"openai-")])
        return replace(self.raw(b"POST", b"/messages", headers, body), stream=call.stream)

    def _with_passed(self, call: Call, headers: Headers) -> Headers:
        passed = [h for h in call.passed if h[0] in self._passes and h not in headers]
        return [*headers, *passed] if passed else headers

    def raw(
        self,
        method: bytes,
        path: bytes,
        headers: Headers,
        body: bytes | AsyncIterable[bytes],
        length: int | None = None,
    ) -> UpstreamRequest:
        out = [h for h in headers if h[0] not in self._fixed_names] + self._fixed
        named = {name for name, _ in out}
        if b"anthropic-version" not in named:
            out.append(_VERSION)
        if b"content-type" not in named and body:
            out.append((b"content-type", b"application/json"))
        return UpstreamRequest(method, self.origin, self._prefix + path, out, body, length)

    def reader(self, call: Call, keep_text: bool) -> Reader:
        return MessagesReader() if call.api in _NATIVE_APIS else ToChatReader(call, keep_text=keep_text)

    def answer(self, call: Call, body: bytes) -> PlainReply:
        usage = read_answer(body)
        if call.api in _NATIVE_APIS:
            return PlainReply(body, usage)
        message = lenient_json.loads(body)
        if not isinstance(message.get("content"), list):
            raise ValueError("the body is not a message: it has no content")
        return PlainReply(lenient_json.dumps(to_chat(message, int(call.received))), usage)

    def error(self, call: Call, status: int, body: bytes) -> bytes:
        return body if call.api in _NATIVE_APIS else lenient_json.dumps(to_openai_error(status, body))

    def broken(self, call: Call, error: GatewayError) -> bytes:
        if call.api in _NATIVE_APIS:
            return b"\n\nevent: error\ndata: " + error.anthropic_body() + b"\n\n"
        return b"\n\ndata: " + error.body() + b"\n\n"
