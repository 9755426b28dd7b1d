"""Publishes the store's keys, teams and organizations to the stream server, from which every gateway reads them.

The published data always come from the store, so any console on it may publish. A console that starts, or finds that
the server has lost its data, publishes the missing part. Keys that another store has published are left alone: a
console that was started on the wrong store must not replace the keys of a running fleet.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from gateway.console.errors import AdminError
from gateway.console.store import ConsoleStore
from gateway.core.errors import StreamDown
from gateway.store.directory import DirectoryState, all_rows, begin_epoch, changed_since, count_rows, directory_state_of
from gateway.stream.directory import DirectoryHead, DirectoryStream

log = logging.getLogger(__name__)

EVERY_S = 0.5
_MANY = 5_000  # more changes than that are published as a whole
_TOLD_S = 3_600.0  # for so long, what was deleted is published as disabled, so that gateways can say so
_PROBE_EVERY_S = 5.0
_REFUSED = 3  # writes in a row, each of which has waited for its turn, until that is a trouble
_COMPACT_EVERY_S = 300.0


class Publisher:
    """Publishes the stored keys, teams and organizations on the stream. A console has one."""

    def __init__(
        self,
        stream: DirectoryStream,
        store: ConsoleStore,
        *,
        take_over: bool = False,
        clock: Callable[[], float] = time.time,
        wait_s: float = 1.0,
        batch: int = 500,
        waste: int = 1_000,
    ) -> None:
        """take_over: replace what another store has published, once. clock: Unix seconds. wait_s: how long an answer to
        a change may wait for its publication. batch: changes of one command. waste: deleted records that the server may
        hold, if they are more than half of those in force."""
        self._stream = stream
        self._store = store
        self._take_over = take_over
        self._clock = clock
        self._wait_s = wait_s
        self._batch = batch
        self._waste = waste
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._compacted = float("-inf")
        self.version = 0
        """The newest version that the server is known to hold."""
        self.trouble = ""
        """Reason why the newest changes are not published; "" if they are."""
        self._refused = 0
        self._refusal = ""
        self._probed = float("-inf")

    @property
    def write_trouble(self) -> str:
        """Reason why the store takes no writes; "" if it does, or was only busy for a moment."""
        return self._refusal if self._refused >= _REFUSED else ""

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            await self.look()
            await self._probe()
            self._wake.clear()
            try:
                async with asyncio.timeout(EVERY_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _probe(self) -> None:
        """Tries whether the store takes a write: publication itself only reads, and would not notice."""
        if not self._refused and self._clock() - self._probed < _PROBE_EVERY_S:
            return
        self._probed = self._clock()
        try:
            await self._store.run(lambda _: None)
            self._refused = 0
        except AdminError as error:
            self._refused, self._refusal = self._refused + 1, str(error)

    async def reached(self, version: int) -> bool:
        """Publishes, and returns whether gateways can read this version now. Waits for a second at most."""
        try:
            async with asyncio.timeout(self._wait_s):
                await self.look()
        except TimeoutError:
            self._wake.set()
        return self.version >= version and not self.trouble

    async def look(self) -> None:
        """Publishes what the server does not have yet."""
        async with self._lock:
            try:
                self._say(await self._publish())
            except (StreamDown, AdminError) as error:
                self._say(str(error))
            except Exception:  # publication must survive: without it, no key could be revoked any more
                log.exception("publishing the keys failed; retrying")
                self.trouble = "an internal error; see the log"

    async def _publish(self) -> str:
        """Publishes the changes. Returns the reason why nothing could be published, or "" if the server has
        everything."""
        head = await self._stream.head()  # before the store is read: nobody can be ahead of it then
        state = await self._store.read(directory_state_of)
        if head is not None and (head.epoch != state.epoch or head.version > state.version):
            if not self._take_over:
                return _foreign(head, state)
            above = head.version
            await self._store.run(lambda c: begin_epoch(c, above))
            return await self._publish_all(head)
        self._take_over = False
        if head is None:
            return await self._publish_all(None)
        while head is not None and head.version < state.version:
            if state.version - head.version > _MANY:
                return await self._publish_all(head)
            if not await self._publish_changes(head):
                return "the keys on the stream server changed meanwhile"
            head = await self._stream.head()
        self.version = state.version
        await self._compact(head)
        return ""

    async def _publish_changes(self, head: DirectoryHead) -> bool:
        state, rows = await self._store.read(lambda c: changed_since(c, head.version, self._batch))
        version = state.version if len(rows) < self._batch else rows[-1].version
        return await self._stream.publish(head, version, [(row.version, row.published) for row in rows])

    async def _publish_all(self, head: DirectoryHead | None) -> str:
        since = self._clock() - _TOLD_S
        state, rows = await self._store.read(lambda c: all_rows(c, since))
        records = [row.published for row in rows]
        if not await self._stream.publish_all(head, state.epoch, state.version, records):
            return "the keys on the stream server changed meanwhile"
        self.version = state.version
        self._compacted = self._clock()
        log.info("all keys are published: version %d, %d records", state.version, len(records))
        return ""

    async def _compact(self, head: DirectoryHead | None) -> None:
        """Publishes everything again when much of what the server holds has been deleted."""
        if self._clock() - self._compacted < _COMPACT_EVERY_S:
            return
        self._compacted = self._clock()
        held, live = await self._stream.count(), sum((await self._store.read(count_rows)).values())
        if held > live + max(self._waste, live // 2):
            await self._publish_all(head)

    def _say(self, trouble: str) -> None:
        if trouble and trouble != self.trouble:
            log.error("keys are not published: %s", trouble)
        elif self.trouble and not trouble:
            log.info("keys are published again")
        self.trouble = trouble


def _foreign(head: DirectoryHead, state: DirectoryState) -> str:
    if head.epoch != state.epoch:
        why = "the stream server has the keys of another store"
    else:
        why = f"the stream server has newer keys (version {head.version}) than this store (version {state.version})"
    return (
        f"{why}; if store.url is right, for instance because a backup was restored, start `gateway console "
        "--take-over` once: it replaces them"
    )
