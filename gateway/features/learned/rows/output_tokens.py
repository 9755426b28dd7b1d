"""Reads what recent calls without a limit of their own have produced, for the reservations of later ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import func, select

from gateway.store.query import Reading
from gateway.store.tables import exchanges

_AT_ONCE = 100
_APIS = ("chat", "completions", "responses", "messages")


@dataclass(frozen=True, slots=True)
class CallOutput:
    """One answered call."""

    alias: str
    request: bytes
    """JSON; of a key whose content is not recorded, `{}`."""
    stream: bool
    tokens: float
    """Output tokens of one answer."""
    weight: float
    """1/π."""


def call_outputs(connection: Reading, since: float, limit: int) -> Iterator[CallOutput]:
    """The newest served answers, with their upstream's count of tokens, some at a time: requests may be large.
    since: Unix seconds."""
    e = exchanges.c
    query = (
        select(e.alias, e.request, e.stream, e.output_tokens, e.choices, e.pi)
        .where(e.received >= since, e.role == "served", e.outcome == "ok", e.status == 200, e.api.in_(_APIS))
        .where(e.output_tokens > 0, e.truncated.is_(False), func.length(e.request) > len(b"{}"))
        .order_by(e.received.desc())
        .limit(limit)
    )
    rows = connection.execute(query, execution_options={"yield_per": _AT_ONCE})
    for alias, request, stream, tokens, choices, pi in rows:
        yield CallOutput(alias, bytes(request), stream, tokens / max(choices or 1, 1), 1.0 / pi)
