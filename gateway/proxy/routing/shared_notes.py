"""Facts that the processes of a gateway share by a digest: kept in each of them, and for a time on the stream server.

A fact that the stream server does not have within 50 ms is unknown.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import NamedTuple

from gateway.core.errors import StreamDown
from gateway.runtime.tasks import Tasks
from gateway.stream.shared_state import SharedState

log = logging.getLogger(__name__)

_WAIT_S = 0.05


class NoteKind(NamedTuple):
    prefix: str
    """Begins the names on the stream server."""
    about: str
    """The kind of fact, for logs."""
    keep_s: int


class SharedNotes:
    """Facts of one kind, each by a digest."""

    def __init__(self, kind: NoteKind, store: SharedState | None, tasks: Tasks, most: int) -> None:
        """store: None shares nothing with other processes. most: facts of this process; the oldest are forgotten."""
        self._kind, self._store, self._tasks, self._most = kind, store, tasks, most
        self._known: OrderedDict[str, str] = OrderedDict()

    def note(self, digest: str, fact: str) -> None:
        self._keep(digest, fact)
        if self._store is not None:
            self._tasks.start(self._share(self._store, digest, fact), self._kind.about)

    async def find(self, digest: str) -> str | None:
        """Finds a fact by its digest; None if it is unknown."""
        fact = self._known.get(digest) or await self._recall(digest)
        if fact is not None:
            self._keep(digest, fact)
        return fact

    def _keep(self, digest: str, fact: str) -> None:
        self._known[digest] = fact
        self._known.move_to_end(digest)
        if len(self._known) > self._most:
            self._known.popitem(last=False)

    async def _share(self, store: SharedState, digest: str, fact: str) -> None:
        try:
            await store.remember(f"{self._kind.prefix}:{digest}", fact, self._kind.keep_s)
        except StreamDown as error:
            log.info("%s is not shared: %s", self._kind.about, error)

    async def _recall(self, digest: str) -> str | None:
        if self._store is None:
            return None
        try:
            async with asyncio.timeout(_WAIT_S):
                return await self._store.recall(f"{self._kind.prefix}:{digest}")
        except (StreamDown, TimeoutError):
            return None
