"""The keys, teams and organizations that were made while the gateways run, as this process last read them.

Filled by directory/poller.py, read by auth.py. No I/O. Those of gateway.yaml are not here; they win.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

from gateway.core.keys import AnyRecord, KeyRecord, OrganizationRecord, TeamRecord
from gateway.stream.directory import DirectoryChanges, DirectoryHead, RecordName, name_of

Source = Literal["none", "snapshot", "stream"]
STALE_S = 5.0
"""A stream server that confirms nothing for so long may have newer keys."""


class KeyDirectory:
    """One per process. It outlives every config, and its mappings stay the same objects."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.organizations: dict[str, OrganizationRecord] = {}
        self.teams: dict[str, TeamRecord] = {}
        self.keys: dict[str, KeyRecord] = {}
        self.by_digest: dict[bytes, KeyRecord] = {}
        """Keys by the SHA-256 of each of their secrets."""
        self.head: DirectoryHead | None = None
        """The version that was last read; None: none yet."""
        self.source: Source = "none"
        self.changes = 0
        """Grows with each change, so that others know when to look again."""
        self._confirmed: float | None = None

    def records(self) -> Iterator[AnyRecord]:
        yield from self.organizations.values()
        yield from self.teams.values()
        yield from self.keys.values()

    def __len__(self) -> int:
        return len(self.organizations) + len(self.teams) + len(self.keys)

    def apply(self, changes: DirectoryChanges, source: Source = "stream") -> set[str]:
        """Puts the records in force. One that could not be read stays as it was.

        Returns the names of the keys whose answers in flight are to end.
        """
        before = self.keys.copy() if changes.complete else self.keys
        ended = {
            new.name
            for new in changes.records.values()
            if isinstance(new, KeyRecord) and new.disabled and new.end_streams and new != before.get(new.id)
        }
        if changes.complete:
            self._forget_all_but(changes.malformed)
        for record in changes.records.values():
            self._put(record)
        self.head, self.source = changes.head, source
        self.changes += 1
        return ended

    def _forget_all_but(self, malformed: dict[RecordName, str]) -> None:
        kept = [record for record in self.records() if name_of(record) in malformed] if malformed else []
        for mapping in (self.organizations, self.teams, self.keys, self.by_digest):
            mapping.clear()
        for record in kept:
            self._put(record)

    def _put(self, record: AnyRecord) -> None:
        if isinstance(record, OrganizationRecord):
            self.organizations[record.id] = record
        elif isinstance(record, TeamRecord):
            self.teams[record.id] = record
        else:
            old = self.keys.get(record.id)
            for digest, _ in old.digests if old else ():
                self.by_digest.pop(bytes.fromhex(digest), None)
            self.keys[record.id] = record
            for digest, _ in record.digests:
                self.by_digest[bytes.fromhex(digest)] = record

    def touch(self) -> None:
        """Makes every caller be looked up again at its next call."""
        self.changes += 1

    def confirm(self, age_s: float = 0.0) -> None:
        """Notes that nothing newer exists, as the stream server says now, or said so `age_s` seconds ago."""
        self._confirmed = self._clock() - age_s

    @property
    def age_s(self) -> float | None:
        """Seconds since the stream server confirmed the records in force; None if it never has."""
        return None if self._confirmed is None else max(0.0, self._clock() - self._confirmed)

    @property
    def stale(self) -> bool:
        """Newer keys may exist."""
        age_s = self.age_s
        return age_s is None or age_s > STALE_S

    def report(self) -> dict[str, Any]:
        """Reports the directory for `gateway status`."""
        version = 0 if self.head is None else self.head.version
        return {"version": version, "source": self.source, "keys": len(self.keys), "age_s": self.age_s}
