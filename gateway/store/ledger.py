"""Compares the records that the gateways report as sent with those that arrived: tallies, marks in the stream, and
exchanges.

A gateway appends in order and numbers what it appends without a gap. So of everything before a Tally in the stream,
exactly last_seq exchanges of its process must have arrived once everything before it has been read and acknowledged.
Missing exchanges are then lost; loss_accounting.py finds the cause, where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, CompoundSelect, Connection, case, delete, func, select, union, update

from gateway.core.exchange import Count, Tally
from gateway.store import loss_accounting, score_sums
from gateway.store.engine import insert
from gateway.store.loss_accounting import SequenceGap
from gateway.store.score_sums import CellPlace
from gateway.store.tables import TALLY, dead_letters, exchanges, ledgers, marks, tallies
from gateway.stream.types import order, shard_of

OUTSIDE_POPULATION = ("opted_out", "forbidden")  # reasons that take a call out of the population
_LEDGERS = ("seen", "unsampled", "sampled", "enqueued", "dropped")


ExchangeNumber = tuple[str, int]
"""An exchange by its process's incarnation and its number there."""


@dataclass(frozen=True, slots=True)
class LedgerMark:
    """A position in the stream before which its process had appended everything up to last_seq."""

    incarnation: str
    position: str
    last_seq: int
    enqueued: int
    shard: int


def position(entry: str) -> str:
    """A stream id ("ms-n") so that text sorts as the stream does."""
    ms, n = order(entry)
    _, at, shard = entry.partition("@")
    return f"{ms:020d}-{n:020d}{at}{shard}"


def add_tally(connection: Connection, entry: str, tally: Tally) -> dict[CellPlace, int]:
    """Stores a tally's counts where they exceed the stored ones: a late, older tally lowers nothing.

    Returns the growth of the population.
    """
    now = {_cell(tally, name, c): c.n for name in _LEDGERS for c in getattr(tally, name)}
    if not now:
        _mark(connection, entry, tally, tally.taken)
        return {}
    before = _kept(connection, tally.incarnation)
    grown = {cell: n for cell, n in now.items() if n > before.get(cell, 0)}
    if grown:
        statement = insert(connection.dialect, tallies)
        most = case((tallies.c.n > statement.excluded.n, tallies.c.n), else_=statement.excluded.n)
        rows = [{**dict(zip(TALLY, cell, strict=True)), "n": n} for cell, n in sorted(grown.items())]
        connection.execute(statement.on_conflict_do_update(index_elements=list(TALLY), set_={"n": most}), rows)
    _mark(connection, entry, tally, _taken({**before, **now}))
    return _population({cell: n - before.get(cell, 0) for cell, n in grown.items()})


def _kept(connection: Connection, incarnation: str) -> dict[tuple[str, ...], int]:
    rows = connection.execute(select(tallies).where(tallies.c.incarnation == incarnation).with_for_update())
    return {tuple(row[:-1]): row[-1] for row in rows}


def _cell(tally: Tally, ledger: str, c: Count) -> tuple[str, ...]:
    return tally.incarnation, ledger, c.stratum, c.alias, c.target, c.arm, c.reason


def _taken(cells: Mapping[tuple[str, ...], int]) -> int:
    """Exchanges that the process took into its buffer: sampled and not dropped."""
    sign = {"sampled": 1, "dropped": -1}
    return sum(sign.get(cell[1], 0) * n for cell, n in cells.items())


def _population(grown: dict[tuple[str, ...], int]) -> dict[CellPlace, int]:
    """Counts the population: calls seen minus those outside it."""
    by_place: dict[CellPlace, int] = {}
    for (_, ledger, stratum, alias, target, arm, reason), n in grown.items():
        sign = 1 if ledger == "seen" else -1 if ledger == "unsampled" and reason in OUTSIDE_POPULATION else 0
        if sign:
            place = (alias, target, arm, stratum)
            by_place[place] = by_place.get(place, 0) + sign * n
    return by_place


def population(connection: Connection, aliases: Collection[str]) -> dict[CellPlace, int]:
    """Population that all tallies so far have counted for these aliases, by place."""
    t = tallies.c
    cells = (t.stratum, t.alias, t.target, t.arm, t.reason)
    query = select(t.ledger, *cells, func.sum(t.n)).where(t.alias.in_(aliases), t.ledger.in_(("seen", "unsampled")))
    return _population({("", *row[:-1]): int(row[-1]) for row in connection.execute(query.group_by(t.ledger, *cells))})


def _mark(connection: Connection, entry: str, tally: Tally, taken: int | None) -> None:
    """Stores the tally's mark. taken: None: as by the previous tally, since nothing has changed."""
    place, shard = position(entry), shard_of(entry)
    mark = LedgerMark(tally.incarnation, place, tally.last_seq, tally.last_seq, shard)
    connection.execute(insert(connection.dialect, marks).values(asdict(mark)).on_conflict_do_nothing())
    first = {"incarnation": tally.incarnation, "closed_seq": 0, "enqueued": 0, "settled": 0, "shard": shard}
    connection.execute(insert(connection.dialect, ledgers).values(first).on_conflict_do_nothing())
    newest = {"tally_position": place, "gateway_lost": 0, "state": "stopped" if tally.final else ""}
    newest |= {} if taken is None else {"taken": taken}
    its = (ledgers.c.incarnation == tally.incarnation) & (ledgers.c.tally_position < place)
    connection.execute(update(ledgers).where(its).values(newest))  # alive again, where it had been declared dead


