"""Base classes of the readers of event streams: complete events from bytes that arrive in any split.

A passing reader parses an event only if it contains a marker; a translating reader if its form is not the previous one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from typing import Any, NamedTuple, Protocol

from gateway.core.exchange import Usage
from gateway.core.sse import Event, Splitter, event_count, events, parse
from gateway.proxy.dialects import lenient_json
from gateway.proxy.dialects.types import Cut, ErrorSource, OversizedEvent

EVENT_ENDS = (b"\n\n", b"\r\n\r\n")


_MAX_KEPT_BYTES = 16 << 20  # of one stream, kept so that another target can continue it: about 60 000 tokens


class EventReader:
    """Parses every event. Subclasses implement `_part`: the meaning of an event, and the bytes that the client gets for
    it.

    Returns nothing after the event that ends the stream, nor after an error event: no [DONE] follows an error.
    """

    __slots__ = ("_ended", "_splitter", "complete", "error", "error_source", "finished", "first_content", "usage")

    def __init__(self) -> None:
        self.first_content = False
        self.finished = False
        self.complete = False
        self.error: str | None = None
        self.error_source: ErrorSource = "target"
        self.usage: Usage | None = None
        self._splitter = Splitter()
        self._ended = False

    @property
    def text(self) -> str:
        return ""

    @property
    def continuable(self) -> bool:
        return False

    def feed(self, data: bytes) -> bytes:
        if self.complete:
            return b""
        try:
            block = self._splitter.feed(data)
        except ValueError:
            raise OversizedEvent(f"sent an event larger than {self._splitter.limit_bytes >> 20} MB") from None
        return self._block(block) if block else b""

    def passes(self, data: bytes) -> int:
        return 0

    def end(self) -> bytes:
        """A last event that lacks only its blank line counts as complete."""
        if self.complete or self._ended:
            return b""
        self._ended = True
        return self._closed(self._tail(self._splitter.tail))

    def _closed(self, last: bytes) -> bytes:
        if self.complete:
            return last
        if not self.finished:
            raise Cut("the stream ended without a finish")
        self.complete = True
        return last + self._owed()

    def _block(self, block: bytes) -> bytes:
        out = []
        for event in events(block):
            out.append(self._event(event))
            if self.complete:
                break
        return b"".join(out)

    def _tail(self, tail: bytes) -> bytes:
        """Drops an incomplete event: in the client's parser it would absorb the next event."""
        event = parse(tail)
        if event.data != b"[DONE]" and _object(event.data) is None:
            return b""
        return self._event(Event(tail + _missing_line_breaks(tail), event.data, event.name))

    def _event(self, event: Event) -> bytes:
        if event.data == b"[DONE]":
            self.finished = self.complete = True
            return self._done(event)
        part = _object(event.data)
        if part is None:
            if event.name == b"error":
                self.fail(event.data.decode("utf-8", "replace"))
            return self._unread(event)
        try:
            return self._part(part, event)
        except (AttributeError, KeyError, TypeError, ValueError):
            return self._unread(event)  # an event of an unknown shape is ignored; the others still count

    def fail(self, error: Any) -> None:
        """error: the error of an event, in any vendor's format."""
        self.error = error_message(error)
        if is_request_error(error):
            self.error_source = "request"
        self.complete = True

    def _part(self, part: dict[str, Any], event: Event) -> bytes:
        raise NotImplementedError

    def _done(self, event: Event) -> bytes:
        return b""

    def _unread(self, event: Event) -> bytes:
        """The bytes for a comment, for data that is not JSON, and for an event of unknown shape."""
        return b""

    def _owed(self) -> bytes:
        return b""


