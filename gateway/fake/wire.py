"""The steps of an answer on the wire: bytes, pauses, and stops; and the request that it answers.

Pure: faults.py chooses the steps of each fault, and connection.py writes them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from gateway.fake.answers import CUT, HOLD, Delay, Delta, Event, FakeAnswer


class NEVER:
    """Sends nothing more until one side closes."""


class RESET:
    """Resets the connection here."""


Step = bytes | Delay | type[HOLD] | type[CUT] | type[NEVER] | type[RESET]

LAST_CHUNK = b"0\r\n\r\n"
_REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass(slots=True, eq=False)
class Received:
    """One request, exactly as received."""

    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]  # names in lower case, in order
    serial: int  # 1 for the first request of this upstream
    connection: int  # the number of its TCP connection, from 1
    body: bytes = field(default=b"", repr=False)
    cancelled: bool = False  # the client closed the connection before the answer was complete
    done: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    """An event that is set once the answer is complete, cut or cancelled."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def probe(self) -> bool:
        """Whether it asks for health or load: such requests use up no scripted answer and no one-shot fault."""
        return self.method == "GET" and self.path in {"/health", "/metrics"}

    def header(self, name: str) -> str | None:
        """The first header of that name, in any case; None if there is none."""
        return next((value for key, value in self.headers if key == name.lower()), None)


def head(received: Received, answer: FakeAnswer, more: str = "") -> bytes:
    """The status line and the headers. more: further header lines, each with its CRLF."""
    reason = _REASONS.get(answer.status, "Odd")
    framing = "transfer-encoding: chunked" if answer.stream else f"content-length: {len(answer.body)}"
    cache = "cache-control: no-cache\r\n" if answer.stream else ""
    headers = answer.headers
    if not any(name.lower() == "x-request-id" for name, _ in headers):
        headers = (("x-request-id", f"req-fake-{received.serial}"), *headers)
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    return (
        f"HTTP/1.1 {answer.status} {reason}\r\ncontent-type: {answer.content_type}\r\n{framing}\r\n"
        f"{cache}{lines}{more}\r\n"
    ).encode("latin-1")


def chunk(data: bytes) -> bytes:
    if not data:
        return b""  # a chunk of no bytes would end the body
    return b"%x\r\n%b\r\n" % (len(data), data)


def framed(events: Iterable[Event]) -> Iterator[Step]:
    for event in events:
        yield chunk(event) if isinstance(event, bytes) else event


def correct_steps(received: Received, answer: FakeAnswer) -> Iterator[Step]:
    if answer.stream:
        yield head(received, answer)
        yield from framed(answer.events)
        yield LAST_CHUNK
    elif CUT in answer.pauses:
        yield from answer.pauses[: answer.pauses.index(CUT)]
        yield from halved(received, answer, CUT)
    else:
        yield from answer.pauses
        yield head(received, answer) + answer.body


def halved(received: Received, answer: FakeAnswer, between: Step) -> Iterator[Step]:
    """A plain answer with a step between the halves of its body."""
    middle = len(answer.body) // 2
    yield head(received, answer) + answer.body[:middle]
    yield between
    yield answer.body[middle:]


def _index_after(events: Sequence[Event], deltas: int) -> int:
    """The index of content delta number `deltas` + 1; past the last delta if there are fewer."""
    indexes = [i for i, event in enumerate(events) if isinstance(event, Delta)]
    if deltas < len(indexes):
        return indexes[deltas]
    return indexes[-1] + 1 if indexes else len(events)


def interrupted(
    received: Received, answer: FakeAnswer, deltas: int, *steps: Step, rest: bool = False
) -> Iterator[Step]:
    """A stream with these steps after n deltas. rest: the rest of the stream follows."""
    index = _index_after(answer.events, deltas)
    yield head(received, answer)
    yield from framed(answer.events[:index])
    yield from steps
    if rest:
        yield from framed(answer.events[index:])
        yield LAST_CHUNK
