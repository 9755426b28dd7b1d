"""What the gateways say they sent against what arrived: Tallies, marks in the stream, and the exchanges between them.

A gateway appends in order and numbers what it appends without a gap. So of everything before a Tally in the stream,
exactly last_seq exchanges of its process must have come; they have, once everything before it has been read and
acknowledged. What is missing then is lost.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, case, delete, func, select, update

from gateway.evals.store.cells import Place
from gateway.evals.store.engine import insert
from gateway.evals.store.tables import TALLY, dead_letters, exchanges, ledgers, marks, tallies
from gateway.exchange import Count, Exchange, Tally

OUTSIDE = ("opted_out", "forbidden")  # reasons that take a call out of the population
_LEDGERS = ("seen", "unsampled", "sampled", "enqueued", "dropped")


def position(entry: str) -> str:
    """A stream id ("ms-n") so that text sorts as the stream does."""
    ms, _, n = entry.partition("-")
    return f"{int(ms):020d}-{int(n or 0):020d}"


def take(connection: Connection, entry: str, tally: Tally) -> dict[Place, int]:
    """Keeps a Tally's counts where they exceed those kept: a late, older one lowers nothing.

    Returns by how much the population grew.
    """
    before = _kept(connection, tally.incarnation)
    now = {_cell(tally, name, c): c.n for name in _LEDGERS for c in getattr(tally, name)}
    grown = {cell: n for cell, n in now.items() if n > before.get(cell, 0)}
    if grown:
        statement = insert(connection.dialect, tallies)
        most = case((tallies.c.n > statement.excluded.n, tallies.c.n), else_=statement.excluded.n)
        rows = [{**dict(zip(TALLY, cell, strict=True)), "n": n} for cell, n in sorted(grown.items())]
        connection.execute(statement.on_conflict_do_update(index_elements=list(TALLY), set_={"n": most}), rows)
    _mark(connection, entry, tally)
    return _population({cell: n - before.get(cell, 0) for cell, n in grown.items()})


def _kept(connection: Connection, incarnation: str) -> dict[tuple[str, ...], int]:
    rows = connection.execute(select(tallies).where(tallies.c.incarnation == incarnation).with_for_update())
    return {tuple(row[:-1]): row[-1] for row in rows}


def _cell(tally: Tally, ledger: str, c: Count) -> tuple[str, ...]:
    return tally.incarnation, ledger, c.stratum, c.alias, c.target, c.arm, c.reason


def _population(grown: dict[tuple[str, ...], int]) -> dict[Place, int]:
    """seen, less what is outside the population."""
    by_place: dict[Place, int] = {}
    for (_, ledger, stratum, alias, target, arm, reason), n in grown.items():
        sign = 1 if ledger == "seen" else -1 if ledger == "unsampled" and reason in OUTSIDE else 0
        if sign:
            place = (alias, target, arm, stratum)
            by_place[place] = by_place.get(place, 0) + sign * n
    return by_place


def _mark(connection: Connection, entry: str, tally: Tally) -> None:
    values = {
        "incarnation": tally.incarnation,
        "position": position(entry),
        "last_seq": tally.last_seq,
        "enqueued": sum(c.n for c in tally.enqueued),
    }
    connection.execute(insert(connection.dialect, marks).values(values).on_conflict_do_nothing())
    first = {"incarnation": tally.incarnation, "closed_seq": 0, "enqueued": 0, "settled": 0}
    connection.execute(insert(connection.dialect, ledgers).values(first).on_conflict_do_nothing())


def arrived(connection: Connection, new: Sequence[Exchange]) -> None:
    """Counts exchanges that came after their mark was closed: they had been taken for lost, and are not."""
    incarnations = {e.incarnation for e in new}
    rows = connection.execute(
        select(ledgers.c.incarnation, ledgers.c.closed_seq).where(ledgers.c.incarnation.in_(incarnations))
    )
    for incarnation, closed_seq in rows.all():
        late = sum(1 for e in new if e.incarnation == incarnation and e.seq <= closed_seq)
        if late:
            connection.execute(
                update(ledgers)
                .where(ledgers.c.incarnation == incarnation)
                .values(settled=ledgers.c.settled + bindparam("late")),
                {"late": late},
            )


def close(connection: Connection, watermark: str) -> int:
    """Closes every mark below the watermark and returns how many exchanges are unaccounted for.

    watermark: a stream id; everything before it has been read and acknowledged.
    """
    below = select(marks).where(marks.c.position < position(watermark)).order_by(marks.c.position)
    newest = {mark.incarnation: mark for mark in connection.execute(below)}
    for incarnation, mark in newest.items():
        _close(connection, incarnation, mark.last_seq, mark.enqueued)
        connection.execute(delete(marks).where(marks.c.incarnation == incarnation, marks.c.position <= mark.position))
    return unaccounted(connection)


def _close(connection: Connection, incarnation: str, last_seq: int, enqueued: int) -> None:
    its = ledgers.c.incarnation == incarnation
    closed_seq = connection.execute(select(ledgers.c.closed_seq).where(its).with_for_update()).scalar_one()
    if last_seq < closed_seq:
        return
    more = sum(
        connection.execute(
            select(func.count()).where(t.c.incarnation == incarnation, t.c.seq > closed_seq, t.c.seq <= last_seq)
        ).scalar_one()
        for t in (exchanges, dead_letters)
    )
    values = {"closed_seq": last_seq, "enqueued": enqueued, "settled": ledgers.c.settled + more}
    connection.execute(update(ledgers).where(its).values(values))


def unaccounted(connection: Connection) -> int:
    """Sum over the processes of what was enqueued and neither stored nor buried, up to their closed marks."""
    missing = ledgers.c.enqueued - ledgers.c.settled
    total = connection.execute(select(func.sum(missing)).where(missing > 0)).scalar()
    return int(total or 0)
