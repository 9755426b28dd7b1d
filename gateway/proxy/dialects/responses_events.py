"""Events of the Responses API, as far as a WebSocket must read them: the end of a response, and its content. Pure."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
"""The events that end a response."""


class _TypedEvent(Struct):
    """The only member that is read of most events."""

    type: str = ""


class _DoneItem(Struct):
    """The item of `response.output_item.done`."""

    item: Raw = Raw(b"")


class EndedResponse(Struct):
    """The members that are read of a complete response."""

    id: str = ""
    output: Raw = Raw(b"[]")
    status: str = ""

    @property
    def items(self) -> bytes:
        """Output items, separated by commas."""
        output = bytes(self.output).strip()
        return output[1:-1].strip() if output[:1] == b"[" else b""


class _LastEvent(Struct):
    """The event that ends a response."""

    response: EndedResponse = msgspec.field(default_factory=EndedResponse)


_TYPED = msgspec.json.Decoder(_TypedEvent)
_DONE_ITEM = msgspec.json.Decoder(_DoneItem)
_LAST = msgspec.json.Decoder(_LastEvent)
_RESPONSE = msgspec.json.Decoder(EndedResponse)


def kind_of(event: bytes) -> str:
    """The type of an event; "" if it has none."""
    try:
        return _TYPED.decode(event).type
    except (ValueError, RecursionError):
        return ""


def done_item(event: bytes) -> bytes:
    """The item of `response.output_item.done`; b"" if it cannot be read."""
    try:
        return bytes(_DONE_ITEM.decode(event).item)
    except (ValueError, RecursionError):
        return b""


def ended_response(event: bytes) -> EndedResponse | None:
    """The response that an event ends; None if it cannot be read."""
    try:
        return _LAST.decode(event).response
    except (ValueError, RecursionError):
        return None


def read_response(body: bytes) -> EndedResponse | None:
    """A response that came as one JSON object; None if it is none."""
    try:
        return _RESPONSE.decode(body)
    except (ValueError, RecursionError):
        return None
