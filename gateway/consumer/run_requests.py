"""Assembles the requests of runs from entries that are deltas, which no other part of the consumer sees.

The base of a delta came before it in the same stream. It is in the cache, or in the store, or with another consumer
that has not stored it yet: then the delta waits. It waits for nothing that comes after it, so some entry can always be
processed. Once no earlier entry of the stream is pending, a base that is not in the store is lost: the record is stored
without its request, and the gateway is told, which then appends whole requests.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

from gateway.core.exchange import DELTA
from gateway.core.json_values import parse_object
from gateway.core.request_delta import SMALL_BYTES, BaseReference
from gateway.store.run_chunks import requests_by_id
from gateway.store.store import Store
from gateway.stream import Corridor, StreamEntry
from gateway.stream.types import order, shard_of

log = logging.getLogger(__name__)

CACHE_BYTES = 32_000_000
"""Memory for requests that the next entries may refer to."""
MOST_WAITING = 1_024
"""Entries that wait, beyond which a consumer reads no further ones."""


class _Delta(NamedTuple):
    entry: StreamEntry
    base: BaseReference | None
    """Base of the entry's delta; None if the entry is whole."""


@dataclass(slots=True)
class _Step:
    """One attempt to put entries together."""

    unmet: list[_Delta]
    """Entries that are not ready, in the order of the stream."""
    most_bytes: int
    """Bytes that may still be put together."""
    ready: dict[str, StreamEntry] = field(default_factory=dict)
    lost: list[tuple[_Delta, str]] = field(default_factory=list)
    """Entries that never will have their request, and why."""

    def lose(self, each: _Delta, reason: str) -> None:
        self.ready[each.entry.id] = each.entry
        self.lost.append((each, reason))

    def wanted(self) -> set[str]:
        """Bases to look for in the store: not those that wait themselves, and no more than may be put together."""
        bases = [each.base for each in self.unmet if each.base is not None]
        waiting, size, found = {base.of for base in bases}, 0, set[str]()
        for base in bases:
            if base.id not in waiting and size <= self.most_bytes:
                found.add(base.id)
                size += base.size
        return found


class RequestCache:
    """The latest requests that were seen, by exchange."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._bodies: OrderedDict[str, bytes] = OrderedDict()

    def get(self, exchange_id: str) -> bytes | None:
        return self._bodies.get(exchange_id)

    def put(self, exchange_id: str, body: bytes) -> None:
        self._bytes += len(body) - len(self._bodies.pop(exchange_id, b""))
        self._bodies[exchange_id] = body
        while self._bytes > self._most_bytes:
            self._bytes -= len(self._bodies.popitem(last=False)[1])


class RunRequests:
    """The entries of one consumer that wait for others, and the requests that it has seen last."""

    def __init__(self, store: Store, corridor: Corridor) -> None:
        self._store = store
        self._corridor = corridor
        self._cache = RequestCache(CACHE_BYTES)
        self._waiting: dict[str, StreamEntry] = {}

    @property
    def waiting(self) -> Iterable[str]:
        """The ids of the entries that wait."""
        return self._waiting.keys()

    @property
    def full(self) -> bool:
        return len(self._waiting) >= MOST_WAITING

    async def restore(self, entries: Sequence[StreamEntry], most_bytes: int) -> list[StreamEntry]:
        """Returns those of these entries, and of the waiting ones, that can be read now, in the order of the stream;
        the others wait. most_bytes: approximate maximum that is assembled at a time. Raises StreamDown, StoreDown; then
        all wait."""
        if not self._waiting and not any(_is_large(entry) for entry in entries):
            return list(entries)
        self._waiting |= {entry.id: entry for entry in entries}
        step = _Step(sorted(map(_read, self._waiting.values()), key=_order), most_bytes)
        self._restore(step, {})
        if step.unmet and step.most_bytes > 0:
            await self._look_up(step)
        for each, reason in step.lost:
            await self._note(each.entry, reason)
        self._waiting = {id: entry for id, entry in self._waiting.items() if id not in step.ready}
        return list(step.ready.values())

    def _restore(self, step: _Step, found: Mapping[str, bytes]) -> None:
        """Assembles the requests whose bases are known, in order: each request may be the base of the next. found: of
        the store."""
        unmet, step.unmet = step.unmet, []
        for each in unmet:
            if each.base is None:
                self._take(step, each.entry)
                continue
            body = self._cache.get(each.base.id) or found.get(each.base.id)
            if body is None or step.most_bytes <= 0:
                step.unmet.append(each)
                continue
            try:
                fields = each.base.apply(each.entry.fields, body)
            except ValueError as error:  # retention or an erasure has emptied the base
                step.lose(each, str(error))
            else:
                step.most_bytes -= len(fields[b"req"])
                self._take(step, replace(each.entry, fields=fields))

    def _take(self, step: _Step, entry: StreamEntry) -> None:
        step.ready[entry.id] = entry
        if _is_large(entry):
            head = parse_object(entry.fields.get(b"head", b"")) or {}
            if head.get("run") is not None:
                self._cache.put(str(head.get("id")), entry.fields[b"req"])

    async def _look_up(self, step: _Step) -> None:
        """Looks for bases in the store. A base that is missing there is lost once no earlier entry is pending. The
        pending entries must be read first: one that was pending then may have been stored before the store is read."""
        wanted = step.wanted()
        pending = await self._corridor.first_pending()
        self._restore(step, await self._store.look(partial(requests_by_id, ids=list(wanted))))
        for each in step.unmet:
            first = pending.get(shard_of(each.entry.id)) == each.entry.id
            if first and each.base is not None and each.base.id in wanted:
                step.lose(each, "it is neither in the stream nor in the store")

    async def _note(self, entry: StreamEntry, reason: str) -> None:
        log.warning("a call is stored without its request, whose base is lost: entry=%s reason=%s", entry.id, reason)
        await self._corridor.note_missing(entry.id)


def _read(entry: StreamEntry) -> _Delta:
    if entry.fields.get(b"kind") != DELTA:
        return _Delta(entry, None)
    try:
        return _Delta(entry, BaseReference.read(entry.fields))
    except ValueError:  # the reader of the record reports it
        return _Delta(entry, None)


def _is_large(entry: StreamEntry) -> bool:
    return entry.fields.get(b"kind") == DELTA or len(entry.fields.get(b"req", b"")) >= SMALL_BYTES


def _order(each: _Delta) -> tuple[int, int]:
    return order(each.entry.id)
