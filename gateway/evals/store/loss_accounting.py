"""What never came, and why: gaps in the numbers of a process, and what befell the stream between the same two places.

A gap with a cause is a loss, counted by reason; one without is unaccounted for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, delete, exists, func, select, update

from gateway.evals.store.engine import insert
from gateway.evals.store.tables import ledgers
from gateway.evals.store.tables_delivery import gaps, incidents, stream_nodes
from gateway.stream.types import ShardSnapshot, order

STREAM_LOST = "stream_lost"
TRIMMED = "trimmed"
GATEWAY_LOST = "gateway_lost"
FSYNC_MS = 2_000  # `appendfsync everysec`: the server lets at most two seconds pass
EVER = ""  # a position before all others


@dataclass(frozen=True, slots=True)
class SequenceGap:
    """Of the numbers in (low_seq, high_seq], `missing` never came. Positions: of the tallies around them."""

    incarnation: str
    low_seq: int
    high_seq: int
    shard: int
    from_position: str
    to_position: str
    missing: int
    reason: str = ""


def keep(connection: Connection, gap: SequenceGap) -> None:
    if gap.missing:
        connection.execute(insert(connection.dialect, gaps).values(asdict(gap)).on_conflict_do_nothing())


def found(connection: Connection, incarnation: str, seqs: Iterable[int]) -> None:
    """These had been taken for lost, and came after all."""
    its = gaps.c.incarnation == incarnation
    for seq in seqs:
        within = its & (gaps.c.low_seq < seq) & (gaps.c.high_seq >= seq)
        connection.execute(update(gaps).where(within).values(missing=gaps.c.missing - 1))
    connection.execute(delete(gaps).where(its, gaps.c.missing <= 0))


def note(connection: Connection, looks: Mapping[int, ShardSnapshot]) -> None:
    """Keeps what befell each shard since it was last looked at: another server process, or entries trimmed unread."""
    for shard, look in looks.items():
        now = {"run_id": look.run_id, "confirmed": _at(look.asked_ms), "trimmed_to": look.trimmed.to}
        row = connection.execute(select(stream_nodes).where(stream_nodes.c.shard == shard).with_for_update()).first()
        if row is not None and row.run_id != look.run_id:
            since = max(0, int(row.confirmed[:20]) - FSYNC_MS)
            _befell(connection, shard, (_at(since), _at(look.answered_ms)), STREAM_LOST)
        if look.trimmed.to and (row is None or row.trimmed_to != look.trimmed.to):
            at = _at(*order(look.trimmed.to))
            _befell(connection, shard, (at, at), TRIMMED)
        statement = insert(connection.dialect, stream_nodes).values(shard=shard, **now)
        connection.execute(statement.on_conflict_do_update(index_elements=["shard"], set_=now))


def _befell(connection: Connection, shard: int, between: tuple[str, str], reason: str) -> None:
    values = {"shard": shard, "from_position": between[0], "to_position": between[1], "reason": reason}
    connection.execute(insert(connection.dialect, incidents).values(values).on_conflict_do_nothing())


def explain(connection: Connection) -> None:
    """Gives each gap that has none the reason of an incident that lies between the same two tallies."""
    for reason in (TRIMMED, STREAM_LOST):
        overlaps = (
            (incidents.c.shard == gaps.c.shard)
            & (incidents.c.reason == reason)
            & (incidents.c.from_position <= gaps.c.to_position)
            & (incidents.c.to_position >= gaps.c.from_position)
        )
        connection.execute(update(gaps).where(gaps.c.reason == "", exists().where(overlaps)).values(reason=reason))


def unaccounted(connection: Connection) -> int:
    """How many exchanges were enqueued and neither stored nor buried, up to the closed marks, for no reason known."""
    total = connection.execute(select(func.sum(gaps.c.missing)).where(gaps.c.reason == "")).scalar()
    return int(total or 0)


def lost(connection: Connection) -> dict[str, int]:
    """Exchanges known to be lost, by reason."""
    query = select(gaps.c.reason, func.sum(gaps.c.missing)).where(gaps.c.reason != "").group_by(gaps.c.reason)
    found_lost = {reason: int(n) for reason, n in connection.execute(query)}
    gateways = connection.execute(select(func.sum(ledgers.c.gateway_lost))).scalar()
    return {STREAM_LOST: 0, TRIMMED: 0, **found_lost, GATEWAY_LOST: int(gateways or 0)}


def _at(ms: int, n: int = 0) -> str:
    return f"{ms:020d}-{n:020d}"
