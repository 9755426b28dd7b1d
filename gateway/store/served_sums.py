"""Sums over the answers that arms have served, by unit and by caller: counted by the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Text,
    and_,
    case,
    func,
    literal_column,
    or_,
    select,
)

from gateway.core.exchange import CLIENT_ENDED, Target
from gateway.core.request_refusals import REFUSING_STATUSES
from gateway.store.served_answers import is_own
from gateway.store.tables import exchanges, scores


def _failed(own: ColumnElement[bool], empty_fails: bool) -> ColumnElement[float]:
    """1 for an answer that failed, 0 for any other. own: the arm's own target gave it, and not a fallback."""
    e = exchanges.c
    whole = and_(e.outcome == "ok", e.status < 400, own)
    return case((and_(whole, e.empty.is_not(True)) if empty_fails else whole, 0.0), else_=1.0)


@dataclass(frozen=True, slots=True)
class Exposure:
    """Totals of what an arm has served in one plan."""

    requests: int
    usd: float
    newest: float | None
    """Unix seconds of its newest answer."""


def exposure_of(connection: Connection, plan: str, arm: str) -> Exposure:
    e = exchanges.c
    query = select(func.count(), func.sum(e.cost_usd), func.max(e.received))
    row = connection.execute(query.where(e.plan == plan, e.role == "served", e.arm == arm)).one()
    return Exposure(int(row[0]), float(row[1] or 0.0), None if row[2] is None else float(row[2]))


@dataclass(frozen=True, slots=True)
class ServedCalls:
    """The calls that arms have served in a span of time."""

    plan: str
    """Hash of the plan."""
    targets: Mapping[str, Target]
    """Arm → its target; another target's answer, a fallback's, is a failure."""
    first: float
    end: float
    """The span, first to end of `received`, Unix seconds."""
    stratum: str | None = None
    """Stratum of the calls that count; None if all do."""
    keyed: bool = False
    """Whether a call without a conversation belongs to the unit of its key, and not to one of its own."""

    def conditions(self) -> list[ColumnElement[bool]]:
        e = exchanges.c
        found = [e.plan == self.plan, e.role == "served", e.arm.in_(list(self.targets))]
        found += [e.received >= self.first, e.received < self.end]
        return found if self.stratum is None else [*found, e.stratum == self.stratum]

    def unit(self) -> ColumnElement[str]:
        e = exchanges.c
        return func.coalesce(e.cluster, literal_column("'key '", Text) + e.caller if self.keyed else e.id)

    def own(self) -> ColumnElement[bool]:
        """Whether the arm's own target has answered."""
        e = exchanges.c
        return or_(*(and_(e.arm == arm, is_own(target)) for arm, target in self.targets.items()))


def unit_failures(
    connection: Connection, calls: ServedCalls, *, empty_fails: bool = False
) -> dict[str, tuple[int, float, float]]:
    """arm → (units, sum, sum of squares) of its units' shares of failed answers; counted by the database. empty_fails:
    as served_answers takes it."""
    e = exchanges.c
    share = func.avg(_failed(calls.own(), empty_fails)).label("value")
    waited = (*calls.conditions(), e.outcome.not_in(CLIENT_ENDED))
    return _arm_sums(connection, select(e.arm, share).where(*waited).group_by(e.arm, calls.unit()))


@dataclass(frozen=True, slots=True)
class SwitchSums:
    """One metric of both arms."""

    metric: str
    bounded: bool
    """Values are in [0, 1]."""
    arms: Mapping[str, tuple[int, float, float]]
    """arm → (units, sum, sum of squares) of the units' means."""


def unit_sums(connection: Connection, calls: ServedCalls) -> list[SwitchSums]:
    """Errors, cost, duration and every score of what the arms served; counted by the database."""
    e, s = exchanges.c, scores.c
    ours = [*calls.conditions(), e.outcome != "client_gone"]
    unit, whole = calls.unit(), and_(e.outcome == "ok", e.status < 400)
    failures = unit_failures(connection, calls)
    found = [SwitchSums("error_rate", True, failures)]
    for metric, column in (("cost_per_1k", 1000 * e.cost_usd), ("total_s", e.total_s)):
        means = select(e.arm, func.avg(column).label("value")).where(*ours, whole, column.is_not(None))
        found.append(SwitchSums(metric, False, _arm_sums(connection, means.group_by(e.arm, unit))))
    ours += [s.subject == "exchange", s.status == "scored", s.value01.is_not(None), s.direction != "neutral"]
    joined = (exchanges, scores, s.exchange_id == e.id)
    scorers = select(s.scorer).join_from(*joined).where(*ours).distinct()
    for scorer in sorted(connection.execute(scorers).scalars()):
        means = select(e.arm, func.avg(s.value01).label("value")).join_from(*joined)
        means = means.where(*ours, s.scorer == scorer).group_by(e.arm, unit)
        found.append(SwitchSums(scorer, True, _arm_sums(connection, means)))
    return found


def _arm_sums(connection: Connection, means: Select[Any]) -> dict[str, tuple[int, float, float]]:
    """means: of (arm, value), one row a unit."""
    u = means.subquery().c
    query = select(u.arm, func.count(), func.sum(u.value), func.sum(u.value * u.value)).group_by(u.arm)
    return {row[0]: (int(row[1]), float(row[2]), float(row[3])) for row in connection.execute(query)}


def ramp_units(
    connection: Connection, calls: ServedCalls
) -> tuple[dict[str, int], list[tuple[str, tuple[str, str, str, str], int]]]:
    """(arm → its units, (arm, (alias, key, plain or stream, API), units)) of calls, with those whose client left."""
    e = exchanges.c
    unit, within = func.count(func.distinct(calls.unit())), calls.conditions()
    totals = connection.execute(select(e.arm, unit).where(*within).group_by(e.arm))
    kinds = (e.alias, e.caller, e.stream, e.api)
    rows = connection.execute(select(e.arm, *kinds, unit).where(*within).group_by(e.arm, *kinds))
    by_kind = [(r[0], (r[1], r[2], "stream" if r[3] else "plain", r[4]), int(r[5])) for r in rows]
    return {row[0]: int(row[1]) for row in totals}, by_kind


def caller_failures(
    connection: Connection, served: ServedCalls, *, empty_fails: bool = False
) -> dict[str, tuple[int, int, float, float]]:
    """caller → (calls, units, sum, sum of squares) of its units' shares of failed answers.

    Answers that refuse their request, and those that a client did not wait for, count in none of these. empty_fails:
    as served_answers takes it.
    """
    e = exchanges.c
    own = served.own()
    refused = and_(e.outcome != "ok", e.status.in_(sorted(REFUSING_STATUSES)), own)
    ours = (*served.conditions(), e.outcome.not_in(CLIENT_ENDED), ~refused)
    share, calls = func.avg(_failed(own, empty_fails)).label("share"), func.count().label("calls")
    u = select(e.caller, share, calls).where(*ours).group_by(e.caller, served.unit()).subquery().c
    query = select(u.caller, func.sum(u.calls), func.count(), func.sum(u.share), func.sum(u.share * u.share))
    rows = connection.execute(query.group_by(u.caller))
    return {row[0]: (int(row[1]), int(row[2]), float(row[3]), float(row[4])) for row in rows}
