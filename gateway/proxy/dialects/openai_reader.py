"""Reads event streams in the formats of OpenAI's APIs, and passes every byte through."""

from __future__ import annotations

import re
from typing import Any

import orjson

from gateway.core.completion import usage_of
from gateway.core.sse import Event, event_count, events
from gateway.proxy.dialects.event_reader import (
    EVENT_ENDS,
    PassingReader,
    error_message,
    is_request_error,
    says_something,
)
from gateway.proxy.request.call import Call

_FINISH = re.compile(rb'"finish_reason"\s*+:\s*+(?!null)')
_USAGE = re.compile(rb'"usage"\s*+:\s*+\{')
_DONE = b"data: [DONE]\n\n"
_TEXT = b'content":"'  # also of reasoning_content
_QUOTE = 34  # '"' as a number: a byte is found in a tenth of the time of a part of one byte
_FormTexts = tuple[bytes, list[bytes], bytes]
"""The bytes before the text of each of some events, their texts, and the bytes after."""
_FORM_TRIES = 8  # to learn the form of a stream's events; some streams have no constant form


class ChatReader(PassingReader):
    """Reader of chat and completions. drops_usage: the gateway, not the client, requested the usage chunk."""

    __slots__ = (
        "_after",
        "_before",
        "_drops_usage",
        "_ended_choices",
        "_events",
        "_formed",
        "_inside",
        "_seen",
        "_text_so_far",
        "_texts",
        "_tries",
    )  # fmt: skip

    def __init__(self, call: Call, *, drops_usage: bool, keep_text: bool) -> None:
        super().__init__(each=_many(call), keep=keep_text)
        self._drops_usage = drops_usage
        self._before = self._after = b""  # what surrounds the text of this stream's events; b"" if not known
        self._inside = slice(0)  # position of the text between them
        self._events = 0  # in bytes of this form: the text between them has none, and so needs no counting
        self._texts: list[bytes] = []  # of the events in this form that came after all that is in `_kept`
        self._formed: list[tuple[int, _FormTexts]] = []  # earlier ones, each with its place in `_kept`
        self._tries = _FORM_TRIES
        self._seen: frozenset[int] = _NO_CHOICE
        self._ended_choices: frozenset[int] = _NO_CHOICE
        self._text_so_far: _TextSoFar | None = None

    @property
    def text(self) -> str:
        return "".join(self._read_text().pieces)

    @property
    def continuable(self) -> bool:
        return self._kept is not None and self._read_text().plain

    def _read_text(self) -> _TextSoFar:
        """Parsed only on access: the text of most streams is never needed."""
        if self._text_so_far is None:
            self._text_so_far = _TextSoFar()
        if self._texts:
            self._kept_texts()
        if self._kept:
            for at, (before, texts, after) in self._formed:
                self._kept[at] = before + (after + before).join(texts) + after
            self._formed.clear()
            block = b"".join(self._kept)
            self._kept.clear()
            self._text_so_far.read(block)
        return self._text_so_far

    def passes(self, data: bytes) -> int:
        """Tells whether an event differs from the previous one in its text alone, as most do. Such an event needs no
        search for markers: outside the text they have none, and the text ends at the first quotation mark."""
        if not self._quiet:
            return 0
        before, after = self._before, self._after
        kept, piece, number = self._kept, data, self._events
        if before and data.startswith(before) and data.endswith(after) and _QUOTE not in (text := data[self._inside]):
            if kept is not None:
                kept, piece = self._texts, text
        elif not data.endswith(EVENT_ENDS) or self._marked(data):
            return 0
        else:
            number = event_count(data)
            if self._texts:
                self._kept_texts()
            if self._tries:
                self._learn_form(data, number)
        if kept is not None:
            kept.append(piece)
            self._room -= len(data)
            if self._room < 0:
                self._keep_nothing()
        return number

    def _keep(self, out: bytes) -> None:
        if self._texts:
            self._kept_texts()
        super()._keep(out)
        if self._kept is None:
            self._formed.clear()

    def _kept_texts(self) -> None:
        """Keeps the texts. Events, of 200 bytes each, are rebuilt from them only if they are read."""
        texts, self._texts = self._texts, []
        if self._kept is not None:
            self._formed.append((len(self._kept), (self._before, texts, self._after)))
            self._kept.append(b"")

    def _keep_nothing(self) -> None:
        self._kept = None
        self._texts.clear()
        self._formed.clear()

    def _learn_form(self, unmarked: bytes, number: int) -> None:
        self._tries -= 1
        start = unmarked.find(_TEXT) + len(_TEXT)
        end = unmarked.find(b'"', start)
        if start >= len(_TEXT) and end >= 0:
            self._before, self._inside, self._after = (
                unmarked[:start],
                slice(start, end - len(unmarked)),
                unmarked[end:],
            )
            self._events = number

    def _marked(self, block: bytes) -> bool:
        # bytes.find: twice as fast as `in`.
        return (
            _FINISH.search(block) is not None
            or block.find(b"error") >= 0
            or block.find(b"[DONE]") >= 0
            or (block.find(b'"usage"') >= 0 and _USAGE.search(block) is not None)
        )

    def _read(self, part: dict[str, Any]) -> bool:
        if part.get("error"):
            self.fail(part["error"])
            return True
        usage = part.get("usage")
        if isinstance(usage, dict):
            self.usage = usage_of(usage) or self.usage
        choices = part.get("choices")
        if choices == [] and isinstance(usage, dict):
            return not self._drops_usage
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                self._choice(choice)
        if choices is None and not self.first_content and says_something(part, _CHUNK_HEAD):
            self.first_content = True
            self._keep_nothing()  # no other target can continue it
        return True

    def _choice(self, choice: dict[str, Any]) -> None:
        index = choice.get("index") or 0
        self._seen = _with(self._seen, index)
        if not self.first_content and _has_content(choice):
            self.first_content = True
            if self._kept is not None and not _continuable(choice):
                self._keep_nothing()
        if choice.get("finish_reason"):
            self._ended_choices = _with(self._ended_choices, index)
        self.finished = bool(self._ended_choices) and self._seen <= self._ended_choices

    def _owed(self) -> bytes:
        return _DONE


