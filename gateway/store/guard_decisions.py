"""Decisions of guards on recorded calls: the rows of `guard_decisions`, made of the records. Written by write.py."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b

from sqlalchemy import Connection

from gateway.core.conversation import turns
from gateway.core.exchange import Exchange
from gateway.core.guards import GuardDecision, from_json
from gateway.store.bulk_insert import insert_new
from gateway.store.rows import Row
from gateway.store.tables import guard_decisions


def add(connection: Connection, exchanges: Iterable[Exchange]) -> None:
    """Stores the decisions on exchanges that are new. Shadows have those of their served call, which count once."""
    judged = (each for each in exchanges if each.guards is not None and each.role == "served")
    rows = [row for exchange in judged for row in _rows(exchange)]
    if rows:
        insert_new(connection, guard_decisions, rows)


def _rows(exchange: Exchange) -> Iterator[Row]:
    once: dict[tuple[str, str], GuardDecision] = {(d.guard, d.on): d for d in from_json(exchange.guards)}
    asked = _asked(exchange) if any(d.unit for d in once.values()) else None
    for d in once.values():
        found = (" ".join(d.found), d.matches, d.seconds, d.config_hash)
        place = (exchange.pi, exchange.stratum, exchange.received)
        unit = (d.unit, asked) if d.unit else (None, None)
        yield exchange.id, d.guard, d.on, d.action, d.result, d.acted, d.score, d.failure, *found, *place, *unit


def _asked(exchange: Exchange) -> str | None:
    """A digest of key, end user and prompt; None if the last message is not a user's, or no content is recorded."""
    role, text = turns(exchange.request)[-1]
    if role != "user" or not text.strip():
        return None
    named = "\0".join((exchange.caller, exchange.user_digest or "", " ".join(text.split())))
    return blake2b(named.encode("utf-8", "replace"), digest_size=12).hexdigest()
