"""Usage and cost: the sums that gateways report in their tallies, and the queries on them.

A tally's sums are cumulative, so that one that arrives twice, late or out of order changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import Connection, delete, func, literal, or_, select, update

from gateway.core.did_you_mean import did_you_mean
from gateway.core.exchange import Tally
from gateway.core.usage import NANO, UsageSums
from gateway.store.engine import adding, replacing
from gateway.store.tables import USAGE, USAGE_SUMS, ledgers, usage
from gateway.store.where import QueryError
from gateway.stream.types import order

CLIENT, EXPERIMENT, SCORER = "client", "experiment", "scorer"
"""Values of the dimension `source`: who pays."""

STOPPED_MS, DEAD_MS = 3_600_000, 32 * 86_400_000
"""Age of the newest tally of a process from which its rows are merged."""
MOST_MERGED = 50

DIMENSIONS: Mapping[str, tuple[str, ...]] = {
    "day": ("day",),
    "month": ("day",),
    "source": ("experiment", "scorer"),
    "organization": ("organization",),
    "team": ("team",),
    "person": ("person",),
    "key": ("key_id",),
    "tag": ("tags",),
    "alias": ("alias",),
    "upstream": ("upstream",),
    "model": ("model",),
    "experiment": ("experiment",),
    "arm": ("arm",),
    "scorer": ("scorer",),
}
"""Dimensions that usage is summed by, and the columns that each is computed from."""


@dataclass(frozen=True, slots=True)
class UsageRow:
    """The usage of one combination of values."""

    by: Mapping[str, str]
    """The value of each dimension; with `key`, also `key_name`, its newest name. "" if it does not apply."""
    sums: UsageSums

    @property
    def usd(self) -> float | None:
        """Cost of the calls whose cost is known. None if there are calls, and the cost of none is known."""
        unknown = self.sums.calls > 0 and self.sums.unpriced_calls == self.sums.calls
        return None if unknown else self.sums.nano_usd / NANO

    @property
    def gpu_seconds(self) -> float:
        """GPU-seconds of the user's own engines, as far as they have a price."""
        return self.sums.nano_gpu_seconds / NANO


def add_usage(connection: Connection, tally: Tally) -> None:
    """Stores a tally's sums where they exceed the stored ones: a late, older tally lowers nothing."""
    if not tally.usage or _is_merged(connection, tally.incarnation):
        return
    names = ("key_name", *USAGE_SUMS)
    statement = replacing(connection.dialect, usage, names, lambda given: given.calls > usage.c.calls)
    rows = [
        {"incarnation": tally.incarnation, **each.cell._asdict(), **each.sums._asdict()}
        for each in sorted(tally.usage, key=lambda each: each.cell)  # one order of locks
    ]
    connection.execute(statement, rows)


def _is_merged(connection: Connection, incarnation: str) -> bool:
    """Recognises a tally that arrives again from a process that had ended before. Its ledger stays locked meanwhile."""
    query = select(ledgers.c.usage_merged).where(ledgers.c.incarnation == incarnation).with_for_update()
    return bool(connection.execute(query).scalar())


def merge_ended(connection: Connection, settled: Mapping[int, str]) -> int:
    """Merges the rows of processes that have ended into rows of no process, so that the table grows with keys, models
    and days, and not with restarts. Returns the number of processes, MOST_MERGED at most.

    settled: by shard of the stream, an id before which everything has been read and acknowledged. A process that has
    reported its stop reports nothing more; one that fell silent might, and is left alone for a month.
    """
    ended = [incarnation for shard, before in settled.items() for incarnation in _ended(connection, shard, before)]
    if not ended:
        return 0
    chosen = ended[:MOST_MERGED]
    cell = [usage.c[name] for name in USAGE if name != "incarnation"]
    sums = [func.sum(usage.c[name]) for name in USAGE_SUMS]
    merged = (
        select(literal(""), *cell, func.max(usage.c.key_name), *sums)
        .where(usage.c.incarnation.in_(chosen))
        .group_by(*cell)
        .order_by(*cell)  # one order of locks
    )
    names = ["incarnation", *(column.name for column in cell), "key_name", *USAGE_SUMS]
    connection.execute(adding(connection.dialect, usage, USAGE_SUMS).from_select(names, merged))
    connection.execute(delete(usage).where(usage.c.incarnation.in_(chosen)))
    connection.execute(update(ledgers).where(ledgers.c.incarnation.in_(chosen)).values(usage_merged=True))
    return len(chosen)


