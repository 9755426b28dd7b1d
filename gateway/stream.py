"""The corridor: Redis streams between the two rooms. The only module that says XADD, XREADGROUP, XAUTOCLAIM, XACK.

Appending is for room 1, everything else for room 2. Nothing here is awaited by a request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis.asyncio as redis
from redis.exceptions import RedisError, ResponseError

from gateway.errors import StreamDown
from gateway.exchange import Fields

GROUP = "evals"
_SOCKET_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One record as it lies in the stream. id: the stream's ("ms-n"). deliveries: how often it was handed out."""

    id: str
    fields: Mapping[bytes, bytes]
    deliveries: int = 1


@dataclass(frozen=True, slots=True)
class Lag:
    """length: entries in the stream. waiting: not yet handed to the group. pending: handed out, not acknowledged.
    oldest_s: age of the oldest entry that is not acknowledged; 0 when there is none."""

    length: int
    waiting: int
    pending: int
    oldest_s: float


class Corridor:
    """A connection to the stream server, and the stream's verbs.

    url: redis://, rediss:// or unix://. name: prefix of the keys. max_mb: what the stream may hold; entries beyond it
    are trimmed, oldest first, by the mean size of what was appended. Every verb raises StreamDown when the server
    cannot be reached within a second.
    """

    def __init__(self, url: str, name: str = "gateway", max_mb: float = 1024.0) -> None:
        self.prefix = name
        self.key = f"{name}:exchanges"
        self.dead_key = f"{name}:dead"
        self.alive_key = f"{name}:consumers"
        self._max_bytes = max_mb * 1e6
        self._bytes = 0.0
        self._entries = 0
        self._redis: redis.Redis = redis.Redis.from_url(
            url, socket_timeout=_SOCKET_TIMEOUT_S, socket_connect_timeout=_SOCKET_TIMEOUT_S, decode_responses=False
        )

    async def aclose(self) -> None:
        await self._redis.aclose()

    # ── room 1 ──

    async def append(self, entries: Sequence[Fields]) -> None:
        """Appends all, in order, in one round trip; trims what exceeds max_mb."""
        self._entries += len(entries)
        self._bytes += sum(len(v) for fields in entries for v in fields.values()) + 64 * len(entries)
        pipe = self._redis.pipeline(transaction=False)
        limit = max(1000, int(self._max_bytes / (self._bytes / self._entries)))
        for fields in entries[:-1]:
            pipe.xadd(self.key, fields)  # type: ignore[arg-type]
        pipe.xadd(self.key, entries[-1], maxlen=limit, approximate=True)  # type: ignore[arg-type]
        await self._do(pipe.execute())

    async def ping(self) -> None:
        await self._do(self._redis.ping())

    async def remember(self, name: str, value: str, keep_s: int) -> None:
        """Shares a small text with every other gateway on this server, for keep_s seconds."""
        await self._do(self._redis.set(f"{self.prefix}:{name}", value, ex=keep_s))

    async def recall(self, name: str) -> str | None:
        value = await self._do(self._redis.get(f"{self.prefix}:{name}"))
        return None if value is None else _id(value)

    # ── room 2 ──

    async def join(self) -> None:
        """Makes the group, from the stream's beginning, when there is none."""
        try:
            await self._do(self._redis.xgroup_create(self.key, GROUP, id="0", mkstream=True))
        except ResponseError:  # BUSYGROUP: there is one
            return

    async def read(self, consumer: str, count: int, block_ms: int) -> list[Entry]:
        """New entries for this consumer; [] when none came in block_ms. block_ms must be below 1000."""
        reply = await self._do(self._redis.xreadgroup(GROUP, consumer, {self.key: ">"}, count=count, block=block_ms))
        return [Entry(_id(i), fields) for i, fields in _of_stream(reply)]

    async def claim(self, consumer: str, idle_ms: int, count: int) -> list[Entry]:
        """Takes over what a consumer was handed longer than idle_ms ago and has not acknowledged; [] when all that is
        pending has been looked through. What was trimmed meanwhile is no longer pending afterwards."""
        cursor = "0-0"
        while True:
            reply: Any = await self._do(
                self._redis.xautoclaim(self.key, GROUP, consumer, min_idle_time=idle_ms, start_id=cursor, count=count)
            )
            claimed = [(_id(i), fields) for i, fields in reply[1] if fields]
            cursor = _id(reply[0])
            if claimed or cursor == "0-0":
                return await self._with_deliveries(claimed)

    async def _with_deliveries(self, claimed: list[tuple[str, dict[bytes, bytes]]]) -> list[Entry]:
        pipe = self._redis.pipeline(transaction=False)
        for i, _ in claimed:
            pipe.xpending_range(self.key, GROUP, i, i, 1)
        rows: Any = await self._do(pipe.execute()) if claimed else []
        times = [row[0]["times_delivered"] if row else 1 for row in rows]
        return [Entry(i, fields, n) for (i, fields), n in zip(claimed, times, strict=True)]

    async def keep(self, consumer: str, ids: Sequence[str]) -> None:
        """Says that this consumer is still at work on these entries, so that no other claims them yet."""
        if ids:
            await self._do(
                self._redis.xclaim(self.key, GROUP, consumer, min_idle_time=0, message_ids=list(ids), justid=True)
            )

    async def ack(self, ids: Iterable[str]) -> None:
        ids = list(ids)
        if ids:
            await self._do(self._redis.xack(self.key, GROUP, *ids))

    async def bury(self, entry: Entry, reason: str, error: str) -> None:
        """Moves an entry to the dead-letter stream, with why, and acknowledges it; both or neither."""
        pipe = self._redis.pipeline(transaction=True)
        note = {b"reason": reason.encode(), b"error": error.encode()[:4000], b"entry": entry.id.encode()}
        letter: Any = {**entry.fields, **note}
        pipe.xadd(self.dead_key, letter)
        pipe.xack(self.key, GROUP, entry.id)
        await self._do(pipe.execute())

    async def dead(self, count: int = 100) -> list[Entry]:
        """The dead letters, oldest first."""
        reply: Any = await self._do(self._redis.xrange(self.dead_key, count=count))
        return [Entry(_id(i), fields) for i, fields in reply]

    async def heartbeat(self, consumer: str, now: float) -> None:
        """Notes that this consumer lives."""
        await self._do(self._redis.hset(self.alive_key, consumer, repr(now)))

    async def consumers(self) -> dict[str, float]:
        """Each consumer that ever gave a heartbeat and the Unix time of its last."""
        reply: Any = await self._do(self._redis.hgetall(self.alive_key))
        return {_id(name): float(at) for name, at in reply.items()}

    async def leave(self, consumer: str) -> None:
        """Takes a consumer that holds nothing out of the group."""
        await self._do(self._redis.hdel(self.alive_key, consumer))
        held: Any = await self._do(self._redis.xpending_range(self.key, GROUP, "-", "+", 1, consumer))
        if not held:
            await self._do(self._redis.xgroup_delconsumer(self.key, GROUP, consumer))

    async def watermark(self) -> str | None:
        """A stream id before which every entry has been read and acknowledged; None when there is no group.

        Acknowledged after it was stored: so nothing before it is under way any more.
        """
        group = await self._group()
        if group is None:
            return None
        # The order matters: what is delivered after the group was looked at lies behind its last-delivered-id.
        pending: Any = await self._do(self._redis.xpending(self.key, GROUP))
        after = _after(_id(group["last-delivered-id"]))
        return _id(pending["min"]) if pending["pending"] and _order(_id(pending["min"])) < _order(after) else after

    async def trim_read(self) -> int:
        """Removes entries before the watermark, unless other groups read this stream too; returns how many."""
        watermark = await self.watermark()
        if watermark is None or len(await self._groups()) != 1:
            return 0
        return int(await self._do(self._redis.xtrim(self.key, minid=watermark, approximate=True)))

    async def lag(self, now: float | None = None) -> Lag:
        """now: Unix time in seconds; None: the clock's."""
        length = int(await self._do(self._redis.xlen(self.key)))
        group = await self._group() if length else None
        if group is None:
            return Lag(length, length, 0, 0.0)
        pending: Any = await self._do(self._redis.xpending(self.key, GROUP))
        oldest = _id(pending["min"]) if pending["pending"] else await self._next(_id(group["last-delivered-id"]))
        age = (time.time() if now is None else now) - int(oldest.split("-")[0]) / 1000 if oldest else 0.0
        # After a deletion the server no longer knows the group's lag.
        waiting = length if group.get("lag") is None else int(group["lag"])
        return Lag(length, waiting if oldest else 0, pending["pending"], max(0.0, age))

    async def _group(self) -> dict[str, Any] | None:
        return next((g for g in await self._groups() if _id(g["name"]) == GROUP), None)

    async def _groups(self) -> list[dict[str, Any]]:
        try:
            groups: list[dict[str, Any]] = await self._do(self._redis.xinfo_groups(self.key))
        except ResponseError:  # no such key
            return []
        return groups

    async def _next(self, after: str) -> str | None:
        reply: Any = await self._do(self._redis.xrange(self.key, min=f"({after}", count=1))
        return _id(reply[0][0]) if reply else None

    async def _do(self, command: Any) -> Any:
        task = asyncio.current_task()
        cancelling = task.cancelling() if task else 0
        try:
            reply = await command
        except ResponseError as error:
            if "BUSYGROUP" in str(error) or "no such key" in str(error):
                raise
            if "NOGROUP" in str(error):
                await self.join()
                raise StreamDown("stream server: it came back without its data; reading begins anew") from error
            raise StreamDown(f"stream server: it refuses: {error}") from error  # full, read-only, cannot persist
        except (RedisError, OSError, TimeoutError) as error:
            raise StreamDown(f"stream server: {type(error).__name__}: {error}") from error
        if task and task.cancelling() > cancelling:
            # redis-py sends with asyncio.wait_for, which in Python 3.11 may swallow a cancellation (cpython #86296).
            raise asyncio.CancelledError
        return reply


def _order(entry: str) -> tuple[int, int]:
    ms, _, n = entry.partition("-")
    return int(ms), int(n)


def _after(entry: str) -> str:
    ms, n = _order(entry)
    return f"{ms}-{n + 1}"


def _id(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _of_stream(reply: Any) -> list[tuple[Any, dict[bytes, bytes]]]:
    """XREADGROUP's entries of one stream; by protocol redis-py gives a list of pairs or a dict, of lists or lists of
    lists."""
    if not reply:
        return []
    entries = next(iter(reply.values())) if isinstance(reply, dict) else reply[0][1]
    if entries and isinstance(entries[0], list) and entries[0] and isinstance(entries[0][0], tuple | list):
        entries = entries[0]
    return [(i, fields) for i, fields in entries if fields is not None]
