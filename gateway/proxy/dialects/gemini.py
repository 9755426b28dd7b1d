"""Gemini's own API (generateContent), for clients of chat. Those of messages and of responses are translated to a chat
first. Requests are translated in gemini_request.py, answers in gemini_reader.py."""

from __future__ import annotations

from urllib.parse import quote

from gateway.config.upstreams import Upstream
from gateway.core.errors import GatewayError
from gateway.core.json_values import as_object
from gateway.proxy.dialects import lenient_json
from gateway.proxy.dialects.anthropic import limited
from gateway.proxy.dialects.gemini_reader import GeminiToChatReader, to_chat, to_openai_error
from gateway.proxy.dialects.gemini_request import to_gemini
from gateway.proxy.dialects.lenient_json import translated
from gateway.proxy.dialects.types import PlainReply, Reader
from gateway.proxy.dialects.unsupported import unsupported_api
from gateway.proxy.dialects.upstream_address import UpstreamAddress
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.call import Call


class Gemini:
    """One upstream. Its base URL ends in /v1beta, or in /publishers/google on Vertex AI."""

    def __init__(self, upstream: Upstream) -> None:
        key = upstream.api_key
        self._address = UpstreamAddress(upstream, (b"x-goog-api-key", key.encode()) if key else None)
        self.origin = self._address.origin

    def request(self, call: Call, model: str) -> UpstreamRequest:
        if call.api != "chat":
            raise unsupported_api(
                f"the upstream of {call.alias!r} speaks Gemini's own API, and its {call.api} cannot be asked for here; "
                "use /v1/chat/completions, /v1/messages or /v1/responses, or an upstream of kind gemini"
            )
        _, body = translated(call, lambda fields: to_gemini(limited(fields, call.default_output)))
        verb = b"streamGenerateContent?alt=sse" if call.stream else b"generateContent"
        path = b"/models/%b:%b" % (quote(model, safe="").encode(), verb)
        return self._address.request(call, model, path, body)

    def raw(self, request: UpstreamRequest) -> UpstreamRequest:
        return self._address.raw(request)

    def reader(self, call: Call, keep_text: bool) -> Reader:
        return GeminiToChatReader(call, keep_text=keep_text)

    def answer(self, call: Call, body: bytes) -> PlainReply:
        answer, usage = to_chat(as_object(lenient_json.loads(body)), call)
        return PlainReply(lenient_json.dumps(answer), usage)

    def error(self, call: Call, status: int, body: bytes) -> bytes:
        return to_openai_error(status, body)

    def broken(self, call: Call, error: GatewayError) -> bytes:
        return b"\n\ndata: " + error.body() + b"\n\n"