class PassingReader(EventReader):
    """Passes every event through unchanged. Usually an event costs no more than one search for markers."""

    __slots__ = ("_each", "_kept", "_quiet", "_room")

    def __init__(self, *, each: bool = False, keep: bool = False) -> None:
        """each: every event must be parsed. keep: keep the returned bytes in `_kept`."""
        super().__init__()
        self._each = each
        self._quiet = False  # content has arrived and nothing is buffered: complete unmarked events may pass
        self._kept: list[bytes] | None = [] if keep else None
        self._room = _MAX_KEPT_BYTES

    def feed(self, data: bytes) -> bytes:
        if self.passes(data):
            return data
        out = super().feed(data)
        self._quiet = self.first_content and not (self._each or self.complete or self._splitter.holds)
        self._keep(out)
        return out

    def passes(self, data: bytes) -> int:
        if self._quiet and (data[-2:] == b"\n\n" or data[-4:] == b"\r\n\r\n") and not self._marked(data):
            self._keep(data)
            return event_count(data)
        return 0

    def _keep(self, out: bytes) -> None:
        """Keeps it, until the answer exceeds the limit; then everything kept is dropped."""
        if self._kept is not None and out:
            self._room -= len(out)
            self._kept.append(out)
            if self._room < 0:
                self._kept = None

    def _block(self, block: bytes) -> bytes:
        if self._passes(block):
            return block
        out, done = [], 0
        for event in events(block):
            done += len(event.raw)
            out.append(event.raw if self._passes(event.raw) else self._event(event))
            if self.complete:
                break
        else:
            out.append(block[done:])  # superfluous blank lines
        return b"".join(out)

    def _tail(self, tail: bytes) -> bytes:
        return super()._tail(tail) or _blank(tail)

    def _passes(self, block: bytes) -> bool:
        return self.first_content and not self._each and not self._marked(block)

    def _marked(self, block: bytes) -> bool:
        """Whether these complete events contain a marker, so that they must be read even after the first content."""
        raise NotImplementedError

    def _part(self, part: dict[str, Any], event: Event) -> bytes:
        return event.raw if self._read(part) else _blank(event.raw)

    def _read(self, part: dict[str, Any]) -> bool:
        """Updates the reader's state from one event; False if the client must not get the event."""
        raise NotImplementedError

    def _done(self, event: Event) -> bytes:
        return event.raw

    def _unread(self, event: Event) -> bytes:
        return event.raw


_SPECIAL = re.compile(rb'[\x00-\x1f"\\]')


class EventForm(NamedTuple):
    """The bytes around the text of a stream's events, as the upstream sends them and as the client gets them."""

    before: bytes
    after: bytes
    inside: slice
    client_before: bytes
    client_after: bytes


class TranslatingReader(EventReader):
    """Translates events into another API's. Consecutive events usually differ in nothing but their text, and so do
    their translations: an event of the known form is translated by its text alone, without being parsed."""

    __slots__ = ("_form", "_piece")

    def __init__(self) -> None:
        super().__init__()
        self._form: EventForm | None = None
        self._piece: str | None = None
        """The text of the event that was parsed last; None if it was more than a piece of text."""

    def feed(self, data: bytes) -> bytes:
        self._forget_form()
        out = super().feed(data)
        if self._piece is not None and not self._splitter.holds:
            self._form = form_of(data, out, self._piece)
        return out

    def _forget_form(self) -> None:
        self._form = self._piece = None

    def translated(self, data: bytes) -> bytes:
        """The client's event for one event of the known form, which then counts as fed; b"" if it must be fed."""
        form = self._form
        if form is None or not (data.startswith(form.before) and data.endswith(form.after)):
            return b""
        text = data[form.inside]
        if not text or _SPECIAL.search(text) is not None:
            return b""
        if self._keeps or not text.isascii():
            try:
                self._keep_piece(text.decode())
            except UnicodeDecodeError:
                return b""
        return form.client_before + text + form.client_after

    @property
    def _keeps(self) -> bool:
        """Whether `_keep_piece` does something."""
        return False

    def _keep_piece(self, text: str) -> None:
        """Keeps a piece of the answer that was translated by its form."""

    def _event(self, event: Event) -> bytes:
        self._piece = None
        return super()._event(event)


