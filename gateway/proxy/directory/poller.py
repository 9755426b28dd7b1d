"""Reads changes of keys, teams and organizations from the stream server, four times a second, off the hot path.

Every worker does so. Keys that have been read stay in force while the server is unreachable, empty or behind; a process
that starts without the server uses the snapshot in its data directory, and logs its age.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable, Set
from dataclasses import dataclass, field

from gateway.core.errors import StreamDown
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.request.key_directory import KeyDirectory
from gateway.runtime.directory_snapshot import DirectorySnapshot
from gateway.stream.directory import DirectoryChanges, DirectoryHead, DirectoryStream

log = logging.getLogger(__name__)

EVERY_S = 0.25
_SAVE_S = 1.0  # between two writes of the snapshot
_CONFIRM_S = 30.0
_MAX_NAMED = 5


@dataclass
class DirectoryPoller:
    """Keeps one process's KeyDirectory up to date."""

    source: DirectoryStream
    directory: KeyDirectory
    snapshot: DirectorySnapshot
    metrics: ProxyMetrics
    end_calls: Callable[[Set[str]], int]
    """Ends the answers in flight of the keys with these names; returns their number."""
    pace: Callable[[], float] = time.monotonic
    """Monotonic seconds, of writes to the snapshot."""
    unsavable: str = field(default="", init=False)
    """Reason why the snapshot of the keys cannot be written; "" if it can."""
    _trouble: str = field(default="", init=False)
    _saved: DirectoryHead | None = field(default=None, init=False)
    _saved_at: float = field(default=float("-inf"), init=False)
    _confirmed_at: float = field(default=float("-inf"), init=False)

    @property
    def trouble(self) -> str:
        """Reason why the last known keys stay in force; "" if they are read, or there are none."""
        return self._trouble if self.directory.head is not None else ""

    async def start(self) -> None:
        """Does the first read; without the server's answer, loads the snapshot. The garbage collector is off meanwhile:
        it would scan ten thousand records repeatedly, and a start makes no garbage."""
        collecting = gc.isenabled()
        gc.disable()
        try:
            await self.look()
            if self.directory.head is None:
                await self._load()
        finally:
            if collecting:
                gc.enable()
        self.show()

    async def _load(self) -> None:
        loaded = await asyncio.to_thread(self.snapshot.load)
        if loaded is None:
            return
        self.directory.apply(loaded.changes, "snapshot")
        self.directory.confirm(loaded.age_s)
        self._saved = loaded.changes.head
        self._count_malformed(loaded.changes)
        log.warning(
            "keys are those of the snapshot %s, confirmed %.0f s ago: %d records of version %d",
            self.snapshot.path.name,
            loaded.age_s,
            len(loaded.changes.records),
            loaded.changes.head.version,
        )

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.look()
                self.show()
                await self.save()
            except Exception:  # the poll must survive: without it, no key could be revoked any more
                log.exception("reading the keys failed; the last known ones stay in force")

    async def look(self) -> None:
        """Reads what has changed and puts it in force."""
        directory = self.directory
        try:
            head = await self.source.head()
            if head is None:
                self._say("the stream server has no keys" if directory.head is not None else "")
                return
            if head != directory.head:
                changes = await self.source.read(directory.head, head)
                if changes is None:
                    self._say(f"the stream server has older keys (version {head.version})")
                    return
                self._apply(changes)
        except StreamDown as error:
            self._say(str(error))
            return
        self._say("")
        directory.source = "stream"
        directory.confirm()

    def show(self) -> None:
        directory, metrics = self.directory, self.metrics
        if directory.head is None:
            return
        metrics.counts.set(metrics.directory_age, directory.age_s or 0.0)
        metrics.counts.set(metrics.directory_version, directory.head.version)
        metrics.counts.set(metrics.directory_keys, len(directory.keys))

    def _apply(self, changes: DirectoryChanges) -> None:
        known = self.directory.head
        ended = self.end_calls(names) if (names := self.directory.apply(changes)) else 0
        self._count_malformed(changes)
        if ended:
            self.metrics.counts.of(self.metrics.key_ended).n += ended
        log.info(
            "keys changed: version %d%s, %d records %s%s",
            changes.head.version,
            "" if known is None else f" after {known.version}",
            len(changes.records),
            "in all" if changes.complete else "changed",
            f"; {ended} answers in flight ended" if ended else "",
        )

    def _count_malformed(self, changes: DirectoryChanges) -> None:
        found = changes.malformed
        if not found:
            return
        self.metrics.counts.of(self.metrics.directory_malformed).n += len(found)
        named = "; ".join(f"{name}: {why}" for name, why in list(found.items())[:_MAX_NAMED])
        log.error("%d records of keys are malformed; their last valid versions stay in force: %s", len(found), named)

    def _say(self, trouble: str) -> None:
        """Logs when reading begins to fail, and when it works again."""
        if trouble and not self._trouble and self.directory.head is not None:
            log.warning("%s; the last known keys stay in force", trouble)
        elif self._trouble and not trouble and self.directory.head is not None:
            log.info("keys are read from the stream server again")
        self._trouble = trouble

    async def save(self) -> None:
        """Writes the snapshot after a change, at most once a second, and now and then notes that it is current."""
        head, now = self.directory.head, self.pace()
        if head is None or self._trouble:
            return
        if head != self._saved and now - self._saved_at >= _SAVE_S:
            self._saved_at = self._confirmed_at = now
            records = list(self.directory.records())
            try:
                await asyncio.to_thread(self.snapshot.save, head, records)
                self._saved, self.unsavable = head, ""
            except OSError as error:
                if not self.unsavable:
                    log.warning("the snapshot of the keys cannot be written: %s", error)
                self.unsavable = error.strerror or str(error)
        elif now - self._confirmed_at >= _CONFIRM_S:
            self._confirmed_at = now
            await asyncio.to_thread(self.snapshot.confirm, head)
