"""One stream with its consumer group. A corridor on one server has one shard, a corridor on a cluster several."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from itertools import groupby
from typing import Any

from redis.exceptions import ResponseError

from gateway.core.errors import StreamDown
from gateway.core.exchange import Fields
from gateway.stream.connect import Client, ask, is_cluster, node_of
from gateway.stream.scripts import run_script
from gateway.stream.types import (
    GROUP,
    Lag,
    ShardSnapshot,
    StreamEntry,
    TrimmedEntries,
    after,
    of_stream,
    order,
    shard_of,
    text,
)

_MOST_AT_ONCE = 1024  # a read of fewer may grow again


class Shard:
    """One stream. Every method raises StreamDown.

    mark: suffix of this shard's entry ids ("@0", "@1", …), so that ids are unique over all shards; "" if there is one.
    """

    def __init__(self, client: Client, name: str, mark: str = "") -> None:
        self.key = f"{name}:exchanges"
        self.dead_key = f"{name}:dead"
        self.reasons_key = f"{name}:dead:reasons"
        self.trimmed_key = f"{name}:trimmed"
        self.mark = mark
        self.client = client
        self._most: int | None = None  # entries of a read, after a reply that took too long; None: as many as asked for
        self._lost_after: str | None = None  # entries beyond this id may have been delivered in a reply that was lost

    async def append(self, entries: Sequence[Fields]) -> int:
        """Appends all entries, in order, and returns the stream's length. Entries with equal fields share a round trip.

        A script, for two reasons. Parsing a reply for each entry would cost the client more than everything else here.
        And a server that is still loading its data could refuse the first of several commands and accept the last.
        """
        length = 0
        for names, alike in groupby(entries, key=tuple):
            values = [value for fields in alike for value in fields.values()]
            length = int(
                await self.ask(run_script(self.client, "append_entries", [self.key], len(names), *names, *values))
            )
        return length

    async def trim(self, *, most: int | None = None, since_ms: int | None = None) -> int:
        """Removes the oldest entries beyond `most`, or those older than since_ms (Unix milliseconds).

        Returns how many of them the group had not read. That number is also added to a count on the server, which all
        processes read.
        """
        pipe = self.client.pipeline(transaction=True)
        pipe.xlen(self.key)
        pipe.xinfo_groups(self.key)
        pipe.xtrim(self.key, maxlen=most, minid=since_ms, approximate=True)
        pipe.xrange(self.key, count=1)
        try:
            length, groups, removed, first = await self.ask(pipe.execute())
        except ResponseError:  # no such key
            return 0
        if not removed:
            return 0
        to = text(first[0][0]) if first else f"{await self._time_ms()}-0"
        unread = unread_of(length, groups, removed, to)
        if unread or (groups and await self._held_before(to)):
            await self._count_trimmed(unread, to)
        return unread

    async def _held_before(self, to: str) -> bool:
        """Whether an entry before `to` was delivered to a consumer and is not acknowledged."""
        pending: Any = await self.ask(self.client.xpending_range(self.key, GROUP, "-", f"({to}", 1))
        return bool(pending)

    async def _count_trimmed(self, unread: int, to: str) -> None:
        pipe = self.client.pipeline(transaction=False)
        pipe.hincrby(self.trimmed_key, "unread", unread)
        pipe.hset(self.trimmed_key, "to", to)
        await self.ask(pipe.execute())

    async def trimmed(self) -> TrimmedEntries:
        reply: Any = await self.ask(self.client.hgetall(self.trimmed_key))
        return TrimmedEntries(int(reply.get(b"unread", 0)), text(reply.get(b"to", b"")))

    async def losses(self) -> int:
        """Counts losses of this shard; see Corridor.losses()."""
        counts: Any = await self.ask(self.client.hmget(self.trimmed_key, ["unread", "missing"]))
        return sum(int(n or 0) for n in counts)

    async def note_missing(self) -> None:
        await self.ask(self.client.hincrby(self.trimmed_key, "missing", 1))

    async def first_pending(self) -> str:
        """The id of the oldest entry that was read and is not acknowledged; "" if there is none."""
        pending: Any = await self.ask(self.client.xpending(self.key, GROUP))
        return text(pending["min"]) + self.mark if pending["pending"] else ""

    async def join(self) -> None:
        """Creates the consumer group, from the stream's beginning, if there is none."""
        try:
            await ask(self.client.xgroup_create(self.key, GROUP, id="0", mkstream=True))
        except ResponseError:  # BUSYGROUP: there is one
            return

    async def read(self, consumer: str, count: int, block_ms: int | None) -> list[StreamEntry]:
        """New entries for this consumer; [] if none arrived within block_ms (below 1000; None: does not wait).

        A reply that fails may have delivered entries. The next reads therefore ask for those first, and for fewer at
        once, as the reply may have been too large for the time that one may take.
        """
        if self._lost_after is not None:
            entries = await self._read_from(self._lost_after, consumer, count, None)
            self._lost_after = entries[-1].id.removesuffix(self.mark) if entries else None
            if entries:
                return entries
        return await self._read_from(">", consumer, count, block_ms)

    async def _read_from(self, start: str, consumer: str, count: int, block_ms: int | None) -> list[StreamEntry]:
        """start: ">" for entries that nobody has had; an id for those that this consumer has had beyond it."""
        count = min(count, self._most or count)
        try:
            reply = await self.ask(
                self.client.xreadgroup(GROUP, consumer, {self.key: start}, count=count, block=block_ms)
            )
        except StreamDown:
            self._lost_after = "0-0" if start == ">" else start
            self._most = max(1, count // 4)
            raise
        entries = [StreamEntry(text(i) + self.mark, fields) for i, fields in of_stream(reply)]
        if self._most is not None and len(entries) == count:
            self._most = None if 2 * self._most > _MOST_AT_ONCE else 2 * self._most
        return entries

    async def claim(self, consumer: str, idle_ms: int, count: int) -> list[StreamEntry]:
        """Claims entries of this shard; see Corridor.claim()."""
        cursor = "0-0"
        while True:
            reply: Any = await self.ask(
                self.client.xautoclaim(self.key, GROUP, consumer, min_idle_time=idle_ms, start_id=cursor, count=count)
            )
            claimed = [(text(i), fields) for i, fields in reply[1] if fields]
            cursor = text(reply[0])
            if claimed or cursor == "0-0":
                return await self._with_deliveries(claimed)

    async def _with_deliveries(self, claimed: list[tuple[str, dict[bytes, bytes]]]) -> list[StreamEntry]:
        pipe = self.client.pipeline(transaction=False)
        for i, _ in claimed:
            pipe.xpending_range(self.key, GROUP, i, i, 1)
        rows: Any = await self.ask(pipe.execute()) if claimed else []
        times = [row[0]["times_delivered"] if row else 1 for row in rows]
        return [StreamEntry(i + self.mark, fields, n) for (i, fields), n in zip(claimed, times, strict=True)]

    async def keep(self, consumer: str, ids: Sequence[str]) -> None:
        """Keeps entries of this shard; see Corridor.keep()."""
        await self.ask(
            self.client.xclaim(self.key, GROUP, consumer, min_idle_time=0, message_ids=_bare(ids), justid=True)
        )

    async def ack(self, ids: Iterable[str]) -> None:
        await self.ask(self.client.xack(self.key, GROUP, *_bare(ids)))

    async def pages(self, count: int) -> AsyncIterator[list[StreamEntry]]:
        """Reads pages of this shard; see Corridor.pages()."""
        start = "-"
        while True:
            reply: Any = await self.ask(self.client.xrange(self.key, min=start, count=count))
            if reply:
                yield [StreamEntry(text(i) + self.mark, fields) for i, fields in reply]
            if len(reply) < count:
                return
            start = f"({text(reply[-1][0])}"

    async def delete(self, ids: Iterable[str]) -> int:
        """Deletes entries of this shard; see Corridor.delete()."""
        bare = _bare(ids)
        await self.ask(self.client.xack(self.key, GROUP, *bare))
        return int(await self.ask(self.client.xdel(self.key, *bare)))

    async def leave(self, consumer: str) -> None:
        """Leaves the group of this shard; see Corridor.leave()."""
        held: Any = await self.ask(self.client.xpending_range(self.key, GROUP, "-", "+", 1, consumer))
        if not held:
            await self.ask(self.client.xgroup_delconsumer(self.key, GROUP, consumer))

    async def watermark(self) -> str | None:
        """An id before which every entry has been read and acknowledged; None if there is no group.

        An entry is acknowledged after it was stored, so no entry before this id is still being processed.
        """
        group = await self._group()
        if group is None:
            return None
        # The order matters: entries delivered after the group was read have ids above its last-delivered-id.
        pending: Any = await self.ask(self.client.xpending(self.key, GROUP))
        read = after(text(group["last-delivered-id"]))
        return text(pending["min"]) if pending["pending"] and order(text(pending["min"])) < order(read) else read

    async def settled_before(self) -> str | None:
        """The watermark(), or the server's time if nothing is pending: an idle shard must not hold up the others."""
        now_ms = await self._time_ms()
        mark = await self.watermark()
        if mark is None:
            return None
        try:
            newest: Any = await self.ask(self.client.xinfo_stream(self.key))
        except ResponseError:  # the key was deleted after its watermark was read
            return None
        idle = order(mark) > order(text(newest["last-generated-id"]))
        return max(f"{now_ms}-0", mark, key=order) if idle else mark

    async def snapshot(self) -> ShardSnapshot | None:
        """The shard's state; None if there is no group.

        `settled` is read first: if the server restarted or lost data before that, the fields read later show it.
        """
        asked_ms = await self._time_ms()
        settled = await self.settled_before()
        if settled is None:
            return None
        server = await self.info("server")
        up_ms = 1000 * int(server["uptime_in_seconds"])
        return ShardSnapshot(
            settled, str(server["run_id"]), asked_ms, await self._time_ms(), await self.trimmed(), up_ms
        )

    async def _time_ms(self) -> int:
        reply: Any = await self.ask(self._of_node("time"))
        seconds, micros = next(iter(reply.values())) if isinstance(reply, dict) else reply
        return int(seconds) * 1000 + int(micros) // 1000

    async def trim_read(self) -> int:
        """Removes the entries before the watermark, unless the stream has other groups; returns their number."""
        watermark = await self.watermark()
        if watermark is None or len(await self._groups()) != 1:
            return 0
        return int(await self.ask(self.client.xtrim(self.key, minid=watermark, approximate=True)))

    async def lag(self, now: float | None) -> Lag:
        """now: Unix time in seconds; None: the current time."""
        length = int(await self.ask(self.client.xlen(self.key)))
        group = await self._group() if length else None
        if group is None:
            return Lag(length, length, 0, 0.0)
        pending: Any = await self.ask(self.client.xpending(self.key, GROUP))
        unread = await self._next(text(group["last-delivered-id"]))
        oldest = text(pending["min"]) if pending["pending"] else unread
        now = time.time() if now is None else now
        age, unread_s = (now - order(each)[0] / 1000 if each else 0.0 for each in (oldest, unread))
        # After a deletion the server no longer knows the group's lag.
        waiting = length if group.get("lag") is None else int(group["lag"])
        return Lag(length, waiting if oldest else 0, pending["pending"], max(0.0, age), max(0.0, unread_s))

    async def info(self, section: str) -> dict[str, Any]:
        """A section of INFO from the node that holds this stream."""
        reply: dict[str, Any] = await self.ask(self._of_node("info", section))
        nested = len(reply) == 1 and all(isinstance(v, dict) for v in reply.values())  # a cluster replies by node
        return next(iter(reply.values())) if nested else reply

    async def rewrite_append_only_file(self) -> bool | None:
        """Makes the node of this stream rewrite its append-only file. False if it is at it already. None if it has
        none.
        """
        persistence = await self.info("persistence")
        if not int(persistence.get("aof_enabled", 0)):
            return None
        if int(persistence.get("aof_rewrite_in_progress", 0)):
            return False
        await self.ask(self._of_node("bgrewriteaof"))
        return True

    async def _of_node(self, command: str, *arguments: str) -> Any:
        """The reply to a command from the node that holds this stream."""
        client = self.client
        target = {"target_nodes": await node_of(client, self.key)} if is_cluster(client) else {}
        return await getattr(client, command)(*arguments, **target)

    async def _group(self) -> dict[str, Any] | None:
        return next((g for g in await self._groups() if text(g["name"]) == GROUP), None)

    async def _groups(self) -> list[dict[str, Any]]:
        try:
            groups: list[dict[str, Any]] = await self.ask(self.client.xinfo_groups(self.key))
        except ResponseError:  # no such key
            return []
        return groups

    async def _next(self, past: str) -> str | None:
        reply: Any = await self.ask(self.client.xrange(self.key, min=f"({past}", count=1))
        return text(reply[0][0]) if reply else None

    async def ask(self, command: Awaitable[Any]) -> Any:
        """The reply to a command; creates the group again if the server has lost it. Raises StreamDown."""
        return await ask(command, self.join)


def find_shard(shards: Sequence[Shard], entry: str) -> Shard:
    """The shard that holds an entry. Raises StreamDown if the id's shard is beyond the configured ones."""
    index = shard_of(entry)
    if index >= len(shards):
        raise StreamDown(
            f"stream server: entry {entry} is in shard {index}, but stream.shards is {len(shards)}; "
            f"set it to at least {index + 1}"
        )
    return shards[index]


def _bare(ids: Iterable[str]) -> list[str]:
    return [i.partition("@")[0] for i in ids]


def unread_of(length: int, groups: list[dict[str, Any]], removed: int, to: str) -> int:
    """The number of removed entries that the group had not read.

    Redis before 7 does not report the unread ones: then all removed entries count if at least one was unread.
    """
    group = next((g for g in groups if text(g["name"]) == GROUP), None)
    if group is None:
        return removed
    if group.get("lag") is not None:
        return max(0, removed - (length - int(group["lag"])))
    return removed if order(to) > order(after(text(group["last-delivered-id"]))) else 0
