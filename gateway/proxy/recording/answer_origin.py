"""Reads from an answer's bytes which model and which configuration of a server gave it: `model`, `system_fingerprint`.

The recorder does so for each record that has its answer, off the request's path. Where no content is recorded, the
answer is read at the settlement, before it is left out. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from msgspec import Raw, Struct
from msgspec.json import Decoder

from gateway.core.exchange import Exchange

_MODEL, _FINGERPRINT = b'"model"', b'"system_fingerprint"'
_LONGEST = 256  # characters of a name
_TRIES = 4  # events of a stream that are parsed: all chunks of a chat have both members, and some have null in them


class AnswerOrigin(NamedTuple):
    model: str | None = None
    """The model that the answer names."""
    fingerprint: str | None = None
    """The answer's `system_fingerprint`."""


_ABSENT = Raw(b"null")


class _Named(Struct):
    model: Any = None
    system_fingerprint: Any = None


class _Event(_Named):
    """An event of any API: a chunk has the members itself; those of Responses and Messages have them in an object."""

    response: Raw = _ABSENT
    message: Raw = _ABSENT


_ANSWER = Decoder(_Named)
_EVENT = Decoder(_Event)


def note_origin(exchange: Exchange, response: bytes) -> None:
    """Fills the two fields. response: the raw bytes, which the exchange itself may not hold."""
    origin = origin_of(response, stream=exchange.stream, spliced=exchange.spliced)
    exchange.model_returned, exchange.fingerprint = origin


def origin_of(response: bytes, *, stream: bool, spliced: bool = False) -> AnswerOrigin:
    """The origin of an answer; of a stream that two targets gave, that of its end.

    Anything that is not the name that it should be is left out: bytes that were cut, an error, another type.
    """
    if not stream or response[:1] == b"{":  # a refusal before the stream began is one object
        return _read(response, _ANSWER)
    answered = next((origin for origin in _from_end(response, _MODEL) if origin.model), AnswerOrigin())
    if answered.fingerprint is None and not spliced:
        marked = (origin.fingerprint for origin in _from_end(response, _FINGERPRINT) if origin.fingerprint)
        answered = answered._replace(fingerprint=next(marked, None))
    return answered


def _from_end(events: bytes, marker: bytes) -> Iterator[AnswerOrigin]:
    """The origins that the last complete events with this marker name."""
    at = len(events)
    for _ in range(_TRIES):
        at = events.rfind(marker, 0, at)
        if at < 0:
            return
        begin = events.rfind(b"\n", 0, at) + 1
        yield _read(events[begin : events.find(b"\n", at)].removeprefix(b"data:"), _EVENT)
        at = begin


def _read(body: bytes, decoder: Decoder[Any]) -> AnswerOrigin:
    try:
        part = decoder.decode(body)
        if decoder is _EVENT and part.model is None:
            inner = part.message if part.response is _ABSENT else part.response
            part = part if inner is _ABSENT else _ANSWER.decode(inner)
    except (ValueError, RecursionError):
        return AnswerOrigin()
    return AnswerOrigin(_name(part.model), _name(part.system_fingerprint))


def _name(value: Any) -> str | None:
    """Upstreams choose these names, so any value may come."""
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST and value.isprintable() else None
