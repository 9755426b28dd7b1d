"""What failed in one arm of a ramp, counted by the database for each caller."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Text, and_, case, func, literal_column, select

from gateway.core.exchange import CLIENT_ENDED
from gateway.core.request_refusals import REFUSING_STATUSES
from gateway.store.tables import TARGET, exchanges


@dataclass(frozen=True, slots=True)
class ArmInTime:
    """What one arm served within a time: first to end of `received`, Unix seconds."""

    arm: str
    target: str
    """The arm's own; another target's answer, a fallback's, is a failure."""
    first: float
    end: float
    stratum: str | None = None
    """Stratum of the calls that count; None: all."""


def caller_failures(
    connection: Connection, plan: str, of: ArmInTime, *, keyed: bool, empty_fails: bool = False
) -> dict[str, tuple[int, int, float, float]]:
    """caller → (calls, units, sum, sum of squares) of its units' shares of failed answers.

    Answers that refuse their request, and those that a client did not wait for, are in none of these. keyed,
    empty_fails: as served_answers takes them.
    """
    e = exchanges.c
    key = literal_column("'key '", Text) + e.caller if keyed else e.id
    unit = func.coalesce(e.cluster, key)
    own = TARGET.in_([of.target])
    whole = and_(e.outcome == "ok", e.status < 400, own)
    failed = case((and_(whole, e.empty.is_not(True)) if empty_fails else whole, 0.0), else_=1.0)
    refused = and_(e.outcome != "ok", e.status.in_(sorted(REFUSING_STATUSES)), own)
    ours = (e.plan == plan, e.role == "served", e.arm == of.arm, e.outcome.not_in(CLIENT_ENDED), ~refused)
    share, calls = func.avg(failed).label("share"), func.count().label("calls")
    in_time = [e.received >= of.first, e.received < of.end]
    in_time += [] if of.stratum is None else [e.stratum == of.stratum]
    u = select(e.caller, share, calls).where(*ours, *in_time).group_by(e.caller, unit).subquery().c
    query = select(u.caller, func.sum(u.calls), func.count(), func.sum(u.share), func.sum(u.share * u.share))
    rows = connection.execute(query.group_by(u.caller))
    return {row[0]: (int(row[1]), int(row[2]), float(row[3]), float(row[4])) for row in rows}
