"""Notices that are sent from memory while the store takes no writes: outages and what is critical, and nothing else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from gateway.core.errors import StreamDown
from gateway.core.notice import Notice, Priority, Subject
from gateway.stream.shared_state import SharedState

log = logging.getLogger(__name__)

_CLAIM_S = 6 * 3_600


class OutageReceiver(Protocol):
    """A receiver of notices that are not stored."""

    @property
    def on(self) -> Sequence[Subject]:
        """Subjects of the notices that it gets."""

    async def send_notices(self, id: str, notices: Sequence[Notice], at: float) -> str | None:
        """One attempt. Returns None if it was accepted, else what went wrong."""


class UnstoredNotices:
    """Sends each notice once to each receiver, again at the next look where it was not accepted.

    The consumer that claims a notice first on the stream server sends it. While that is away too, each consumer does,
    under the same id, by which receivers tell doubles.
    """

    def __init__(self, state: SharedState, receivers: Mapping[str, OutageReceiver]) -> None:
        self._state, self._receivers = state, receivers
        self._accepted: dict[tuple[str, str], Notice] = {}
        self._claims: set[str] = set()

    async def send(self, notices: Iterable[Notice], now: float) -> None:
        """Sends those that do not wait for anything."""
        urgent = [notice for notice in notices if notice.priority is Priority.AT_ONCE]
        sent = ((n, notice) for n, r in self._receivers.items() for notice in urgent if notice.subject in r.on)
        await asyncio.gather(
            *(self._send(n, notice, now) for n, notice in sent if (n, notice.id) not in self._accepted)
        )

    async def _send(self, name: str, notice: Notice, now: float) -> None:
        if not await self._claim(f"notice:{name}:{_cause(notice)}"):
            return
        error = await self._receivers[name].send_notices(notice.id, [notice], now)
        if error is None:
            self._accepted[name, notice.id] = notice
        else:
            log.error("a notice was not accepted while the store takes no writes; it is sent again: %s", error)

    async def _claim(self, name: str) -> bool:
        """Whether this consumer is the first one to report it. Without the stream server, each of them is."""
        if name not in self._claims:
            try:
                if not await self._state.claim(name, _CLAIM_S):
                    return False
            except StreamDown:
                return True
            self._claims.add(name)
        return True

    async def end(self) -> list[tuple[str, Notice]]:
        """Ends the outage. Returns the notices that were accepted, with their receivers."""
        accepted = [(name, notice) for (name, _), notice in self._accepted.items()]
        self._accepted.clear()
        claims, self._claims = self._claims, set()
        for name in claims:
            try:
                await self._state.release_claim(name)
            except StreamDown:  # it expires
                log.debug("a claim of a notice ends by itself: %s", name)
        return accepted


def _cause(notice: Notice) -> str:
    """The id without the time at which this consumer saw an outage begin, which others saw at another."""
    return notice.id.rpartition(":")[0] if notice.subject == "store" else notice.id
