"""The corridor's operations over all its shards. The gateway appends; consumers do everything else.

No client's request waits for anything here.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from itertools import chain
from typing import Self, TypeVar

from gateway.config.stream import StreamConfig
from gateway.core.backoff import Backoff
from gateway.core.errors import StreamDown
from gateway.core.exchange import Fields
from gateway.stream.connect import ask, close, connect
from gateway.stream.dead_letters import DeadLetterQueue
from gateway.stream.directory import DirectoryStream
from gateway.stream.ramps import RampStream
from gateway.stream.shard import Shard, find_shard
from gateway.stream.shared_state import SharedState
from gateway.stream.types import Lag, ShardSnapshot, StreamEntry, order

T = TypeVar("T")
log = logging.getLogger(__name__)

DAY_S = 86_400
_MIN_ENTRIES = 1000  # that a stream may always hold
_MEAN_OVER_ENTRIES = 2_000
_ALARM_EVERY_S = 10.0
_PROBE = Backoff(first_s=1.0, most_s=15.0)  # until a shard that failed is tried again
_POLL = Backoff(first_s=0.005, most_s=0.1)  # between reads of several shards: a blocking read can wait on one node only


class Corridor:
    """The streams on one stream server. Every method raises StreamDown if the server cannot be reached within seconds.

    url: redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://.
    name: prefix of the keys.
    max_mb, max_age_h: limits of one stream; older entries are trimmed. Its size is estimated from the mean size of
        recently appended entries.
    shards: the number of streams on a cluster.
    check_age_every_s: the time between trims by age.

    A process appends to one shard only, which keeps its records in order: when a tally arrives, every record that the
    process appended before it has arrived too. The ledger relies on that.
    """

    def __init__(
        self,
        url: str,
        name: str = "gateway",
        max_mb: float = 1024.0,
        *,
        max_age_h: float | None = None,
        shards: int = 1,
        access: StreamConfig | None = None,
        check_age_every_s: float = 30.0,
    ) -> None:
        self.client = connect(url, access or StreamConfig())
        self.state = SharedState(self.client, name)
        self.directory = DirectoryStream(self.client, name)
        self.ramps = RampStream(self.client, name)
        several = "+cluster://" in url
        self.shards = (
            tuple(Shard(self.client, f"{{{name}:{i}}}", f"@{i}") for i in range(shards))
            if several
            else (Shard(self.client, name),)
        )
        self.dead_letters = DeadLetterQueue(self.shards)
        self.home = self.shards[secrets.randbelow(len(self.shards))]
        self._max_bytes = max_mb * 1e6
        self._max_age_h = max_age_h
        self._check_age_every_s = check_age_every_s
        self._bytes = 0.0
        self._entries = 0
        self._age_checked = time.monotonic()
        self._unread = 0  # entries trimmed unread and not logged yet
        self._alarm_at = 0.0
        self._reads = 0  # each read starts at another shard
        self._breakers: dict[Shard, ShardBreaker] = {}

    @classmethod
    def of(cls, stream: StreamConfig, url: str) -> Self:
        """The corridor of the config's `stream` section. url: the section's own, or the embedded server's."""
        return cls(url, stream.name, stream.max_mb, max_age_h=stream.max_age_h, shards=stream.shards, access=stream)

    @property
    def key(self) -> str:
        """The stream that this process appends to."""
        return self.home.key

    @property
    def dead_key(self) -> str:
        return self.home.dead_key

    async def aclose(self) -> None:
        await close(self.client)

    async def append(self, entries: Sequence[Fields]) -> None:
        """Appends all entries, in order, in one round trip; trims the stream to max_mb and max_age_h."""
        length = await self.home.append(entries)
        most = max(_MIN_ENTRIES, int(self._max_bytes / self._mean_bytes(entries)))
        if length > most:
            await self._trim(most=most)
        elif self._max_age_h is not None and time.monotonic() - self._age_checked > self._check_age_every_s:
            self._age_checked = time.monotonic()
            await self._trim(since_ms=int((time.time() - self._max_age_h * 3600) * 1000))

    def _mean_bytes(self, entries: Sequence[Fields]) -> float:
        """The mean size of recently appended entries: XTRIM counts entries, not bytes."""
        self._entries += len(entries)
        self._bytes += sum(map(len, chain.from_iterable(map(dict.values, entries)))) + 64 * len(entries)
        mean = self._bytes / self._entries
        if self._entries > _MEAN_OVER_ENTRIES:
            self._entries, self._bytes = self._entries // 2, self._bytes / 2
        return mean

    async def _trim(self, *, most: int | None = None, since_ms: int | None = None) -> None:
        self._unread += await self.home.trim(most=most, since_ms=since_ms)
        if self._unread and time.monotonic() >= self._alarm_at:
            limit = f"max_mb: {self._max_bytes / 1e6:g}" if most else f"max_age_h: {self._max_age_h:g}"
            log.error(
                "%d entries were trimmed from the stream unread (stream.%s): no consumer is running, or too few",
                self._unread,
                limit,
            )
            self._unread, self._alarm_at = 0, time.monotonic() + _ALARM_EVERY_S

    async def ping(self) -> None:
        await ask(self.client.exists(self.home.key))

    async def join(self) -> None:
        """Creates the consumer group, from the stream's beginning, on shards that have none."""
        await self._all(lambda shard: shard.join())

    async def read(self, consumer: str, count: int, block_ms: int) -> list[StreamEntry]:
        """New entries for this consumer; [] if none arrived within block_ms, which must be below 1000.

        Several shards are read in turn, each time starting at another one, so that none waits behind a busy one.
        """
        if len(self.shards) == 1:
            return await self.shards[0].read(consumer, count, block_ms)
        until = time.monotonic() + block_ms / 1000
        empty_reads = 0
        while True:
            found = await self._read_each(consumer, count)
            left_s = until - time.monotonic()
            if found or left_s <= 0:
                return found
            empty_reads += 1
            await asyncio.sleep(min(_POLL.wait_s(empty_reads), left_s))

    async def _read_each(self, consumer: str, count: int) -> list[StreamEntry]:
        self._reads += 1
        found: list[StreamEntry] = []

        async def read(shard: Shard) -> None:
            if len(found) < count:
                found.extend(await shard.read(consumer, count - len(found), None))

        await self._all(read)
        return found

    async def claim(self, consumer: str, idle_ms: int, count: int) -> list[StreamEntry]:
        """Takes over entries delivered to any consumer more than idle_ms ago and not acknowledged since.

        [] means that no pending entry is that old. Entries that were trimmed in the meantime stop being pending.
        """
        found: list[StreamEntry] = []

        async def claim(shard: Shard) -> None:
            if not found:
                found.extend(await shard.claim(consumer, idle_ms, count))

        await self._all(claim)
        return found

    async def keep(self, consumer: str, ids: Sequence[str]) -> None:
        """Resets the idle time of entries that this consumer still works on, so that no other consumer claims them."""
        by_shard = self._by_shard(ids)
        await self._all(lambda shard: shard.keep(consumer, by_shard[shard]), by_shard)

    async def ack(self, ids: Iterable[str]) -> None:
        """Acknowledges entries.

        A shard that is unreachable delivers its entries again; the store then sees them twice, and counts them once.
        """
        by_shard = self._by_shard(ids)
        await self._all(lambda shard: shard.ack(by_shard[shard]), by_shard)

    async def leave(self, consumer: str) -> None:
        """Removes a consumer from the group, unless it holds pending entries."""
        await self.state.forget_consumer(consumer)
        await self._all(lambda shard: shard.leave(consumer))

    async def watermark(self) -> str | None:
        """An id before which every entry of every shard has been read and acknowledged; None if a shard's is unknown.

        Ids of different shards compare by time: that at which the nodes received the entries.
        """
        if len(self.shards) == 1:
            return await self.shards[0].watermark()
        marks = await self._all(lambda shard: shard.settled_before())
        known = [mark for mark in marks.values() if mark is not None]
        return min(known, key=order) if len(known) == len(self.shards) else None

    async def trim_read(self) -> int:
        """Removes the entries before the watermarks, except from streams with other groups; returns their number."""
        return sum((await self._all(lambda shard: shard.trim_read())).values())

    async def snapshots(self) -> dict[int, ShardSnapshot]:
        """A snapshot of each shard, by its index; without shards that are unreachable or have no group."""
        found = await self._all(lambda shard: shard.snapshot())
        return {self.shards.index(shard): each for shard, each in found.items() if each is not None}

    async def trimmed_unread(self) -> int:
        """The number of entries trimmed from the streams unread since these were created."""
        return sum(each.unread for each in (await self._all(lambda shard: shard.trimmed())).values())

    async def losses(self) -> int:
        """The number of entries lost from the stream that this process appends to: trimmed unread, or missed by others
        that refer to them."""
        return await self.home.losses()

    async def note_missing(self, entry: str) -> None:
        """Counts an entry that refers to one that is neither in the stream nor in the store."""
        await find_shard(self.shards, entry).note_missing()

    async def first_pending(self) -> dict[int, str]:
        """The oldest entry of each shard that was read and is not acknowledged, by the shard's index; "" if there is
        none."""
        found = await self._all(lambda shard: shard.first_pending())
        return {self.shards.index(shard): each for shard, each in found.items()}

    async def lag(self, now: float | None = None) -> Lag:
        """The lag over all shards that answer. now: Unix time in seconds; None: the current time."""
        found = await self._all(lambda shard: shard.lag(now))
        return sum(found.values(), Lag())

    async def reachable(self) -> int:
        """The number of shards that answer."""
        return len(await self._all(lambda shard: shard.trimmed()))

    async def evicting(self) -> str | None:
        """The maxmemory-policy of a node that may evict the stream when its memory is full; None if no node may."""
        for found in (await self._all(lambda shard: shard.info("memory"))).values():
            policy = str(found.get("maxmemory_policy", "noeviction"))
            if policy != "noeviction":
                return policy
        return None

    async def pages(self, count: int = 100) -> AsyncIterator[list[StreamEntry]]:
        """Yields all entries, shard by shard, oldest first in each, read or not."""
        for shard in self.shards:
            async for page in shard.pages(count):
                yield page

    async def delete(self, ids: Iterable[str]) -> int:
        """Deletes entries, which are then read by nobody; returns how many there were."""
        by_shard = self._by_shard(ids)
        return sum([await shard.delete(own) for shard, own in by_shard.items()])

    async def forget_deleted(self, every_s: int = DAY_S) -> bool:
        """Makes every server rewrite its append-only file, which holds deleted entries until then. At most once in
        every_s seconds, over all consumers; False if it was done already, or nothing could be asked."""
        if await self.state.recall("rewritten") is not None:
            return False
        await self.state.remember("rewritten", "1", every_s)
        await self._all(lambda shard: shard.rewrite_append_only_file())
        return True

    async def rewrite_append_only_files(self) -> bool | None:
        """Makes every server rewrite its append-only file now. False if one refuses, is at it already, or does not
        answer. None if no server has one."""
        try:
            begun = await self._all(lambda shard: shard.rewrite_append_only_file())
        except StreamDown:
            return False
        if len(begun) < len(self.shards) or False in begun.values():
            return False
        return True if True in begun.values() else None

    def _by_shard(self, ids: Iterable[str]) -> dict[Shard, list[str]]:
        found: dict[Shard, list[str]] = {}
        for each in ids:
            found.setdefault(find_shard(self.shards, each), []).append(each)
        return found

    async def _all(self, verb: Callable[[Shard], Awaitable[T]], of: Iterable[Shard] | None = None) -> dict[Shard, T]:
        """Collects each shard's result. A shard that fails is left out, and is tried again only after a backoff.

        Raises StreamDown if no shard answers.
        """
        shards = list(self.shards if of is None else of)
        start = self._reads % len(shards) if shards else 0
        found: dict[Shard, T] = {}
        failed: StreamDown | None = None
        for shard in shards[start:] + shards[:start]:
            breaker = self._breakers.setdefault(shard, ShardBreaker())
            if len(shards) > 1 and breaker.open:
                continue
            try:
                found[shard] = await verb(shard)
                breaker.succeed()
            except StreamDown as error:
                failed = error
                breaker.fail()
        if shards and not found:
            raise failed or StreamDown("stream server: no node of the cluster answers")
        return found


class ShardBreaker:
    """The circuit breaker of one shard: each failure in a row keeps it open for longer."""

    def __init__(self) -> None:
        self._until = 0.0
        self._failures = 0

    @property
    def open(self) -> bool:
        return time.monotonic() < self._until

    def fail(self) -> None:
        self._failures += 1
        self._until = time.monotonic() + _PROBE.wait_s(self._failures)

    def succeed(self) -> None:
        self._until, self._failures = 0.0, 0
