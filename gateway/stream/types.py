"""The corridor's words: an entry, how far behind the readers are, and the order of entry ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GROUP = "evals"
EVICTS = "the stream server's maxmemory-policy is %s: when its memory is full it throws the stream away; set noeviction"


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """One record as it lies in the stream. id: the stream's ("ms-n", in a sharded stream "ms-n@shard").
    deliveries: how often it was handed out."""

    id: str
    fields: Mapping[bytes, bytes]
    deliveries: int = 1


@dataclass(frozen=True, slots=True)
class Lag:
    """length: entries in the stream. waiting: not yet handed to the group. pending: handed out, not acknowledged.
    oldest_s: age of the oldest entry that is not acknowledged; 0 when there is none."""

    length: int = 0
    waiting: int = 0
    pending: int = 0
    oldest_s: float = 0.0

    def __add__(self, other: Lag) -> Lag:
        """Of two shards: together, and the older of their oldest."""
        return Lag(
            self.length + other.length,
            self.waiting + other.waiting,
            self.pending + other.pending,
            max(self.oldest_s, other.oldest_s),
        )


@dataclass(frozen=True, slots=True)
class TrimmedEntries:
    """What left the stream before the group had read it. to: the oldest id that stayed; "" when nothing ever did."""

    unread: int = 0
    to: str = ""


@dataclass(frozen=True, slots=True)
class ShardSnapshot:
    """One shard at one moment, by its server's clock. settled: an id before which every entry has been read and
    acknowledged, and none will come; the server's time where nothing is under way. run_id: of the node that holds the
    stream: another one means that a server was restarted or replaced, and may have lost its last second.
    asked_ms, answered_ms: the server's time before and after it said so, in Unix ms. up_ms: since it began."""

    settled: str
    run_id: str
    asked_ms: int
    answered_ms: int
    trimmed: TrimmedEntries = TrimmedEntries()
    up_ms: int = 1 << 62


def order(entry: str) -> tuple[int, int]:
    """A key that sorts ids as the stream does."""
    ms, _, n = entry.partition("@")[0].partition("-")
    return int(ms), int(n or 0)


def after(entry: str) -> str:
    """The next id that can be."""
    ms, n = order(entry)
    return f"{ms}-{n + 1}"


def shard_of(entry: str) -> int:
    return int(entry.partition("@")[2] or 0)


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def of_stream(reply: Any) -> list[tuple[Any, dict[bytes, bytes]]]:
    """XREADGROUP's entries of one stream; by protocol redis-py gives a list of pairs or a dict, of lists or lists of
    lists."""
    if not reply:
        return []
    entries = next(iter(reply.values())) if isinstance(reply, dict) else reply[0][1]
    if entries and isinstance(entries[0], list) and entries[0] and isinstance(entries[0][0], tuple | list):
        entries = entries[0]
    return [(i, fields) for i, fields in entries if fields is not None]
