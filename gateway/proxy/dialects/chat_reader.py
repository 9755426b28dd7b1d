"""Chat chunks from another vendor's events, and usage in OpenAI's form: the parts that such readers share."""

from __future__ import annotations

from typing import Any

from gateway.core.exchange import Usage
from gateway.proxy.dialects import lenient_json
from gateway.proxy.dialects.event_reader import TranslatingReader
from gateway.proxy.request.call import Call


class ChatChunkReader(TranslatingReader):
    """Another vendor's events → chat chunks. keep_text: keep the text, for a continuation."""

    __slots__ = ("_asked_usage", "_head", "_plain", "_texts")

    def __init__(self, call: Call, *, keep_text: bool) -> None:
        super().__init__()
        self._asked_usage = call.asked_usage
        self._head: dict[str, Any] = {
            "id": call.id, "object": "chat.completion.chunk", "created": int(call.received),
            "model": call.named or call.alias
        }  # fmt: skip
        self._texts: list[str] | None = [] if keep_text else None
        self._plain = True

    @property
    def text(self) -> str:
        return "".join(self._texts or ())

    @property
    def continuable(self) -> bool:
        return self._texts is not None and self._plain

    @property
    def _keeps(self) -> bool:
        return self._texts is not None

    def _keep_piece(self, text: str) -> None:
        if self._texts is not None:
            self._texts.append(text)

    def _content(self, delta: dict[str, Any], choice: int = 0, *, plain: bool = True) -> bytes:
        self.first_content = True
        if not plain:
            self._plain, self._texts = False, None  # no other target can continue it
        return self._chunk(delta, choice)

    def _chunk(self, delta: dict[str, Any], choice: int = 0, finish: str | None = None) -> bytes:
        found = {"index": choice, "delta": delta, "logprobs": None, "finish_reason": finish}
        return b"data: " + lenient_json.dumps({**self._head, "choices": [found]}) + b"\n\n"

    def _owed(self) -> bytes:
        done = b"data: [DONE]\n\n"
        if not (self._asked_usage and self.usage):
            return done
        usage = {**self._head, "choices": [], "usage": chat_usage(self.usage)}
        return b"data: " + lenient_json.dumps(usage) + b"\n\n" + done


def chat_usage(usage: Usage) -> dict[str, Any]:
    """Usage in OpenAI's form. Unreported counts are left out; a reported 0 is kept."""
    out: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    if usage.cached_input_tokens is not None:
        out["prompt_tokens_details"] = {"cached_tokens": usage.cached_input_tokens}
    if usage.reasoning_tokens is not None:
        out["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return out
