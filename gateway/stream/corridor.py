"""The corridor's verbs over all its shards. Appending is for room 1, everything else for room 2. Nothing here is
awaited by a request."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Self, TypeVar

from gateway.config.stream import StreamConfig
from gateway.core.backoff import Backoff
from gateway.core.errors import StreamDown
from gateway.core.exchange import Fields
from gateway.stream.connect import Credentials, ask, close, connect
from gateway.stream.dead_letters import DeadLetterQueue
from gateway.stream.shard import Shard, find_shard
from gateway.stream.shared_state import SharedState
from gateway.stream.types import Lag, ShardSnapshot, StreamEntry, order

T = TypeVar("T")
log = logging.getLogger(__name__)

_LOOK_AT_AGE_S = 30.0
_FEWEST = 1000  # entries that a stream may always hold
_LATELY = 2_000  # entries
_ALARM_EVERY_S = 10.0
_PROBE = Backoff(first_s=1.0, most_s=15.0)  # how long a shard that failed is left alone
_POLL = Backoff(first_s=0.005, most_s=0.1)  # between reads of several streams: no server waits on more than one node


class Corridor:
    """A connection to the stream server, and the stream's verbs.

    url: redis://, rediss:// or unix://, redis+sentinel:// or redis+cluster://. name: prefix of the keys. max_mb,
    max_age_h: what one stream may hold; entries beyond it are trimmed, oldest first, by the mean size of what was
    appended. shards: how many streams a cluster holds. Every verb raises StreamDown when the server cannot be reached
    within seconds.

    All that one process appends goes to one shard, so that its records keep their order: what the ledger reads from it
    is "everything before this tally has come".
    """

    def __init__(
        self,
        url: str,
        name: str = "gateway",
        max_mb: float = 1024.0,
        *,
        max_age_h: float | None = None,
        shards: int = 1,
        access: Credentials | None = None,
    ) -> None:
        self.client = connect(url, access or Credentials())
        self.state = SharedState(self.client, name)
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
        self._bytes = 0.0
        self._entries = 0
        self._aged = time.monotonic()
        self._unread = 0  # not logged yet
        self._alarm_at = 0.0
        self._first = 0  # where reading begins: each time at another shard
        self._rests: dict[Shard, ShardBreaker] = {}

    @classmethod
    def of(cls, stream: StreamConfig, url: str) -> Self:
        """The corridor of a config's section. url: its own, or the embedded server's."""
        access = Credentials(
            stream.username, stream.password, stream.sentinel_username, stream.sentinel_password,
            stream.ca_file, stream.cert_file, stream.key_file, stream.check_hostname,
        )  # fmt: skip
        return cls(url, stream.name, stream.max_mb, max_age_h=stream.max_age_h, shards=stream.shards, access=access)

    @property
    def key(self) -> str:
        """The stream that this process appends to."""
        return self.home.key

    @property
    def dead_key(self) -> str:
        return self.home.dead_key

    async def aclose(self) -> None:
        await close(self.client)

    # ── room 1 ──

    async def append(self, entries: Sequence[Fields]) -> None:
        """Appends all, in order, in one round trip; trims what exceeds max_mb, or is older than max_age_h."""
        length = await self.home.append(entries)
        most = max(_FEWEST, int(self._max_bytes / self._mean_bytes(entries)))
        if length > most:
            await self._trim(most=most)
        elif self._max_age_h is not None and time.monotonic() - self._aged > _LOOK_AT_AGE_S:
            self._aged = time.monotonic()
            await self._trim(since_ms=int((time.time() - self._max_age_h * 3600) * 1000))

    def _mean_bytes(self, entries: Sequence[Fields]) -> float:
        """The mean size of recently appended entries: XTRIM counts entries, not bytes."""
        self._entries += len(entries)
        self._bytes += sum(len(v) for fields in entries for v in fields.values()) + 64 * len(entries)
        mean = self._bytes / self._entries
        if self._entries > _LATELY:
            self._entries, self._bytes = self._entries // 2, self._bytes / 2
        return mean

    async def _trim(self, *, most: int | None = None, since_ms: int | None = None) -> None:
        self._unread += await self.home.trim(most=most, since_ms=since_ms)
        if self._unread and time.monotonic() >= self._alarm_at:
            why = f"max_mb: {self._max_bytes / 1e6:g}" if most else f"max_age_h: {self._max_age_h:g}"
            log.error("%d entries left the stream unread (stream.%s): no consumer runs, or too few", self._unread, why)
            self._unread, self._alarm_at = 0, time.monotonic() + _ALARM_EVERY_S

    async def ping(self) -> None:
        await ask(self.client.exists(self.home.key))

    # ── room 2 ──

    async def join(self) -> None:
        """Makes the group, from the stream's beginning, where there is none."""
        await self._all(lambda shard: shard.join())

    async def read(self, consumer: str, count: int, block_ms: int) -> list[StreamEntry]:
        """New entries for this consumer; [] when none came in block_ms. block_ms must be below 1000.

        Several shards are looked at in turn, each time from another one on, so that none waits behind a busy one.
        """
        if len(self.shards) == 1:
            return await self.shards[0].read(consumer, count, block_ms)
        until = time.monotonic() + block_ms / 1000
        empty_reads = 0
        while True:
            found = await self._look(consumer, count)
            left_s = until - time.monotonic()
            if found or left_s <= 0:
                return found
            empty_reads += 1
            await asyncio.sleep(min(_POLL.wait_s(empty_reads), left_s))

    async def _look(self, consumer: str, count: int) -> list[StreamEntry]:
        self._first += 1
        found: list[StreamEntry] = []

        async def look(shard: Shard) -> None:
            if len(found) < count:
                found.extend(await shard.read(consumer, count - len(found), None))

        await self._all(look)
        return found

    async def claim(self, consumer: str, idle_ms: int, count: int) -> list[StreamEntry]:
        """Takes over what a consumer was handed longer than idle_ms ago and has not acknowledged; [] when all that is
        pending has been looked through. What was trimmed meanwhile is no longer pending afterwards."""
        found: list[StreamEntry] = []

        async def claim(shard: Shard) -> None:
            if not found:
                found.extend(await shard.claim(consumer, idle_ms, count))

        await self._all(claim)
        return found

    async def keep(self, consumer: str, ids: Sequence[str]) -> None:
        """Says that this consumer is still at work on these entries, so that no other claims them yet."""
        by_shard = self._by_shard(ids)
        await self._all(lambda shard: shard.keep(consumer, by_shard[shard]), by_shard)

    async def ack(self, ids: Iterable[str]) -> None:
        """What a shard that is away does not hear is handed out again; the store then sees it twice, and counts it
        once."""
        by_shard = self._by_shard(ids)
        await self._all(lambda shard: shard.ack(by_shard[shard]), by_shard)

    async def leave(self, consumer: str) -> None:
        """Takes a consumer that holds nothing out of the group."""
        await self.state.forget_consumer(consumer)
        await self._all(lambda shard: shard.leave(consumer))

    async def watermark(self) -> str | None:
        """An id before which every entry of every shard has been read and acknowledged; None where that of one shard is
        not known. It is the order over all shards: by the time at which the nodes took the entries."""
        if len(self.shards) == 1:
            return await self.shards[0].watermark()
        marks = await self._all(lambda shard: shard.settled_before())
        known = [mark for mark in marks.values() if mark is not None]
        return min(known, key=order) if len(known) == len(self.shards) else None

    async def trim_read(self) -> int:
        """Removes entries before the watermarks, unless other groups read these streams too; returns how many."""
        return sum((await self._all(lambda shard: shard.trim_read())).values())

    async def looks(self) -> dict[int, ShardSnapshot]:
        """By shard, how it stands; without those that have no group and those that are away."""
        found = await self._all(lambda shard: shard.look())
        return {self.shards.index(shard): look for shard, look in found.items() if look is not None}

    async def trimmed_unread(self) -> int:
        """How many entries left the streams before they were read, since these were made."""
        return sum(each.unread for each in (await self._all(lambda shard: shard.trimmed())).values())

    async def lag(self, now: float | None = None) -> Lag:
        """Of all shards that answer. now: Unix time in seconds; None: the clock's."""
        found = await self._all(lambda shard: shard.lag(now))
        return sum(found.values(), Lag())

    async def reachable(self) -> int:
        """How many shards answer."""
        return len(await self._all(lambda shard: shard.trimmed()))

    async def evicting(self) -> str | None:
        """The maxmemory-policy of a node that may throw the stream away when its memory is full; None: of none."""
        for found in (await self._all(lambda shard: shard.info("memory"))).values():
            policy = str(found.get("maxmemory_policy", "noeviction"))
            if policy != "noeviction":
                return policy
        return None

    # ── over the shards ──

    def _by_shard(self, ids: Iterable[str]) -> dict[Shard, list[str]]:
        found: dict[Shard, list[str]] = {}
        for each in ids:
            found.setdefault(find_shard(self.shards, each), []).append(each)
        return found

    async def _all(self, verb: Callable[[Shard], Awaitable[T]], of: Iterable[Shard] | None = None) -> dict[Shard, T]:
        """What each shard answers. One that is away is left out, and asked again only after a while: the others go on.

        Raises StreamDown when none of them answers.
        """
        asked = list(self.shards if of is None else of)
        turn = self._first % len(asked) if asked else 0
        found: dict[Shard, T] = {}
        failed: StreamDown | None = None
        for shard in asked[turn:] + asked[:turn]:
            rest = self._rests.setdefault(shard, ShardBreaker())
            if len(asked) > 1 and rest.holds():
                continue
            try:
                found[shard] = await verb(shard)
                rest.end()
            except StreamDown as error:
                failed = error
                rest.begin()
        if asked and not found:
            raise failed or StreamDown("stream server: no node of the cluster answers")
        return found


class ShardBreaker:
    """The breaker of one shard: after a failure it is left alone for a while, longer each time."""

    def __init__(self) -> None:
        self._until = 0.0
        self._failures = 0

    def holds(self) -> bool:
        return time.monotonic() < self._until

    def begin(self) -> None:
        self._failures += 1
        self._until = time.monotonic() + _PROBE.wait_s(self._failures)

    def end(self) -> None:
        self._until, self._failures = 0.0, 0
