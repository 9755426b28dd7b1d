"""Feedback that people gave on served answers, as the metrics of a split need it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, select

from gateway.core.chunked import chunked
from gateway.store.tables import scores

_CHUNK = 500
GivenFeedback = Mapping[str, Sequence[tuple[float, float]]]
"""exchange → (Unix seconds when it was given, value) of each person's."""


def feedback_given(connection: Connection, ids: Sequence[str]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Name ("feedback:thumb") → what was given on these exchanges. Feedback with a label only has no value: it is not
    in it."""
    s = scores.c
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for chunk in chunked(ids, _CHUNK):
        query = select(s.scorer, s.exchange_id, s.answered, s.value).where(
            s.exchange_id.in_(chunk), s.subject == "exchange", s.kind == "feedback", s.value.is_not(None)
        )
        for scorer, exchange, at, value in connection.execute(query):
            found.setdefault(scorer, {}).setdefault(exchange, []).append((at, value))
    return found
