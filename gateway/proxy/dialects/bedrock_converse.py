"""Amazon Bedrock's Converse API, for clients of chat and of messages: all models of Bedrock, Nova, Titan and Claude
among them, in one form.

A chat is first translated to messages in Anthropic's form (anthropic.py), and these to Converse (converse_request.py);
answers take the same way back (converse_reader.py).
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from gateway.config.upstreams import Upstream
from gateway.core.errors import BadRequest, GatewayError
from gateway.core.exchange import Usage
from gateway.core.json_values import as_object
from gateway.proxy.dialects import lenient_json
from gateway.proxy.dialects.anthropic import limited, to_anthropic
from gateway.proxy.dialects.anthropic_reader import to_chat, usage_in
from gateway.proxy.dialects.converse_reader import ConverseFrames, to_message
from gateway.proxy.dialects.converse_request import to_converse
from gateway.proxy.dialects.framed_reader import framed_reader
from gateway.proxy.dialects.lenient_json import translated
from gateway.proxy.dialects.messages import to_anthropic_error
from gateway.proxy.dialects.types import PlainReply, Reader
from gateway.proxy.dialects.unsupported import unsupported_api
from gateway.proxy.dialects.upstream_address import UpstreamAddress, bearer
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.call import Call
from gateway.proxy.request.output_limit import output_limit

_TOO_LONG = ("input is too long", "too many input tokens", "context window", "maximum context length")
_CODES = {403: "permission_denied", 404: "model_not_found", 429: "rate_limit_exceeded"}


class BedrockConverse:
    """One upstream; its base URL is https://bedrock-runtime.REGION.amazonaws.com."""

    def __init__(self, upstream: Upstream) -> None:
        self._address = UpstreamAddress(upstream, bearer(upstream.api_key))
        self.origin = self._address.origin

    def request(self, call: Call, model: str) -> UpstreamRequest:
        if call.api not in ("chat", "messages"):
            raise unsupported_api(
                f"the upstream of {call.alias!r} speaks Bedrock's Converse API, which has no {call.api}; "
                "use /v1/chat/completions, /v1/messages or /v1/responses"
            )
        _, body = translated(call, lambda fields: to_converse(_messages(call, fields, model), model))
        verb = b"converse-stream" if call.stream else b"converse"
        path = b"/model/%b/%b" % (quote(model, safe="").encode(), verb)
        return self._address.request(call, model, path, body)

    def raw(self, request: UpstreamRequest) -> UpstreamRequest:
        return self._address.raw(request)

    def reader(self, call: Call, keep_text: bool) -> Reader:
        id = f"msg_{call.id}" if call.api == "messages" else call.id
        return framed_reader(call, ConverseFrames(id, call.named or call.alias), keep_text=keep_text)

    def answer(self, call: Call, body: bytes) -> PlainReply:
        answer = lenient_json.loads(body)
        message = to_message(as_object(answer), call.id, call.named or call.alias)
        usage: Usage | None = usage_in(message["usage"])
        if call.api == "messages":
            return PlainReply(lenient_json.dumps(message), usage)
        return PlainReply(lenient_json.dumps(to_chat(message, int(call.received))), usage)

    def error(self, call: Call, status: int, body: bytes) -> bytes:
        error = to_openai_error(status, body)
        return to_anthropic_error(status, error) if call.api == "messages" else error

    def broken(self, call: Call, error: GatewayError) -> bytes:
        if call.api == "messages":
            return b"\n\nevent: error\ndata: " + error.anthropic_body() + b"\n\n"
        return b"\n\ndata: " + error.body() + b"\n\n"


def _messages(call: Call, fields: dict[str, Any], model: str) -> dict[str, Any]:
    """The request in Anthropic's form. Without a client's limit, none is sent: Converse has the model's own."""
    if call.api == "messages":
        return fields
    try:
        request = to_anthropic(limited(fields, call.default_output), model)
    except BadRequest as error:
        text = error.message.replace("Anthropic's Messages API", "Bedrock's Converse API")
        raise BadRequest(text, param=error.param, code=error.code) from None
    if not output_limit("chat", fields) and call.default_output is None:
        del request["max_tokens"]
    if as_object(request.get("thinking")).get("type") == "adaptive" and "anthropic." not in model:
        del request["thinking"]
    return request


def to_openai_error(status: int, body: bytes) -> bytes:
    """An error of Bedrock's, `{"message": …}`, in OpenAI's format."""
    try:
        found = as_object(lenient_json.loads(body))
    except ValueError:
        found = {}
    text = found.get("message") or found.get("Message") or body.decode("utf-8", "replace")[:1000] or f"HTTP {status}"
    code = _CODES.get(status)
    if status == 400 and any(words in str(text).lower() for words in _TOO_LONG):
        code = "context_length_exceeded"
    kind = "invalid_request_error" if 400 <= status < 500 and status != 429 else "upstream_error"
    return lenient_json.dumps({"error": {"message": str(text), "type": kind, "param": None, "code": code}})