class LastChunkReader(ChatReader):
    """Streams of servers that put a member into their last chunk: where the gateway has requested the usage, the client
    does not get that chunk. The chunk before waits for it, so that the client finds the member in the same place as
    without the usage: llama.cpp's `timings`, vLLM's `system_fingerprint`.
    """

    __slots__ = ("_last", "_member")

    def __init__(self, call: Call, member: str, *, keep_text: bool) -> None:
        super().__init__(call, drops_usage=True, keep_text=keep_text)
        self._member = member
        self._last = b""  # the chunk that ended the last choice, held back

    def passes(self, data: bytes) -> int:
        return 0 if self._last else super().passes(data)

    def _marked(self, block: bytes) -> bool:
        return bool(self._last) or super()._marked(block)

    def _part(self, part: dict[str, Any], event: Event) -> bytes:
        before = self.finished
        out = super()._part(part, event)
        if self.finished and not before and out and self._member not in part:
            self._last = out
            return b""
        last, self._last = self._last, b""
        value = part.get(self._member)
        if last and not out.strip() and value is not None:
            last = _with_member(last, self._member, value)
        return last + out

    def _done(self, event: Event) -> bytes:
        return self._released() + super()._done(event)

    def _owed(self) -> bytes:
        return self._released() + super()._owed()

    def _released(self) -> bytes:
        last, self._last = self._last, b""
        return last


def _with_member(event: bytes, name: str, value: Any) -> bytes:
    """A chunk's event with a further member."""
    head, close, end = event.rpartition(b"}")
    return head + b',"%b":' % name.encode() + orjson.dumps(value) + close + end


_CHUNK_HEAD = frozenset(
    {"id", "object", "type", "model", "usage", "system_fingerprint", "service_tier", "provider", "obfuscation"}
)
"""Members of events without choices that are no content."""
_NO_CHOICE: frozenset[int] = frozenset()
_FIRST_CHOICE = frozenset({0})  # of most streams the only one: they share this set


