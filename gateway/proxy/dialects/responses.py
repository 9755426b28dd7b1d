"""Clients of the Responses API on an upstream without it: `/v1/responses` is translated to a chat and back.

The dialect of the upstream answers the chat: OpenAI's as it is, Anthropic's translated once more. Requests are
translated in responses_request.py, answers in responses_reader.py, tools in client_tools.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from gateway.config.upstreams import Upstream
from gateway.core.errors import BadRequest, GatewayError
from gateway.core.json_values import as_object, parse_object
from gateway.core.providers import CHATS, IN_BLOCKS
from gateway.proxy.dialects import lenient_json
from gateway.proxy.dialects.client_tools import ClientTools, client_tools
from gateway.proxy.dialects.lenient_json import translated
from gateway.proxy.dialects.openai import response_error_event
from gateway.proxy.dialects.responses_reader import ResponseHead, ToResponsesReader, to_response
from gateway.proxy.dialects.responses_request import ChatForm, to_chat_request
from gateway.proxy.dialects.types import Dialect, PlainReply, Reader
from gateway.proxy.dialects.unsupported import unsupported_api
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.call import Call

RESPONSES_APIS = ("responses", "compact", "input_tokens")
_OPENAIS = ("openai", "azure")
_REASONING_NAMES = {"deepseek": "reasoning_content"}  # without it, it refuses a conversation with calls of tools


def chat_form(upstream: Upstream) -> ChatForm:
    """The chat API that the dialect of this upstream takes."""
    openais = upstream.kind in _OPENAIS
    return ChatForm(
        limit_name="max_completion_tokens" if openais else "max_tokens",
        openais=openais,
        tool_images=upstream.provider.dialect in IN_BLOCKS,
        reasoning_name=_REASONING_NAMES.get(upstream.kind, ""),
    )


_INSTEAD: Mapping[str, str] = {
    "compact": "a compacted conversation can be read by its provider alone; ask /v1/responses for a summary, and send "
    "that as `input`",
    "input_tokens": "the `usage` of an answer has the tokens of its input",
}


class ResponsesAsChat:
    """Translates for clients of the Responses API, around the dialect of one upstream."""

    def __init__(self, upstream: Upstream, inner: Dialect) -> None:
        self._inner = inner
        self._form = chat_form(upstream)
        self._reads_chat = upstream.provider.dialect in CHATS

    def request(self, call: Call, model: str) -> UpstreamRequest:
        if call.api != "responses":
            path = call.path.partition(b"?")[0].decode("latin-1")
            raise unsupported_api(
                f"the upstream of {call.alias!r} has no Responses API, and /v1{path} cannot be translated; "
                + _INSTEAD[call.api]
            )
        fields, body = translated(call, lambda given: to_chat_request(given, self._form))
        request = self._inner.request(self._chat(call, fields, body), model)
        return replace(request, recorded=call.body_with({"model": orjson.dumps(model)}))

    def _chat(self, call: Call, fields: dict[str, Any], body: bytes) -> Call:
        """The call as the inner dialect gets it. Its path has no query: that one was for another API."""
        return replace(call.with_body(body, fields), api="chat", path=b"/chat/completions")

    def reader(self, call: Call, keep_text: bool) -> Reader:
        source = None if self._reads_chat else self._inner.reader(self._chat(call, {}, b""), False)
        return ToResponsesReader(response_head(call), source)

    def answer(self, call: Call, body: bytes) -> PlainReply:
        """Raises ValueError if the body is not an answer."""
        chat = self._inner.answer(self._chat(call, {}, b""), body)
        response = to_response(as_object(lenient_json.loads(chat.body)), response_head(call), chat.usage)
        return PlainReply(lenient_json.dumps(response), chat.usage)

    def error(self, call: Call, status: int, body: bytes) -> bytes:
        return self._inner.error(self._chat(call, {}, b""), status, body)

    def broken(self, call: Call, error: GatewayError) -> bytes:
        return response_error_event(error)


def response_head(call: Call) -> ResponseHead:
    """The members of a response that the call gives. The request is read from the body only where its fields leave
    large members out."""
    fields = call.fields
    if ... in fields.values():
        fields = parse_object(call.body_with({})) or {}
    return ResponseHead(call.id, int(call.received), call.named or call.alias, fields, _tools(fields))


def _tools(fields: dict[str, Any]) -> ClientTools:
    """The tools of the request as the client sent it: without those that a target's variant sets."""
    try:
        return client_tools(fields)
    except BadRequest:
        return ClientTools()
