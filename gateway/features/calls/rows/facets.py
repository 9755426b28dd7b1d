"""Counts of the newest calls by what the list filters, from the index `exchanges_found` alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select

from gateway.store.query import Reading
from gateway.store.tables import exchanges

COUNTED = 3_000
"""The newest calls that are counted."""
MOST_VALUES = 8
FACETS = ("alias", "model", "outcome", "role", "caller")


@dataclass(frozen=True, slots=True)
class Facet:
    name: str
    values: tuple[tuple[str, int], ...]
    """(value, calls), the most frequent first."""
    others: int = 0
    """Number of values that are not listed."""


@dataclass(frozen=True, slots=True)
class Facets:
    facets: tuple[Facet, ...] = ()
    counted: int = 0
    whole: bool = True
    """Whether these are all calls of the time span."""


def count_facets(connection: Reading, since: float | None, chosen: Mapping[str, str]) -> Facets:
    """Counts each facet among the calls that the other choices leave. since: Unix seconds. chosen: by facet."""
    e = exchanges.c
    columns = [e[name] for name in FACETS]
    newest = select(*columns).order_by(e.received.desc(), e.id.desc()).limit(COUNTED)
    if since is not None:
        newest = newest.where(e.received >= since)
    # Grouped here: a database would sort the rows by all columns first.
    found = Counter(tuple(row) for row in connection.execute(newest))
    counts = [(dict(zip(FACETS, map(str, values), strict=True)), n) for values, n in found.items()]
    total = sum(n for _, n in counts)
    return Facets(tuple(_facet(name, counts, chosen) for name in FACETS), total, total < COUNTED)


def _facet(name: str, counts: list[tuple[dict[str, str], int]], chosen: Mapping[str, str]) -> Facet:
    others = {field: value for field, value in chosen.items() if value and field != name}
    found: Counter[str] = Counter()
    for values, n in counts:
        if all(values[field] == value for field, value in others.items()):
            found[values[name]] += n
    if wanted := chosen.get(name):
        found.setdefault(wanted, 0)
    listed = sorted(found.items(), key=lambda item: (item[0] != wanted, -item[1], item[0]))
    return Facet(name, tuple(listed[:MOST_VALUES]), max(0, len(listed) - MOST_VALUES))
