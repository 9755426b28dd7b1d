"""Records that never arrived, and the causes: gaps in a process's numbers, and incidents of the stream at the same
positions.

A gap with a cause is a loss, counted by reason; a gap without one is unaccounted for. `delivery` sums up the whole
ledger for `gateway status`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from sqlalchemy import Connection, case, delete, exists, func, select, update

from gateway.store.engine import insert, replacing
from gateway.store.tables import dead_letters, gaps, incidents, ledgers, score_cells, stream_nodes, tallies
from gateway.stream.types import ShardSnapshot, order

STREAM_LOST = "stream_lost"
TRIMMED = "trimmed"
GATEWAY_LOST = "gateway_lost"
FSYNC_MS = 2_000  # with `appendfsync everysec` the server loses at most two seconds
EVER = ""  # a position before all others


@dataclass(frozen=True, slots=True)
class SequenceGap:
    """Gap: `missing` of the numbers in (low_seq, high_seq] never arrived. Positions: of the tallies around them."""

    incarnation: str
    low_seq: int
    high_seq: int
    shard: int
    from_position: str
    to_position: str
    missing: int
    reason: str = ""


def add_gap(connection: Connection, gap: SequenceGap) -> None:
    if gap.missing:
        connection.execute(insert(connection.dialect, gaps).values(asdict(gap)).on_conflict_do_nothing())


def recover(connection: Connection, incarnation: str, seqs: Iterable[int]) -> None:
    """Takes numbers that arrived late out of their gaps."""
    its = gaps.c.incarnation == incarnation
    for seq in seqs:
        within = its & (gaps.c.low_seq < seq) & (gaps.c.high_seq >= seq)
        connection.execute(update(gaps).where(within).values(missing=gaps.c.missing - 1))
    connection.execute(delete(gaps).where(its, gaps.c.missing <= 0))


def add_incidents(connection: Connection, looks: Mapping[int, ShardSnapshot]) -> None:
    """Records incidents of each shard since the last call: a new server process, or entries trimmed unread."""
    for shard, look in looks.items():
        now = {"run_id": look.run_id, "confirmed": _at(look.asked_ms), "trimmed_to": look.trimmed.to}
        row = connection.execute(select(stream_nodes).where(stream_nodes.c.shard == shard).with_for_update()).first()
        if row is not None and row.run_id != look.run_id:
            since = max(0, int(row.confirmed[:20]) - FSYNC_MS)
            _add_incident(connection, shard, (_at(since), _at(look.answered_ms)), STREAM_LOST)
        if look.trimmed.to and (row is None or row.trimmed_to != look.trimmed.to):
            at = _at(*order(look.trimmed.to))
            _add_incident(connection, shard, (at, at), TRIMMED)
        connection.execute(replacing(connection.dialect, stream_nodes, now).values(shard=shard, **now))


def _add_incident(connection: Connection, shard: int, between: tuple[str, str], reason: str) -> None:
    values = {"shard": shard, "from_position": between[0], "to_position": between[1], "reason": reason}
    connection.execute(insert(connection.dialect, incidents).values(values).on_conflict_do_nothing())


def last_resumed(connection: Connection) -> dict[int, str]:
    """Shard → the position from which its newest server process is known to answer."""
    lost = incidents.c.reason == STREAM_LOST
    query = select(incidents.c.shard, func.max(incidents.c.to_position)).where(lost).group_by(incidents.c.shard)
    return {shard: to for shard, to in connection.execute(query)}


def explain_gaps(connection: Connection) -> None:
    """Gives each unexplained gap the reason of an incident between the same two tallies."""
    for reason in (TRIMMED, STREAM_LOST):
        overlaps = (
            (incidents.c.shard == gaps.c.shard)
            & (incidents.c.reason == reason)
            & (incidents.c.from_position <= gaps.c.to_position)
            & (incidents.c.to_position >= gaps.c.from_position)
        )
        connection.execute(update(gaps).where(gaps.c.reason == "", exists().where(overlaps)).values(reason=reason))


def unaccounted(connection: Connection) -> int:
    """Exchanges that were enqueued before a closed mark and never arrived, without a known cause."""
    total = connection.execute(select(func.sum(gaps.c.missing)).where(gaps.c.reason == "")).scalar()
    return int(total or 0)


def lost_by_reason(connection: Connection) -> dict[str, int]:
    """Exchanges known to be lost, by reason."""
    query = select(gaps.c.reason, func.sum(gaps.c.missing)).where(gaps.c.reason != "").group_by(gaps.c.reason)
    found_lost = {reason: int(n) for reason, n in connection.execute(query)}
    gateways = connection.execute(select(func.sum(ledgers.c.gateway_lost))).scalar()
    return {STREAM_LOST: 0, TRIMMED: 0, **found_lost, GATEWAY_LOST: int(gateways or 0)}


def _at(ms: int, n: int = 0) -> str:
    return f"{ms:020d}-{n:020d}"


Reasons = Mapping[str, int]
STATUSES = ("scored", "not_applicable", "error", "timeout", "budget")


@dataclass(frozen=True, slots=True)
class Delivery:
    """Counts of exchanges over all gateway processes, past and present; each line adds up:

        seen = unsampled + sampled
        sampled = enqueued + dropped + lost{gateway_lost} + waiting
        enqueued = settled + lost{stream_lost, trimmed} + unaccounted + in_flight

    waiting: in the gateways' buffers, by their newest tallies. in_flight: in the stream, or read and not yet
    acknowledged. settled: stored, or a dead letter. buried: dead letters, by reason. scores: by scorer, by status.
    """

    seen: int = 0
    unsampled: Reasons = field(default_factory=dict)
    sampled: int = 0
    dropped: Reasons = field(default_factory=dict)
    waiting: int = 0
    enqueued: int = 0
    settled: int = 0
    lost: Reasons = field(default_factory=dict)
    unaccounted: int = 0
    in_flight: int = 0
    buried: Reasons = field(default_factory=dict)
    scores: Mapping[str, Reasons] = field(default_factory=dict)


def delivery(connection: Connection) -> Delivery:
    sums = _tallied(connection)
    lost = lost_by_reason(connection)
    missing = unaccounted(connection)
    enqueued, settled = _arrived(connection)
    dropped = sums.get("dropped", {})
    later = _sampled_after_the_last_tally(connection)
    sampled = sum(sums.get("sampled", {}).values()) + later
    waiting = sampled - sum(dropped.values()) - lost[GATEWAY_LOST] - enqueued
    in_flight = enqueued - settled - lost[STREAM_LOST] - lost[TRIMMED] - missing
    return Delivery(
        seen=sum(sums.get("seen", {}).values()) + later,
        unsampled=sums.get("unsampled", {}),
        sampled=sampled,
        dropped=dropped,
        waiting=max(0, waiting),
        enqueued=enqueued,
        settled=settled,
        lost={reason: n for reason, n in lost.items() if n},
        unaccounted=missing,
        in_flight=max(0, in_flight),
        buried=dead_letters_by_reason(connection),
        scores=_scores(connection),
    )


def _tallied(connection: Connection) -> dict[str, dict[str, int]]:
    """Sums of the tallies: ledger → reason → count."""
    columns = tallies.c.ledger, tallies.c.reason
    found: dict[str, dict[str, int]] = {}
    for ledger, reason, n in connection.execute(select(*columns, func.sum(tallies.c.n)).group_by(*columns)):
        found.setdefault(ledger, {})[reason] = int(n)
    return found


def _arrived(connection: Connection) -> tuple[int, int]:
    """Returns (enqueued, settled). A killed process had also enqueued the records that arrived after its last tally."""
    reported = (
        select(tallies.c.incarnation, func.sum(tallies.c.n).label("n"))
        .where(tallies.c.ledger == "enqueued")
        .group_by(tallies.c.incarnation)
        .subquery()
    )
    known = func.coalesce(reported.c.n, 0)
    most = case((ledgers.c.enqueued > known, ledgers.c.enqueued), else_=known)
    both = select(func.sum(most), func.sum(ledgers.c.settled)).select_from(
        ledgers.outerjoin(reported, reported.c.incarnation == ledgers.c.incarnation)
    )
    enqueued, settled = connection.execute(both).one()
    return int(enqueued or 0), int(settled or 0)


def _sampled_after_the_last_tally(connection: Connection) -> int:
    """Exchanges that processes sampled, as what arrived of them or is lost shows, above what their tallies say."""
    ledger, n = tallies.c.ledger, tallies.c.n
    reported = (
        select(
            tallies.c.incarnation,
            func.sum(case((ledger == "sampled", n), else_=0)).label("sampled"),
            func.sum(case((ledger == "dropped", n), else_=0)).label("dropped"),
        )
        .group_by(tallies.c.incarnation)
        .subquery()
    )
    known = func.coalesce(reported.c.sampled, 0)
    shown = ledgers.c.enqueued + ledgers.c.gateway_lost + func.coalesce(reported.c.dropped, 0)
    later = case((shown > known, shown - known), else_=0)
    joined = ledgers.outerjoin(reported, reported.c.incarnation == ledgers.c.incarnation)
    return int(connection.execute(select(func.sum(later)).select_from(joined)).scalar() or 0)


def dead_letters_by_reason(connection: Connection) -> dict[str, int]:
    query = select(dead_letters.c.reason, func.count()).group_by(dead_letters.c.reason)
    return {reason: n for reason, n in connection.execute(query)}


def _scores(connection: Connection) -> dict[str, dict[str, int]]:
    sums = [func.sum(score_cells.c[f"n_{status}"]) for status in STATUSES]
    found = connection.execute(select(score_cells.c.scorer, *sums).group_by(score_cells.c.scorer))
    return {row[0]: {s: int(n) for s, n in zip(STATUSES, row[1:], strict=True) if n} for row in found}
