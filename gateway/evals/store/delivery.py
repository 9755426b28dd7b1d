"""How what the gateways sent stands in the store: the whole ledger in sums, for `gateway status`. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, case, func, select

from gateway.evals.store import loss_accounting
from gateway.evals.store.tables import dead_letters, ledgers, score_cells, tallies

Reasons = Mapping[str, int]
STATUSES = ("scored", "not_applicable", "error", "timeout", "budget")


@dataclass(frozen=True, slots=True)
class Delivery:
    """Exchanges of all gateway processes that ever were, in sums; each line adds up:

        seen = unsampled + sampled
        sampled = enqueued + dropped + lost{gateway_lost} + waiting
        enqueued = settled + lost{stream_lost, trimmed} + unaccounted + in_flight

    settled: stored or buried. waiting: in gateways' buffers, by their newest tallies. in_flight: in the stream, or in a
    consumer's hand, or read and not yet looked at. scores: by scorer, by status; buried: letters ever, by reason.
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
    lost = loss_accounting.lost(connection)
    unaccounted = loss_accounting.unaccounted(connection)
    enqueued, settled = _arrived(connection)
    dropped = sums.get("dropped", {})
    sampled = sum(sums.get("sampled", {}).values())
    waiting = sampled - sum(dropped.values()) - lost[loss_accounting.GATEWAY_LOST] - enqueued
    under_way = enqueued - settled - lost[loss_accounting.STREAM_LOST] - lost[loss_accounting.TRIMMED] - unaccounted
    return Delivery(
        seen=sum(sums.get("seen", {}).values()), unsampled=sums.get("unsampled", {}), sampled=sampled, dropped=dropped,
        waiting=max(0, waiting), enqueued=enqueued, settled=settled, lost={k: n for k, n in lost.items() if n},
        unaccounted=unaccounted, in_flight=max(0, under_way), buried=_buried(connection), scores=_scores(connection),
    )  # fmt: skip


def _tallied(connection: Connection) -> dict[str, dict[str, int]]:
    """By ledger, by reason."""
    columns = tallies.c.ledger, tallies.c.reason
    found: dict[str, dict[str, int]] = {}
    for ledger, reason, n in connection.execute(select(*columns, func.sum(tallies.c.n)).group_by(*columns)):
        found.setdefault(ledger, {})[reason] = int(n)
    return found


def _arrived(connection: Connection) -> tuple[int, int]:
    """enqueued, and stored or buried. A process that was killed had enqueued what came after its last tally, too."""
    said = (
        select(tallies.c.incarnation, func.sum(tallies.c.n).label("n"))
        .where(tallies.c.ledger == "enqueued")
        .group_by(tallies.c.incarnation)
        .subquery()
    )
    known = func.coalesce(said.c.n, 0)
    most = case((ledgers.c.enqueued > known, ledgers.c.enqueued), else_=known)
    both = select(func.sum(most), func.sum(ledgers.c.settled)).select_from(
        ledgers.outerjoin(said, said.c.incarnation == ledgers.c.incarnation)
    )
    enqueued, settled = connection.execute(both).one()
    return int(enqueued or 0), int(settled or 0)


def _buried(connection: Connection) -> dict[str, int]:
    query = select(dead_letters.c.reason, func.count()).group_by(dead_letters.c.reason)
    return {reason: n for reason, n in connection.execute(query)}


def _scores(connection: Connection) -> dict[str, dict[str, int]]:
    sums = [func.sum(score_cells.c[f"n_{status}"]) for status in STATUSES]
    found = connection.execute(select(score_cells.c.scorer, *sums).group_by(score_cells.c.scorer))
    return {row[0]: {s: int(n) for s, n in zip(STATUSES, row[1:], strict=True) if n} for row in found}
