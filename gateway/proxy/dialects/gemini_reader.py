"""Reads Gemini's answers as chats: plain ones, the events of streamGenerateContent, usage and errors."""

from __future__ import annotations

from typing import Any

from gateway.core.exchange import Usage
from gateway.core.json_values import as_list, as_object
from gateway.core.sse import Event
from gateway.proxy.dialects import lenient_json
from gateway.proxy.dialects.chat_reader import ChatChunkReader, chat_usage
from gateway.proxy.request.call import Call

FINISH = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
}
_CODES = {
    "RESOURCE_EXHAUSTED": "rate_limit_exceeded",
    "NOT_FOUND": "model_not_found",
    "UNAUTHENTICATED": "invalid_api_key",
    "PERMISSION_DENIED": "permission_denied",
    "UNAVAILABLE": "overloaded",
}
_TOO_LONG = "exceeds the maximum number of tokens"


class CallIds:
    """Ids of calls of tools, which Gemini does not give all of its calls."""

    def __init__(self, id: str) -> None:
        self._id = id
        self.counts: dict[int, int] = {}
        """Calls so far, by candidate."""

    def tool_call(self, choice: int, part: dict[str, Any]) -> dict[str, Any]:
        """The call of a part. A thought's signature comes back with it, since Gemini asks for it in the next turn."""
        call = as_object(part["functionCall"])
        at = self.counts.get(choice, 0)
        self.counts[choice] = at + 1
        function = {"name": call.get("name"), "arguments": lenient_json.dumps(call.get("args") or {}).decode()}
        id = call.get("id") or f"call_{self._id}_{choice}_{at}"
        found = {"index": at, "id": id, "type": "function", "function": function}
        signature = part.get("thoughtSignature")
        return found | ({"extra_content": {"google": {"thought_signature": signature}}} if signature else {})


class GeminiToChatReader(ChatChunkReader):
    """Events of streamGenerateContent → chat chunks. The stream has no last event: it ends with the connection."""

    __slots__ = ("_calls", "_started")

    def __init__(self, call: Call, *, keep_text: bool) -> None:
        super().__init__(call, keep_text=keep_text)
        self._calls = CallIds(call.id)
        self._started: set[int] = set()

    def _part(self, part: dict[str, Any], event: Event) -> bytes:
        if part.get("error"):
            error = to_openai_error(200, event.data)
            self.fail(lenient_json.loads(error)["error"])
            return b"data: " + error + b"\n\n"
        self._head["model"] = part.get("modelVersion") or self._head["model"]
        self.usage = usage_in(as_object(part.get("usageMetadata"))) or self.usage
        out = [self._candidate(as_object(each)) for each in as_list(part.get("candidates"))]
        if not out and as_object(part.get("promptFeedback")).get("blockReason"):
            out = [self._finish(0, "content_filter")]
        return b"".join(out)

    def _candidate(self, candidate: dict[str, Any]) -> bytes:
        choice, out = candidate.get("index", 0), []
        pieces = [as_object(each) for each in as_list(as_object(candidate.get("content")).get("parts"))]
        for piece in pieces:
            out.append(self._said(choice, piece))
        reason = candidate.get("finishReason")
        if reason and reason != "FINISH_REASON_UNSPECIFIED":
            calls = choice in self._calls.counts and reason == "STOP"
            out.append(self._finish(choice, "tool_calls" if calls else FINISH.get(reason, "stop")))
            self._piece = None
        elif len(pieces) != 1:
            self._piece = None
        return b"".join(out)

    def _said(self, choice: int, piece: dict[str, Any]) -> bytes:
        if "functionCall" in piece:
            return self._content({"tool_calls": [self._calls.tool_call(choice, piece)]}, choice, plain=False)
        text = piece.get("text")
        if not isinstance(text, str) or not text:
            return b""
        if piece.get("thought"):
            return self._content({"reasoning": text}, choice, plain=False)
        self._keep_piece(text)
        started = choice in self._started
        out = self._content({"content": text}, choice, plain=choice == 0)
        self._piece = text if started and len(piece) == 1 else None
        return out

    def _finish(self, choice: int, reason: str) -> bytes:
        self.finished = True
        return self._chunk({}, choice, reason)

    def _chunk(self, delta: dict[str, Any], choice: int = 0, finish: str | None = None) -> bytes:
        if choice not in self._started:
            self._started.add(choice)
            delta = {"role": "assistant", **delta}
        return super()._chunk(delta, choice, finish)