def _with(choices: frozenset[int], index: int) -> frozenset[int]:
    if index in choices:
        return choices
    return choices | {index} if choices or index else _FIRST_CHOICE


def _many(call: Call) -> bool:
    """Reads the events of a stream with several choices: each event must be read to know which of them have ended."""
    prompt = call.fields.get("prompt")
    several = prompt is ... or (isinstance(prompt, list) and len(prompt) > 1 and not isinstance(prompt[0], int))
    return several or call.fields.get("n") not in (None, 1)


def _has_content(choice: dict[str, Any]) -> bool:
    """Whether it has content of any kind: text, reasoning, refusal, tool calls, audio, or a kind unknown here."""
    delta = choice.get("delta") or choice.get("message")
    if isinstance(delta, dict):
        return any(value for name, value in delta.items() if name != "role")
    return bool(choice.get("text"))


def _continuable(choice: dict[str, Any]) -> bool:
    """Whether all content of the first choice is text that another target could continue: no reasoning, no tool
    call."""
    delta = choice.get("delta")
    return isinstance(delta, dict) and _only_text(choice, delta)


def _only_text(choice: dict[str, Any], delta: dict[str, Any]) -> bool:
    for name in delta:
        if delta[name] and name not in ("role", "content"):
            return False
    content = delta.get("content")
    others = choice.get("index") or choice.get("logprobs") or choice.get("text")
    return not others and (content is None or isinstance(content, str))


class _TextSoFar:
    """The text that the client has. plain: it is nothing but text of choice 0."""

    __slots__ = ("pieces", "plain")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.plain = True

    def read(self, block: bytes) -> None:
        for event in events(block):
            try:
                for choice in orjson.loads(event.data).get("choices") or () if event.data[:1] == b"{" else ():
                    self.choice(choice)
            except (ValueError, AttributeError, TypeError):
                self.plain = False  # how the client interpreted it is unknown

    def choice(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta") or {}
        content = delta.get("content")
        if isinstance(content, str) and not choice.get("index"):
            self.pieces.append(content)
        self.plain = self.plain and _only_text(choice, delta)


class ResponsesReader(PassingReader):
    """The Responses API: typed events; the last one contains the complete response."""

    __slots__ = ()

    def _marked(self, block: bytes) -> bool:
        return (
            block.find(b"response.completed") >= 0
            or block.find(b"error") >= 0
            or block.find(b"response.incomplete") >= 0
            or block.find(b"response.failed") >= 0
        )

    def _read(self, part: dict[str, Any]) -> bool:
        kind = str(part.get("type"))
        if kind == "error" or part.get("error"):
            self.fail(part.get("error") or part)
        elif kind in ("response.completed", "response.incomplete", "response.failed"):
            self._end_of(part.get("response"), failed=kind == "response.failed")
        elif not self.first_content:
            self.first_content = _has_said(part)
        return True

    def _end_of(self, response: Any, *, failed: bool) -> None:
        self.finished = self.complete = True
        response = response if isinstance(response, dict) else {}
        self.usage = usage_of(response.get("usage")) or self.usage
        if failed:
            error = response.get("error") or "the response failed"
            self.error = error_message(error)
            self.error_source = "request" if is_request_error(error) else "answer"


_EVENT_HEAD = frozenset({"type", "item_id", "response", "response_id", "stream_id", "event_id", "obfuscation"})
_ITEM_HEAD = frozenset(
    {"id", "type", "status", "role", "phase", "name", "namespace", "call_id", "server_label", "container_id"}
    | {"encrypted_content"}
)
"""Members of an item or a part that has only begun."""


def _has_said(event: dict[str, Any]) -> bool:
    """Whether an event of the Responses API has content: a delta, an image, or an item that is not empty."""
    begun = [event[name] for name in ("item", "part") if isinstance(event.get(name), dict)]
    if begun:
        return any(says_something(each, _ITEM_HEAD) for each in begun)
    return says_something(event, _EVENT_HEAD)
