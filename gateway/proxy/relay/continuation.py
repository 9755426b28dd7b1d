"""Going on with a stream that was cut, on another target. Pure.

Two ways. Prefill: the other target is given what was said as the beginning of its answer and continues it. Align: it
is asked afresh, and its answer is joined where it has repeated, to the letter, what was said; one that says something
else cannot be joined.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from gateway.core.completion import usage_of
from gateway.core.exchange import Usage
from gateway.core.sse import Splitter, events
from gateway.proxy.relay.assistant import with_assistant
from gateway.proxy.request.call import Call
from gateway.proxy.request.json_splice import set_member

_ID = re.compile(rb'"id"\s*:\s*"([^"\\]*)"')


class Mismatch(Exception):
    """The other target says something else than what the client already has."""


def continuable(call: Call) -> bool:
    """Only a chat stream of one choice that can be nothing but text: no tools, no logprobs, no schema."""
    asked = call.fields
    if call.api != "chat" or asked.get("n") not in (None, 1):
        return False
    if asked.get("tools") or asked.get("functions") or asked.get("logprobs") or asked.get("audio"):
        return False
    form = asked.get("response_format")
    return form is None or (isinstance(form, dict) and form.get("type") == "text")


def first_id(head: bytes) -> str:
    """The id of a stream's first chunk; "" when it has none."""
    found = _ID.search(head)
    return found[1].decode("utf-8", "replace") if found else ""


def prefilled(body: bytes, said: str) -> bytes:
    """The request, with what was said as the beginning of the assistant's answer (vLLM's continue_final_message).

    Raises ValueError when `messages` is no list.
    """
    body = with_assistant(body, said)
    body = set_member(body, b"add_generation_prompt", b"false")
    return set_member(body, b"continue_final_message", b"true")


class Splicer:
    """Reads the second stream, and gives what the client still lacks, under the first stream's id.

    said: the text the client has; it grows with what feed gives. align: the second stream repeats it from its start.
    asked_usage: the client wants the usage chunk.
    """

    def __init__(self, stream_id: str, said: str, *, align: bool, asked_usage: bool) -> None:
        self.said = said
        self.error: str | None = None
        self.usage: Usage | None = None
        self.finished = False
        self.complete = False
        self._id = stream_id
        self._heard = "" if align else said
        self._asked_usage = asked_usage
        self._splitter = Splitter()

    def feed(self, data: bytes) -> bytes:
        """Raises Mismatch. An event that cannot be read is left out; the others still say enough."""
        out = []
        try:
            block = self._splitter.feed(data)
        except ValueError as error:
            raise Mismatch(str(error)) from error
        for event in events(block):
            if event.data == b"[DONE]":
                self.complete = True
                break
            chunk = _chunk_of(event.data)
            if chunk is not None:
                out.append(self._chunk(chunk))
        return b"".join(out)

    def end(self) -> bytes:
        """The closing [DONE]; raises Mismatch when the second stream did not finish either."""
        if not self.finished:
            raise Mismatch("the second stream did not finish")
        return b"data: [DONE]\n\n"

    def _chunk(self, chunk: dict[str, Any]) -> bytes:
        error = chunk.get("error")
        if error:
            self.error = str(error.get("message", error) if isinstance(error, dict) else error)
            return b""
        self.usage = usage_of(chunk.get("usage")) or self.usage
        choice = _choice_of(chunk)
        if choice is None:
            return self._event(chunk) if self._asked_usage else b""
        new = self._join(_content_of(choice))
        finish = choice.get("finish_reason")
        if finish and len(self._heard) < len(self.said):
            raise Mismatch("the second answer is shorter than what was said")
        self.finished = self.finished or bool(finish)
        if not new and not finish:
            return b""
        choice["delta"] = {"content": new} if new else {}
        return self._event(chunk)

    def _join(self, text: str) -> str:
        """What of `text` the client does not have yet."""
        self._heard += text
        if len(self._heard) <= len(self.said):
            if not self.said.startswith(self._heard):
                raise Mismatch("the second answer differs from what was said")
            return ""
        if not self._heard.startswith(self.said):
            raise Mismatch("the second answer differs from what was said")
        new = self._heard[len(self.said) :]
        self.said = self._heard
        return new

    def _event(self, chunk: dict[str, Any]) -> bytes:
        if self._id:
            chunk["id"] = self._id
        return b"data: " + orjson.dumps(chunk) + b"\n\n"


def _chunk_of(data: bytes) -> dict[str, Any] | None:
    try:
        chunk = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return chunk if isinstance(chunk, dict) else None


def _choice_of(chunk: dict[str, Any]) -> dict[str, Any] | None:
    choices = chunk.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else None


def _content_of(choice: dict[str, Any]) -> str:
    delta = choice.get("delta")
    content = delta.get("content") if isinstance(delta, dict) else None
    return content if isinstance(content, str) else ""