def usage_in(raw: dict[str, Any]) -> Usage | None:
    """Tokens of usageMetadata. Thoughts are counted besides the candidates, and are part of the output."""
    if not isinstance(raw.get("promptTokenCount"), int):
        return None
    thoughts = raw.get("thoughtsTokenCount")
    return Usage(
        raw["promptTokenCount"] + (raw.get("toolUsePromptTokenCount") or 0),
        (raw.get("candidatesTokenCount") or 0) + (thoughts or 0),
        cached_input_tokens=raw.get("cachedContentTokenCount"),
        reasoning_tokens=thoughts,
    )


def to_chat(answer: dict[str, Any], call: Call) -> tuple[dict[str, Any], Usage | None]:
    """A plain answer as a chat.completion, and its usage. Raises ValueError if it is none."""
    feedback = as_object(answer.get("promptFeedback")).get("blockReason")
    candidates = [as_object(each) for each in as_list(answer.get("candidates"))]
    if not candidates and not feedback:
        raise ValueError("the body is not an answer of Gemini: it has no candidates")
    ids = CallIds(call.id)
    choices = [_choice(candidate, at, ids) for at, candidate in enumerate(candidates)]
    if not choices:
        message = {"role": "assistant", "content": None, "refusal": f"the prompt was blocked: {feedback}"}
        choices = [{"index": 0, "message": message, "logprobs": None, "finish_reason": "content_filter"}]
    out: dict[str, Any] = {
        "id": answer.get("responseId") or call.id,
        "object": "chat.completion",
        "created": int(call.received),
        "model": answer.get("modelVersion") or call.named or call.alias,
        "choices": choices,
    }
    usage = usage_in(as_object(answer.get("usageMetadata")))
    return out | ({"usage": chat_usage(usage)} if usage else {}), usage


def _choice(candidate: dict[str, Any], at: int, ids: CallIds) -> dict[str, Any]:
    choice = candidate.get("index", at)
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    for part in map(as_object, as_list(as_object(candidate.get("content")).get("parts"))):
        if "functionCall" in part:
            calls.append({name: value for name, value in ids.tool_call(choice, part).items() if name != "index"})
        elif isinstance(part.get("text"), str):
            (thoughts if part.get("thought") else texts).append(part["text"])
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts else None, "refusal": None}
    if thoughts:
        message["reasoning"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    reason = candidate.get("finishReason") or "STOP"
    finish = "tool_calls" if calls and reason == "STOP" else FINISH.get(reason, "stop")
    return {"index": choice, "message": message, "logprobs": None, "finish_reason": finish}


def to_openai_error(status: int, body: bytes) -> bytes:
    """Gemini's error, `{"error": {"code", "message", "status"}}`, alone or in a list, in OpenAI's format."""
    try:
        found = lenient_json.loads(body)
    except ValueError:
        found = {}
    found = found[0] if isinstance(found, list) and found else found
    error = as_object(as_object(found).get("error"))
    text = error.get("message") or body.decode("utf-8", "replace")[:1000] or f"HTTP {status}"
    name = str(error.get("status") or "")
    code = "context_length_exceeded" if _TOO_LONG in str(text) else _CODES.get(name)
    kind = "invalid_request_error" if name in ("INVALID_ARGUMENT", "FAILED_PRECONDITION") else name or "upstream_error"
    return lenient_json.dumps({"error": {"message": str(text), "type": kind, "param": None, "code": code}})
