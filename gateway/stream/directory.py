"""Keys, teams and organizations on the stream server: published by the console, read by every gateway worker.

Three keys: all records (a hash), the newest changes (a stream whose ids begin with the version; bounded), and the head:
which store they come from (`epoch`), their version, the version from which on the changes are complete (`floor`), and
the mark of the last publication of everything (`full`).
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.core.chunked import chunked
from gateway.core.keys import AnyRecord, record_from_json, record_kind, record_to_json
from gateway.stream.connect import Client, ask, is_cluster
from gateway.stream.scripts import run_script
from gateway.stream.types import text

RecordName = str
"""Name of a record: `key:ID`, `team:ID` or `organization:ID`."""
MAX_CHANGES = 2_000
"""Changes that the server keeps; a gateway that is further behind reads everything."""
_CHUNK = 100
_STAGED_S = 120  # age at which an unfinished publication is removed


@dataclass(frozen=True, slots=True)
class DirectoryHead:
    """The version of the directory that the server holds."""

    epoch: str
    """Names the store that the records come from."""
    version: int
    floor: int
    """Changes after this version are known one by one."""
    full: str
    """Differs after each publication of everything."""


@dataclass(slots=True)
class DirectoryChanges:
    """The changes that a reader has to apply to reach `head`."""

    head: DirectoryHead
    complete: bool
    """Whether `records` has all of them; False: only those that changed."""
    records: dict[RecordName, AnyRecord] = field(default_factory=dict)
    malformed: dict[RecordName, str] = field(default_factory=dict)
    """Names of records that could not be read, and why."""


class DirectoryStream:
    """The directory on one stream server. Every method raises StreamDown."""

    def __init__(self, client: Client, prefix: str) -> None:
        self._client = client
        self._name = f"{{{prefix}:directory}}" if is_cluster(client) else f"{prefix}:directory"

    @property
    def _keys(self) -> tuple[str, str, str]:
        return f"{self._name}:head", f"{self._name}:records", f"{self._name}:changes"

    async def head(self) -> DirectoryHead | None:
        """Returns None if nothing has been published, or the server has lost its data."""
        names = ("epoch", "version", "floor", "full")
        found: Any = await ask(self._client.hmget(self._keys[0], names))
        epoch, version, floor, full = (None if each is None else text(each) for each in found)
        if epoch is None or version is None or not version.isdigit():
            return None
        return DirectoryHead(epoch, int(version), int(floor) if floor and floor.isdigit() else int(version), full or "")

    async def count(self) -> int:
        """The records that the server holds."""
        return int(await ask(self._client.hlen(self._keys[1])))

    async def publish(self, before: DirectoryHead, version: int, changed: Sequence[tuple[int, AnyRecord]]) -> bool:
        """Applies changes on top of the server's records. False if these have changed meanwhile, so nothing was done.

        before: the head as read; version: that the changes lead to; changed: records with the version of their change,
        in order, each above `before.version`.
        """
        arguments: list[Any] = [before.epoch, before.version, version, MAX_CHANGES]
        for place, (at, record) in enumerate(changed):
            arguments += [name_of(record), record_to_json(record), f"{at}-{place + 1}"]
        return bool(await ask(run_script(self._client, "apply_changes", self._keys, *arguments)))

    async def publish_all(
        self, before: DirectoryHead | None, epoch: str, version: int, records: Iterable[AnyRecord]
    ) -> bool:
        """Replaces everything at once. False if the server's records have changed since `before` was read."""
        mark = secrets.token_hex(8)
        staged = f"{self._name}:staged:{mark}"
        n = 0
        for chunk in chunked(records, _CHUNK):
            await ask(self._client.hset(staged, mapping={name_of(each): record_to_json(each) for each in chunk}))
            await ask(self._client.expire(staged, _STAGED_S))
            n += len(chunk)
        known = ("", "") if before is None else (before.epoch, before.version)
        arguments = (*known, epoch, version, mark, n)
        return bool(await ask(run_script(self._client, "replace_directory", [*self._keys, staged], *arguments)))

    async def read(self, known: DirectoryHead | None, head: DirectoryHead) -> DirectoryChanges | None:
        """The changes that lead from the head `known` to `head`, which the caller has just read.

        Everything is read where `known` is None, of another store, or older than the changes that are kept. None if the
        server holds an older version of the same store, because it has lost its last changes, or everything is being
        replaced; the reader keeps its records and reads again.
        """
        if known is None or known.epoch != head.epoch or known.version < head.floor:
            return await self._read_all(head)
        return await self._read_changes(known, head) if known.version <= head.version else None

    async def _read_changes(self, known: DirectoryHead, head: DirectoryHead) -> DirectoryChanges:
        entries: Any = await ask(self._client.xrange(self._keys[2], f"{known.version + 1}-0", "+"))
        names = list(dict.fromkeys(text(fields[b"name"]) for _, fields in entries if b"name" in fields))
        changes = DirectoryChanges(head, complete=False)
        for chunk in chunked(names, _CHUNK):
            values: Any = await ask(self._client.hmget(self._keys[1], chunk))
            _add(changes, zip(chunk, values, strict=True))
        return changes

    async def _read_all(self, head: DirectoryHead) -> DirectoryChanges | None:
        """Returns None if everything was replaced meanwhile; the next read begins at the start."""
        changes = DirectoryChanges(head, complete=True)
        async for chunk in self._scan():
            _add(changes, chunk)
        again = await self.head()
        return changes if again is not None and again.full == head.full else None

    async def _scan(self) -> AsyncIterator[list[tuple[str, bytes]]]:
        cursor: Any = 0
        while True:
            cursor, found = await ask(self._client.hscan(self._keys[1], cursor, count=_CHUNK))
            for chunk in chunked(found.items(), _CHUNK):  # a small hash is returned at once, whatever its count
                yield [(text(name), value) for name, value in chunk]
            if int(cursor) == 0:
                return


def name_of(record: AnyRecord) -> RecordName:
    return f"{record_kind(record)}:{record.id}"


def _add(changes: DirectoryChanges, found: Iterable[tuple[str, bytes | None]]) -> None:
    for name, raw in found:
        if raw is None:  # it was removed by a publication of everything, which the next read sees
            continue
        try:
            record = record_from_json(raw)
            if name_of(record) != name:
                raise ValueError(f"it calls itself {name_of(record)}")
            changes.records[name] = record
        except ValueError as error:
            changes.malformed[name] = str(error)[:200]
