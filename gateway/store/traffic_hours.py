"""The quarter-hours in which a model had calls."""

from __future__ import annotations

from sqlalchemy import Connection, select

from gateway.store.tables import exchanges

QUARTER_S = 900


def quarters_with_calls(connection: Connection, alias: str, since: float, until: float) -> list[int]:
    """Quarter-hours with a served call of this alias, in order, as Unix seconds // 900.

    Each query stops at the first call that it meets and the next one begins a quarter-hour later, so that a week takes
    672 queries at most, however many calls it has.
    """
    e = exchanges.c
    found: list[int] = []
    at = since
    while at < until:
        query = select(e.received).where(e.alias == alias, e.role == "served", e.received >= at, e.received < until)
        received = connection.execute(query.order_by(e.received).limit(1)).scalar()
        if received is None:
            break
        found.append(int(received // QUARTER_S))
        at = float((found[-1] + 1) * QUARTER_S)
    return found
