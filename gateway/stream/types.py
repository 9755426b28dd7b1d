"""The types of the corridor: an entry, the lag, a shard's snapshot; and functions for entry ids and raw replies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.core.exchange import Exchange, from_fields

GROUP = "evals"
EVICTS = "the stream server's maxmemory-policy is %s: it evicts the stream when its memory is full; set noeviction"


@dataclass(frozen=True, slots=True)
class StreamEntry:
    id: str  # "ms-n"; in a sharded stream "ms-n@shard"
    fields: Mapping[bytes, bytes]
    deliveries: int = 1  # how often it was delivered to a consumer


def exchange_in(entry: StreamEntry) -> Exchange | None:
    """The exchange of an entry, so that its dead letter counts in the ledger; None where it cannot be read."""
    try:
        record = from_fields(entry.fields)
    except ValueError:
        return None
    return record if isinstance(record, Exchange) else None


@dataclass(frozen=True, slots=True)
class Lag:
    """The consumers' delay behind the gateway."""

    length: int = 0  # entries in the stream
    waiting: int = 0  # entries not yet delivered to the group
    pending: int = 0  # entries delivered and not acknowledged
    oldest_s: float = 0.0  # age of the oldest entry that is not acknowledged; 0 if there is none
    unread_s: float = 0.0  # age of the oldest entry that has not been delivered; 0 if there is none

    def __add__(self, other: Lag) -> Lag:
        """The lag of two shards together: sums, and the older age."""
        return Lag(
            self.length + other.length,
            self.waiting + other.waiting,
            self.pending + other.pending,
            max(self.oldest_s, other.oldest_s),
            max(self.unread_s, other.unread_s),
        )


@dataclass(frozen=True, slots=True)
class TrimmedEntries:
    """Entries trimmed from a stream before the group had read them."""

    unread: int = 0  # how many
    to: str = ""  # the oldest id that was kept at the last such trim; "" if there has been none


@dataclass(frozen=True, slots=True)
class ShardSnapshot:
    """One shard at one moment, by its server's clock."""

    settled: str
    """An id before which every entry has been read and acknowledged, and no entry will arrive any more. The server's
    time if nothing is pending."""
    run_id: str
    """The run id of the node that holds the stream. A new one means that the server was restarted or replaced, and may
    have lost its last second."""
    asked_ms: int
    """The server's time before `settled` was read, in Unix milliseconds."""
    answered_ms: int
    """The server's time after `run_id` was read, in Unix milliseconds."""
    trimmed: TrimmedEntries = TrimmedEntries()
    up_ms: int = 1 << 62
    """Milliseconds since the server started."""


def order(entry: str) -> tuple[int, int]:
    """A sort key: ids in the order of the stream."""
    ms, _, n = entry.partition("@")[0].partition("-")
    return int(ms), int(n or 0)


def after(entry: str) -> str:
    """The smallest id above this one."""
    ms, n = order(entry)
    return f"{ms}-{n + 1}"


def shard_of(entry: str) -> int:
    return int(entry.partition("@")[2] or 0)


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def of_stream(reply: Any) -> list[tuple[Any, dict[bytes, bytes]]]:
    """The entries in XREADGROUP's reply for one stream.

    redis-py returns a list of pairs or a dict, of lists or of lists of lists, depending on the protocol version.
    """
    if not reply:
        return []
    entries = next(iter(reply.values())) if isinstance(reply, dict) else reply[0][1]
    if entries and isinstance(entries[0], list) and entries[0] and isinstance(entries[0][0], tuple | list):
        entries = entries[0]
    return [(i, fields) for i, fields in entries if fields is not None]
