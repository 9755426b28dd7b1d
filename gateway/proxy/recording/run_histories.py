"""Remembers the newest request of each run that this process has appended, so that the next one is appended as a delta.

A base must be where the consumer finds it: in the stream before the delta, or in the store. Therefore only this
process's own records are bases, as a process's records are in one stream in order; none after an append that failed;
none that is older than BASE_S, as retention keeps records that are younger than an hour; and none once entries were
lost (`heed`). Then the whole request is appended again.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from gateway.core.exchange import Exchange, Fields
from gateway.core.request_delta import SMALL_BYTES, RequestOutline, as_delta

BASE_S = 1_800.0
"""Seconds after which a request is not used as a base any more."""
MOST_BYTES = 8_000_000
"""Memory of a process for requests; the runs that were quiet for longest are forgotten."""


class _Appended(NamedTuple):
    outline: RequestOutline
    at: float


class RunHistories:
    def __init__(self, most_bytes: int = MOST_BYTES, pace: Callable[[], float] = time.monotonic) -> None:
        """pace: monotonic seconds."""
        self._most_bytes = most_bytes
        self._pace = pace
        self._newest: OrderedDict[tuple[str, str], _Appended] = OrderedDict()
        self._bytes = 0
        self._losses: int | None = None

    def fields(self, call: Exchange) -> Fields:
        """The stream entry of a call that is about to be appended."""
        fields = call.to_fields()
        if call.run is None or call.role != "served" or len(call.request) < SMALL_BYTES:
            return fields
        mine = RequestOutline.of(call.id, call.request)
        key, now = (call.caller, call.run), self._pace()
        before = self._newest.pop(key, None)
        if before is not None:
            self._bytes -= before.outline.kept_bytes
        self._newest[key] = _Appended(mine, now)
        self._bytes += mine.kept_bytes
        while self._bytes > self._most_bytes:
            self._bytes -= self._newest.popitem(last=False)[1].outline.kept_bytes
        if before is None or now - before.at > BASE_S:
            return fields
        return as_delta(fields, mine, before.outline)

    def forget(self) -> None:
        """Forgets every request: an append failed, and the content of the stream is unknown."""
        self._newest.clear()
        self._bytes = 0

    def heed(self, losses: int) -> None:
        """Forgets every request if the number of entries that were lost from the stream has changed."""
        if self._losses is not None and losses != self._losses:
            self.forget()
        self._losses = losses
