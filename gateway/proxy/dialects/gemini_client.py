"""Gemini's own clients at an upstream that has Gemini's API: bytes pass unchanged, both ways. Records and usage are
read from what passes."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, quote

from gateway.core.errors import BadRequest, GatewayError
from gateway.core.json_values import as_list, as_object
from gateway.core.sse import Event
from gateway.proxy.dialects import lenient_json
from gateway.proxy.dialects.event_reader import PassingReader, error_message
from gateway.proxy.dialects.gemini_reader import usage_in
from gateway.proxy.dialects.types import Dialect, PlainReply, Reader
from gateway.proxy.dialects.upstream_address import without_other_vendors
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.call import Call


class GeminiClient:
    """The clients of one upstream."""

    def __init__(self, native: Dialect) -> None:
        self._native = native

    def request(self, call: Call, model: str) -> UpstreamRequest:
        name = quote(model, safe="").encode()
        kept = without_other_vendors(call.headers)
        body = call.sent_with({"model": None})  # the one in the path is authorized
        return self._native.raw(
            UpstreamRequest(b"POST", "", b"/models/" + name + _verb(call), kept, body, stream=call.stream)
        )

    def reader(self, call: Call, keep_text: bool) -> Reader:
        return GeminiReader()

    def answer(self, call: Call, body: bytes) -> PlainReply:
        answer = as_object(lenient_json.loads(body))
        if call.api == "gemini_count_tokens":
            if not isinstance(answer.get("totalTokens"), int):
                raise ValueError("the body is not an answer of countTokens: it has no totalTokens")
            return PlainReply(body, None)
        if not answer.get("candidates") and not answer.get("promptFeedback"):
            text = error_message(answer["error"])[:200] if answer.get("error") else "it has no candidates"
            raise ValueError(f"the body is not an answer of Gemini: {text}")
        return PlainReply(body, usage_in(as_object(answer.get("usageMetadata"))))

    def error(self, call: Call, status: int, body: bytes) -> bytes:
        return body

    def broken(self, call: Call, error: GatewayError) -> bytes:
        return b"\n\ndata: " + error.body_for("gemini") + b"\n\n"


def _verb(call: Call) -> bytes:
    """The method, as the path ends. Raises BadRequest for a stream that is not asked for as events."""
    if call.api == "gemini_count_tokens":
        return b":countTokens"
    if not call.stream:
        return b":generateContent"
    query = call.path.partition(b"?")[2].decode("latin-1")
    if dict(parse_qsl(query)).get("alt") != "sse":
        raise BadRequest("streamGenerateContent is served as events: send it with ?alt=sse", param="alt")
    return b":streamGenerateContent?alt=sse"


class GeminiReader(PassingReader):
    """Events of streamGenerateContent, for Gemini's own clients. The stream has no last event: it ends with the
    connection."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(each=True)  # any of them may have the usage, or the end

    def _marked(self, block: bytes) -> bool:
        return True

    def _read(self, part: dict[str, Any]) -> bool:
        if part.get("error"):
            self.fail(part["error"])
            return True
        self.usage = usage_in(as_object(part.get("usageMetadata"))) or self.usage
        for candidate in map(as_object, as_list(part.get("candidates"))):
            reason = candidate.get("finishReason")
            self.finished = self.finished or bool(reason and reason != "FINISH_REASON_UNSPECIFIED")
            pieces = map(as_object, as_list(as_object(candidate.get("content")).get("parts")))
            self.first_content = self.first_content or any(map(_says, pieces))
        self.finished = self.finished or bool(as_object(part.get("promptFeedback")).get("blockReason"))
        return True

    def _done(self, event: Event) -> bytes:
        return event.raw


def _says(piece: dict[str, Any]) -> bool:
    return any(value for name, value in piece.items() if name not in ("thought", "thoughtSignature"))