def _ended(connection: Connection, shard: int, before: str) -> list[str]:
    """The processes of a shard whose newest tally is old enough, locked in one order."""
    now_ms = order(before)[0]
    ages = {"stopped": STOPPED_MS, "dead": DEAD_MS}
    old = [
        (ledgers.c.state == state) & (ledgers.c.tally_position < f"{max(0, now_ms - age):020d}")
        for state, age in ages.items()
    ]
    query = select(ledgers.c.incarnation).where(
        ledgers.c.shard == shard, ledgers.c.usage_merged.is_(False), ledgers.c.tally_position != "", or_(*old)
    )
    return list(connection.execute(query.order_by(ledgers.c.incarnation).with_for_update()).scalars())


def read_usage(connection: Connection, by: Sequence[str], since: date, until: date, **filters: str) -> list[UsageRow]:
    """Usage from the day `since` to the day `until`, both included (UTC), summed and sorted by these dimensions.

    by: names in DIMENSIONS; (): the total, one row. A call of several tags counts under each of them, so rows by tag
    may add up to more than the total. filters: dimension → value; "" stands for usage that it does not apply to. Raises
    QueryError for an unknown dimension.
    """
    _check([*by, *filters])
    columns = dict.fromkeys(column for name in (*by, *filters) for column in DIMENSIONS[name])
    read = [usage.c[name] for name in (*columns, *(["key_name"] if "key" in by else []))]
    sums = [func.sum(usage.c[name]).label(name) for name in USAGE_SUMS]
    within = usage.c.day.between(since.isoformat(), until.isoformat())
    query = select(*read, *sums, func.max(usage.c.day).label("newest")).where(within).group_by(*read)
    found: dict[tuple[str, ...], UsageSums] = {} if by else {(): UsageSums()}
    names: dict[str, tuple[str, str]] = {}  # by key: the day of its newest name, and the name
    for row in connection.execute(query).mappings():
        added = UsageSums(*(int(row[name] or 0) for name in USAGE_SUMS))
        for values in _combinations(row, by, filters):
            found[values] = found.get(values, UsageSums()).plus(added)
        if "key" in by:
            names[row["key_id"]] = max(names.get(row["key_id"], ("", "")), (row["newest"], row["key_name"]))
    return [_row(by, values, found[values], names) for values in sorted(found)]


def _check(dimensions: Iterable[str]) -> None:
    for name in dimensions:
        if name not in DIMENSIONS:
            hint = did_you_mean(name, DIMENSIONS) or f"; expected one of {', '.join(DIMENSIONS)}"
            raise QueryError(f'usage has no dimension "{name}"{hint}')


def _combinations(row: Mapping[Any, Any], by: Sequence[str], filters: Mapping[str, str]) -> list[tuple[str, ...]]:
    """The combinations of values under which a row counts: several where it has several tags, none where it does not
    match the filters."""
    if any(wanted not in _values(name, row) for name, wanted in filters.items()):
        return []
    combinations: list[tuple[str, ...]] = [()]
    for name in by:
        kept = [filters[name]] if name in filters else _values(name, row)
        combinations = [(*before, value) for before in combinations for value in kept]
    return combinations


def _values(dimension: str, row: Mapping[Any, Any]) -> list[str]:
    if dimension == "tag":
        return row["tags"].split() or [""]
    if dimension == "month":
        return [row["day"][:7]]
    if dimension == "source":
        return [SCORER if row["scorer"] else EXPERIMENT if row["experiment"] else CLIENT]
    return [row[DIMENSIONS[dimension][0]]]


def _row(by: Sequence[str], values: tuple[str, ...], sums: UsageSums, names: Mapping[str, tuple[str, str]]) -> UsageRow:
    shown: dict[str, str] = {}
    for name, value in zip(by, values, strict=True):
        shown[name] = value
        if name == "key":
            shown["key_name"] = names[value][1]
    return UsageRow(shown, sums)