def late_numbers(connection: Connection, seen: Iterable[ExchangeNumber]) -> dict[str, set[int]]:
    """The numbers of exchanges and dead letters that arrive after their mark was closed, by process.

    Must be called before they are written: stored ones have been counted already.
    """
    by_incarnation: dict[str, set[int]] = {}
    for incarnation, seq in seen:
        by_incarnation.setdefault(incarnation, set()).add(seq)
    known = select(ledgers.c.incarnation, ledgers.c.closed_seq).where(ledgers.c.incarnation.in_(by_incarnation))
    found: dict[str, set[int]] = {}
    for incarnation, closed_seq in connection.execute(known).all():
        late = {seq for seq in by_incarnation[incarnation] if seq <= closed_seq}
        if late:
            late -= set(connection.execute(_arrived(incarnation, lambda seq, late=late: seq.in_(late))).scalars())  # type: ignore[misc]
        if late:
            found[incarnation] = late
    return found


def settle_late(connection: Connection, late: Mapping[str, Collection[int]]) -> None:
    """Counts late numbers as settled, and takes them out of the losses."""
    if late:
        score_sums.lock(connection)
    for incarnation, numbers in late.items():
        its = ledgers.c.incarnation == incarnation
        connection.execute(update(ledgers).where(its).values(settled=ledgers.c.settled + len(numbers)))
        loss_accounting.recover(connection, incarnation, numbers)


def _arrived(incarnation: str, chosen: Callable[[Column[Any]], ColumnElement[bool]]) -> CompoundSelect[Any]:
    """The chosen numbers of a process that are stored or dead letters."""
    return union(
        *(select(t.c.seq).where(t.c.incarnation == incarnation, chosen(t.c.seq)) for t in (exchanges, dead_letters))
    )


def close_marks(connection: Connection, settled: Mapping[int, str]) -> int:
    """Closes every mark below what is settled and returns how many exchanges are unaccounted for.

    settled: by shard, a stream id; everything before it has been read and acknowledged.
    """
    for shard, before in settled.items():
        below = select(marks).where(marks.c.shard == shard, marks.c.position < position(before))
        by_incarnation: dict[str, list[LedgerMark]] = {}
        for row in connection.execute(below.order_by(marks.c.position)).mappings():
            mark = LedgerMark(**row)
            by_incarnation.setdefault(mark.incarnation, []).append(mark)
        for incarnation, its in by_incarnation.items():
            _close(connection, its)
            gone = (marks.c.incarnation == incarnation) & (marks.c.position <= its[-1].position)
            connection.execute(delete(marks).where(gone))
    loss_accounting.explain_gaps(connection)
    return loss_accounting.unaccounted(connection)


def _close(connection: Connection, its: Sequence[LedgerMark]) -> None:
    """Closes the marks of one process, in stream order: together, or one by one where something is missing, so that the
    gap is known to lie between two of them."""
    row = connection.execute(select(ledgers).where(ledgers.c.incarnation == its[0].incarnation).with_for_update()).one()
    low, since = row.closed_seq, row.closed_position
    newest = max(its, key=lambda mark: (mark.last_seq, mark.position))
    if newest.last_seq < low:
        return
    came = _came(connection, newest.incarnation, low, newest.last_seq)
    values = {
        "closed_seq": newest.last_seq,
        "closed_position": max(newest.position, row.closed_position),
        "enqueued": max(newest.enqueued, row.enqueued),
        "settled": ledgers.c.settled + came,
    }
    connection.execute(update(ledgers).where(ledgers.c.incarnation == newest.incarnation).values(values))
    if came == newest.last_seq - low:
        return
    for mark in its:
        if mark.last_seq > low:
            missing = mark.last_seq - low - _came(connection, mark.incarnation, low, mark.last_seq)
            gap = SequenceGap(mark.incarnation, low, mark.last_seq, mark.shard, since, mark.position, missing)
            loss_accounting.add_gap(connection, gap)
        low, since = max(low, mark.last_seq), max(since, mark.position)


def _came(connection: Connection, incarnation: str, low: int, high: int) -> int:
    """The number of (low, high] that are stored or dead letters, each counted once."""
    within = _arrived(incarnation, lambda seq: (seq > low) & (seq <= high)).subquery()
    return int(connection.execute(select(func.count()).select_from(within)).scalar_one())


def close_silent(connection: Connection, settled: Mapping[int, str], silent_ms: int) -> None:
    """Closes the ledger of each process without a tally for silent_ms, by its shard's clock: it was killed.

    No process could append during an incident of the shard, such as a fail-over: silence counts from its end. What the
    process had taken by its last tally and never appended is gateway_lost; what it took later is unknown, unless the
    process that followed it found the number.
    """
    resumed = loss_accounting.last_resumed(connection)
    living = select(ledgers).where(ledgers.c.state == "", ledgers.c.tally_position != "")
    for row in connection.execute(living).all():
        before = settled.get(row.shard)
        heard = max(row.tally_position, resumed.get(row.shard, loss_accounting.EVER))
        if before is None or order(before)[0] - int(heard[:20]) < silent_ms:
            continue
        newest = [
            connection.execute(select(func.max(t.c.seq)).where(t.c.incarnation == row.incarnation)).scalar()
            for t in (exchanges, dead_letters)
        ]
        last_seq = max(row.closed_seq, *(seq or 0 for seq in newest))
        mark = LedgerMark(row.incarnation, position(before), last_seq, last_seq, row.shard)
        _close(connection, [mark])
        values = {"state": "dead", "gateway_lost": max(0, row.taken - last_seq)}
        connection.execute(update(ledgers).where(ledgers.c.incarnation == row.incarnation).values(values))
