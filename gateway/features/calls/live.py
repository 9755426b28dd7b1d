"""The live tail of the list of calls: new calls as server-sent events, for at most MOST readers at a time.

The store is read only while somebody looks. A call is stored when its scorers are done, so that calls do not come in
the order of their times: each reading looks back by LOOKBACK_S, and leaves out what was sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

from gateway.features.calls.rows.calls import CallFilter, CallPage
from gateway.store.query import Found

MOST = 20
EVERY_S = 2.0
LASTS_S = 300.0
"""Duration after which the stream ends; a browser opens it again."""
LOOKBACK_S = 60.0
_MOST_CALLS = 100
_NOTHING = b": nothing new\n\n"


@dataclass(slots=True)
class LiveTails:
    """The tails of one process."""

    open: int = 0

    @property
    def full(self) -> bool:
        return self.open >= MOST


@dataclass(frozen=True, slots=True)
class LiveTail:
    """The calls that one reader follows."""

    filter: CallFilter
    read: Callable[[CallFilter], Awaitable[CallPage]]
    shown: Callable[[Found], str]
    """Renders a call as a row of the list."""
    permitted: Callable[[], Awaitable[bool]]
    """Tells whether the reader is still there, and may still read."""
    clock: Callable[[], float]
    """Unix seconds."""
    every_s: float = EVERY_S
    lasts_s: float = LASTS_S


async def events(tails: LiveTails, tail: LiveTail) -> AsyncIterator[bytes]:
    """Yields events with the rows of calls that arrive. Counts itself among the open tails."""
    tails.open += 1
    try:
        ends, sent = time.monotonic() + tail.lasts_s, set[str]()
        yield b"retry: 3000\n\n"
        while time.monotonic() < ends and await tail.permitted():
            since = max(tail.filter.since or 0.0, tail.clock() - LOOKBACK_S)
            page = await tail.read(replace(tail.filter, since=since, limit=_MOST_CALLS))
            fresh = [call for call in page.calls if call["id"] not in sent]
            for call in reversed(fresh):
                yield event_of(tail.shown(call))
            sent |= {call["id"] for call in fresh}
            if not fresh:
                yield _NOTHING
            await asyncio.sleep(tail.every_s)
    finally:
        tails.open -= 1


def event_of(html: str) -> bytes:
    """A server-sent event; its data may have several lines."""
    return b"event: call\n" + b"".join(b"data: " + line.encode() + b"\n" for line in html.splitlines()) + b"\n"
