"""Continues a cut chat stream with the answer of another target. Pure.

There are two ways. Prefill: the other target gets the text that was sent as the beginning of its own answer, and
continues it. Alignment: the other target answers from the start, and its stream is joined at the point up to which it
has repeated the sent text to the letter; an answer that differs cannot be joined.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from gateway.core.completion import usage_of
from gateway.core.exchange import Usage
from gateway.core.json_values import as_object, as_text, parse_object
from gateway.core.sse import Splitter, events
from gateway.proxy.request.call import Call

_EMPTY_LIST = re.compile(rb"\[[ \t\n\r]*+\]")
_ID = re.compile(rb'"id"\s*:\s*"([^"\\]*)"')


class Mismatch(Exception):
    """The other target's answer does not continue the text that the client already has."""


def continuable(call: Call) -> bool:
    """Whether the answer can only be one plain text: a chat call with n = 1, without tools, logprobs or a schema."""
    fields = call.fields
    if call.api != "chat" or fields.get("n") not in (None, 1):
        return False
    if fields.get("tools") or fields.get("functions") or fields.get("logprobs") or fields.get("audio"):
        return False
    form = fields.get("response_format")
    return form is None or (isinstance(form, dict) and form.get("type") == "text")


def first_id(head: bytes) -> str:
    """The id of a stream's first chunk; "" if it has none."""
    found = _ID.search(head)
    return found[1].decode("utf-8", "replace") if found else ""


def prefilled(call: Call, text: str) -> Call:
    """The call with `text` as the beginning of the assistant's answer (vLLM's continue_final_message).

    Raises ValueError if `messages` is not a list.
    """
    turns = memoryview(call.slices().get("messages", b""))
    if bytes(turns[:1]) != b"[":
        raise ValueError("the request body has no list `messages`")
    message = orjson.dumps({"role": "assistant", "content": text})
    comma = b"" if _EMPTY_LIST.match(turns) else b","
    return call.changed({
        "messages": (turns[:-1], comma, message, b"]"),
        "add_generation_prompt": b"false",
        "continue_final_message": b"true",
    })  # fmt: skip


class Splicer:
    """Reads the second stream and returns the events that the client still lacks, under the first stream's id."""

    def __init__(self, stream_id: str, text: str, *, align: bool, asked_usage: bool) -> None:
        """text: the part that the client has. align: the second stream repeats it from the start. asked_usage: the
        client wants the usage chunk."""
        self._pieces = [text]  # joined only on access: a stream has thousands
        self.length = len(text)
        """Characters of `text`."""
        self.error: str | None = None
        self.usage: Usage | None = None
        self.finished = False
        self.complete = False
        self._id = stream_id
        self._first = text
        self._at = 0 if align else len(text)  # characters that the second stream has given, or has been given
        self._asked_usage = asked_usage
        self._splitter = Splitter()

    @property
    def text(self) -> str:
        """The text that the client has once it has received everything that feed() returned."""
        return "".join(self._pieces)

    def feed(self, data: bytes) -> bytes:
        """Raises Mismatch. An event that cannot be read is skipped."""
        out = []
        try:
            block = self._splitter.feed(data)
        except ValueError as error:
            raise Mismatch(str(error)) from error
        for event in events(block):
            if event.data == b"[DONE]":
                self.complete = True
                break
            chunk = parse_object(event.data)
            if chunk is not None:
                out.append(self._chunk(chunk))
        return b"".join(out)

    def end(self) -> bytes:
        """The closing [DONE]. Raises Mismatch if the second stream did not finish either."""
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
        if finish and self._at < self.length:
            raise Mismatch("the second answer is shorter than the text already sent")
        self.finished = self.finished or bool(finish)
        if not new and not finish:
            return b""
        choice["delta"] = {"content": new} if new else {}
        return self._event(chunk)

    def _join(self, text: str) -> str:
        """The part of `text` that the client does not have yet."""
        repeated = text[: max(0, len(self._first) - self._at)]
        if repeated and not self._first.startswith(repeated, self._at):
            raise Mismatch("the second answer differs from the text already sent")
        self._at += len(text)
        new = text[len(repeated) :]
        if new:
            self._pieces.append(new)
            self.length += len(new)
        return new

    def _event(self, chunk: dict[str, Any]) -> bytes:
        if self._id:
            chunk["id"] = self._id
        return b"data: " + orjson.dumps(chunk) + b"\n\n"


def _choice_of(chunk: dict[str, Any]) -> dict[str, Any] | None:
    choices = chunk.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else None


def _content_of(choice: dict[str, Any]) -> str:
    return as_text(as_object(choice.get("delta")).get("content"))
