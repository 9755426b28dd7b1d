"""What all readers of event streams share: whole events out of arriving bytes, in any split of them.

A reader that passes bytes on parses an event only where a marker says that it must; one that translates parses all.
"""

from __future__ import annotations

from typing import Any

from gateway.core.exchange import Usage
from gateway.core.sse import Event, Splitter, events, parse
from gateway.proxy.dialects import lenient_json
from gateway.proxy.dialects.types import Cut

_ENDS = (b"\n\n", b"\r\n\r\n")


_MOST_KEPT_BYTES = 16 << 20  # of one stream, so that another target could continue it: about 60 000 tokens


class EventReader:
    """Reads every event. A dialect says in `_part` what one means, and gives what the client gets for it.

    After the event that ends the stream, or an error event, nothing more is given: no [DONE] follows an error.
    """

    __slots__ = ("_ended", "_splitter", "complete", "error", "finished", "first_content", "usage")

    def __init__(self) -> None:
        self.first_content = False
        self.finished = False
        self.complete = False
        self.error: str | None = None
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
        except ValueError as error:
            raise Cut(str(error)) from None
        return self._block(block) if block else b""

    def passes(self, data: bytes) -> bool:
        return False

    def end(self) -> bytes:
        """Said once: a second call owes nothing more. A last event that lacks only its blank line counts."""
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
        """Half an event is never given: it would swallow whatever follows it."""
        event = parse(tail)
        if event.data != b"[DONE]" and _object(event.data) is None:
            return b""
        return self._event(Event(tail + _lacking(tail), event.data, event.name))

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
            return self._unread(event)  # an event of an unknown shape says nothing; the others still do

    def fail(self, message: str) -> None:
        self.error = message
        self.complete = True

    def _part(self, part: dict[str, Any], event: Event) -> bytes:
        raise NotImplementedError

    def _done(self, event: Event) -> bytes:
        return b""

    def _unread(self, event: Event) -> bytes:
        """A comment, what is not JSON, or of no known shape."""
        return b""

    def _owed(self) -> bytes:
        return b""


class PassingReader(EventReader):
    """Gives every event on as it came. In the common case one look for markers is all that an event costs."""

    __slots__ = ("_each", "_kept", "_quiet", "_room")

    def __init__(self, *, each: bool = False, keep: bool = False) -> None:
        """each: every event must be parsed. keep: hold what was given, for `_kept`."""
        super().__init__()
        self._each = each
        self._quiet = False  # content has come and nothing is held: whole unmarked events may pass
        self._kept: list[bytes] | None = [] if keep else None
        self._room = _MOST_KEPT_BYTES

    def feed(self, data: bytes) -> bytes:
        if self.passes(data):
            return data
        out = super().feed(data)
        self._quiet = self.first_content and not (self._each or self.complete or self._splitter.tail)
        self._keep(out)
        return out

    def passes(self, data: bytes) -> bool:
        if self._quiet and data.endswith(_ENDS) and not self._marked(data):
            if self._kept is not None:
                self._keep(data)
            return True
        return False

    def _keep(self, out: bytes) -> None:
        """Holds it; nothing any more once the answer has become too long to be worth its memory."""
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
            out.append(block[done:])  # a blank line too many
        return b"".join(out)

    def _tail(self, tail: bytes) -> bytes:
        return super()._tail(tail) or _blank(tail)

    def _passes(self, block: bytes) -> bool:
        return self.first_content and not self._each and not self._marked(block)

    def _marked(self, block: bytes) -> bool:
        """Whether something in these whole events must be read, once content has come."""
        raise NotImplementedError

    def _part(self, part: dict[str, Any], event: Event) -> bytes:
        return event.raw if self._read(part) else _blank(event.raw)

    def _read(self, part: dict[str, Any]) -> bool:
        """Learns from one event; False: the client must not get it."""
        raise NotImplementedError

    def _done(self, event: Event) -> bytes:
        return event.raw

    def _unread(self, event: Event) -> bytes:
        return event.raw


class RawReader:
    """Bytes that are no conversation: passed as they come, and finished when the upstream ended cleanly."""

    __slots__ = ("complete", "continuable", "error", "finished", "first_content", "text", "usage")

    def __init__(self) -> None:
        self.first_content = False
        self.finished = False
        self.complete = False
        self.error: str | None = None
        self.usage: Usage | None = None
        self.text = ""
        self.continuable = False

    def feed(self, data: bytes) -> bytes:
        self.first_content = True
        return data

    def passes(self, data: bytes) -> bool:
        return self.first_content

    def end(self) -> bytes:
        self.finished = self.complete = True
        return b""


def message_of(error: Any) -> str:
    """The words of an error in any vendor's shape."""
    return str(error.get("message") or error) if isinstance(error, dict) else str(error)


def _object(data: bytes) -> dict[str, Any] | None:
    if data[:1] != b"{":
        return None
    try:
        value = lenient_json.loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _lacking(tail: bytes) -> bytes:
    """The line ends that make an event of a last one that lacks them, in the tail's own kind."""
    if tail.endswith((b"\r\r", b"\n\n", b"\r\n\r\n")):
        return b""
    kind = b"\r\n" if b"\r\n" in tail else b"\r" if b"\r" in tail else b"\n"
    return kind if tail.endswith((b"\r", b"\n")) else kind + kind


def _blank(raw: bytes) -> bytes:
    """The line ends before an event: they belong to the one before it."""
    return raw[: len(raw) - len(raw.lstrip(b"\r\n"))]