def form_of(event: bytes, translated: bytes, text: str) -> EventForm | None:
    """The form of an event with this text; None if the position of the text in both is not clear."""
    if event_count(event) != 1 or event_count(translated) != 1 or not event.endswith(b"\n\n") or b"\\" in event:
        return None
    quoted = b'"%b"' % text.encode("utf-8", "surrogatepass")
    if event.count(quoted) != 1 or translated.count(quoted) != 1 or _SPECIAL.search(quoted[1:-1]) is not None:
        return None
    before, _, after = event.partition(quoted)
    client_before, _, client_after = translated.partition(quoted)
    inside = slice(len(before) + 1, -len(after) - 1)
    return EventForm(before + b'"', b'"' + after, inside, client_before + b'"', b'"' + client_after)


class Tail(Protocol):
    """The end of an answer, from which its usage is read."""

    def add(self, data: bytes) -> None: ...

    def usage(self) -> Usage | None: ...


class RawReader:
    """Streams that are not conversations: bytes pass unchanged; finished when the upstream ends the body."""

    __slots__ = (
        "_tail",
        "complete",
        "continuable",
        "error",
        "error_source",
        "finished",
        "first_content",
        "text",
        "usage",
    )

    def __init__(self, tail: Tail) -> None:
        self._tail = tail
        self.first_content = False
        self.finished = False
        self.complete = False
        self.error: str | None = None
        self.error_source: ErrorSource = "target"
        self.usage: Usage | None = None
        self.text = ""
        self.continuable = False

    def feed(self, data: bytes) -> bytes:
        self.first_content = True
        self._tail.add(data)
        return data

    def passes(self, data: bytes) -> int:
        if not self.first_content:
            return 0
        self._tail.add(data)
        return event_count(data)

    def end(self) -> bytes:
        self.finished = self.complete = True
        self.usage = self._tail.usage()
        return b""


def says_something(part: Mapping[str, Any], structure: Set[str]) -> bool:
    """Whether an event of an unknown kind has content: a text, list or object that is not empty, outside the members of
    its structure. Numbers count places and sizes."""
    return any(isinstance(v, str | list | dict) and v and name not in structure for name, v in part.items())


def error_message(error: Any) -> str:
    """The text of an error in any provider's format."""
    return str(error.get("message") or error) if isinstance(error, dict) else str(error)


def error_in(status: int, body: bytes) -> Any:
    """The error in the body of a reply: its member `error`, the whole object, or the beginning of its text."""
    try:
        error = lenient_json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")[:1000] or f"HTTP {status}"
    return error.get("error") or error if isinstance(error, dict) else error


_NOT_OF_THE_REQUEST = frozenset({401, 408, 429})
_REQUEST_CODES = frozenset(
    {"context_length_exceeded", "exceed_context_size_error", "string_above_max_length"}
    | {"content_policy_violation", "content_filter", "moderation_blocked", "bio_policy"}
)


def is_request_error(error: Any) -> bool:
    """Whether an error, in any vendor's format, says that the client's request is at fault.

    By its code: a 4xx number (vLLM) or a name (OpenAI); then by its type.
    """
    if not isinstance(error, dict):
        return False
    code = error.get("code")
    status = int(code) if isinstance(code, str) and code.isdecimal() and len(code) == 3 else code
    if isinstance(status, int):
        return 400 <= status < 500 and status not in _NOT_OF_THE_REQUEST
    if isinstance(code, str) and code:
        return code in _REQUEST_CODES or (code.startswith("invalid_") and code != "invalid_api_key")
    return error.get("type") == "invalid_request_error"


def _object(data: bytes) -> dict[str, Any] | None:
    if data[:1] != b"{":
        return None
    try:
        value = lenient_json.loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _missing_line_breaks(tail: bytes) -> bytes:
    """The line breaks that a last event lacks, in the kind that it uses."""
    if tail.endswith((b"\r\r", b"\n\n", b"\r\n\r\n")):
        return b""
    kind = b"\r\n" if b"\r\n" in tail else b"\r" if b"\r" in tail else b"\n"
    return kind if tail.endswith((b"\r", b"\n")) else kind + kind


def _blank(raw: bytes) -> bytes:
    """The line breaks at the start of an event: they belong to the previous one."""
    return raw[: len(raw) - len(raw.lstrip(b"\r\n"))]
