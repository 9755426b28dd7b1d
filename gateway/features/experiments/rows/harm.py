"""Queries about pairs that ask for a stop for harm."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import BigInteger, Connection, cast, select

from gateway.statistics.dependence import BLOCK_S
from gateway.store.tables import pairs


def times_of_pairs(connection: Connection, plan: str) -> Iterator[float]:
    """Unix seconds of one joined pair in each quarter of an hour; nothing is read before the first is asked for."""
    p = pairs.c
    quarter = cast(p.received, BigInteger) // int(BLOCK_S)
    query = select(quarter).where(p.plan == plan, p.state == "joined", p.place.is_not(None)).distinct()
    for (found,) in connection.execute(query):
        yield found * BLOCK_S
