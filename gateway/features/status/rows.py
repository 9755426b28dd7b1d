"""Queries of the amount recorded, from the store's own sizes."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import distinct, func, select

from gateway.core.exchange import IMPORTED
from gateway.store.query import Reading
from gateway.store.tables import exchanges, runs

_LATEST = 1_000
_SHORTEST_S = 3600.0


@dataclass(frozen=True, slots=True)
class RecordedBytes:
    """Recently recorded amounts."""

    a_day: float
    """Bytes a day: of bodies and texts, and 2 KiB for each call."""
    processes: int
    """Gateway processes that the latest calls came from; each appends to one stream."""


def recorded_bytes(connection: Reading, since: float, now: float) -> RecordedBytes | None:
    """The mean since a time, or since the first call after it that still has its texts; None if there is none."""
    e = exchanges.c
    chosen = (e.received >= since, e.bytes > 0, e.role != IMPORTED)
    total, first = connection.execute(select(func.sum(e.bytes), func.min(e.received)).where(*chosen)).one()
    if not total:
        return None
    shared = select(func.sum(runs.c.chunk_bytes)).where(runs.c.last_at >= since)
    total += connection.execute(shared).scalar() or 0
    latest = select(e.incarnation).where(*chosen).order_by(e.received.desc()).limit(_LATEST).subquery()
    processes = connection.execute(select(func.count(distinct(latest.c.incarnation)))).scalar_one()
    return RecordedBytes(float(total) * 86_400 / max(now - first, _SHORTEST_S), processes)
