"""Anthropic's clients on an upstream that speaks OpenAI's API: `/v1/messages` is translated to a chat and back."""

from __future__ import annotations

from dataclasses import replace

from gateway.config.upstreams import Upstream
from gateway.core.errors import GatewayError, NotImplementedHere
from gateway.proxy.dialects import lenient_json
from gateway.proxy.dialects.lenient_json import translated
from gateway.proxy.dialects.messages_reader import ToMessagesReader, to_anthropic_error, to_message
from gateway.proxy.dialects.messages_request import to_chat_request
from gateway.proxy.dialects.openai import OpenAI
from gateway.proxy.dialects.plain_answer import read_answer
from gateway.proxy.dialects.types import PlainReply, Reader
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.call import Call

_KNOWS_COMPLETION_LIMIT = frozenset(
    {"openai", "azure"}
)  # their reasoning models refuse max_tokens; other providers know only max_tokens


class Messages:
    """Translates for Anthropic's clients, around the dialect of one upstream."""

    def __init__(self, upstream: Upstream, inner: OpenAI) -> None:
        self._inner = inner
        self._limit_name = "max_completion_tokens" if upstream.kind in _KNOWS_COMPLETION_LIMIT else "max_tokens"

    def request(self, call: Call, model: str) -> UpstreamRequest:
        if call.api == "count_tokens":
            raise NotImplementedHere(
                f"the upstream of {call.alias!r} cannot count tokens of messages; only one that speaks Anthropic's "
                "Messages API can",
                retry=False,
            )
        fields, body = translated(call, lambda fields: to_chat_request(fields, self._limit_name))
        headers = [h for h in call.headers if not h[0].startswith(b"anthropic-")]
        chat = replace(call, api="chat", path=b"/chat/completions", headers=headers, fields=fields, body=body)
        return self._inner.request(chat, model)

    def reader(self, call: Call, keep_text: bool) -> Reader:
        return ToMessagesReader()

    def answer(self, call: Call, body: bytes) -> PlainReply:
        usage = read_answer(body)
        try:
            return PlainReply(lenient_json.dumps(to_message(lenient_json.loads(body))), usage)
        except (AttributeError, TypeError, LookupError) as error:
            raise ValueError(f"the body is not a chat completion: {error}") from error

    def error(self, call: Call, status: int, body: bytes) -> bytes:
        return to_anthropic_error(status, body)

    def broken(self, call: Call, error: GatewayError) -> bytes:
        return b"\n\nevent: error\ndata: " + error.anthropic_body() + b"\n\n"
