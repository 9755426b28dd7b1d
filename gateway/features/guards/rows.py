"""Decisions of guards in the store: read, summed by the hour, and the newest hits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
from sqlalchemy import ColumnElement, and_, case, delete, func, select, text

from gateway.core.guard_ramp import CountedCall
from gateway.core.guards import GuardAction, GuardFailure, GuardResult
from gateway.features.guards.hourly.hours import (
    BY_GUARDS,
    DAY_S,
    HOUR_S,
    DecisionHour,
    DecisionRow,
    hours_from_json,
    hours_to_json,
    summed,
)
from gateway.features.guards.hourly.usual_range import DriftState, state_from_json, state_to_json
from gateway.features.labels.rows import OF_GUARD, ScorerVersion, guard_of
from gateway.features.learned.rows import save_state, saved_states
from gateway.scoring.asker import ASKED_BY_GUARDS
from gateway.store.engine import Transaction, replacing
from gateway.store.query import Reading
from gateway.store.tables import exchanges, guard_decisions, guard_hours, scores, tallies
from gateway.store.usage import SCORER, read_usage

SETTLED_S = 3_600.0
"""Seconds after the end of an hour from which on its decisions have been stored."""
KEPT_S = 35 * DAY_S
_ASKED = (ASKED_BY_GUARDS, OF_GUARD)


@dataclass(frozen=True, slots=True)
class GuardCost:
    """Calls of models by guards, as far as they went through a gateway."""

    scorer: str
    """`guards SECTION` for the questions of a section of `scorers`, which guards share; `guard NAME` for topics."""
    calls: int
    tokens: int
    """Sum of input and output."""
    usd: float | None
    """Cost of the calls with a price; None if none has one."""


def guard_costs(connection: Reading, since: float, now: float) -> list[GuardCost]:
    """The costs of the UTC days from the one of `since` on. since, now: Unix seconds."""
    first, last = (datetime.fromtimestamp(at, UTC).date() for at in (since, now))
    rows = read_usage(connection, ("scorer",), first, last, source=SCORER)
    asked = [row for row in rows if row.by["scorer"].startswith(_ASKED)]
    return [
        GuardCost(row.by["scorer"], row.sums.calls, row.sums.input_tokens + row.sums.output_tokens, row.usd)
        for row in asked
    ]


def guards_since(connection: Reading, since: float) -> list[str]:
    """The guards that decided on a call since then. since: Unix seconds."""
    d = guard_decisions.c
    return sorted(connection.execute(select(d.guard).where(d.received >= since).distinct()).scalars())


def guards_summed(connection: Reading, since: float) -> list[str]:
    """The guards with sums of hours since then, which are few: decisions are not searched. since: Unix seconds."""
    h = guard_hours.c
    return sorted(connection.execute(select(h.guard).where(h.begin >= since).distinct()).scalars())


def decided_hours(
    connection: Reading, guard: str, since: float, until: float | None = None
) -> dict[float, list[DecisionHour]]:
    """The hours of a guard's decisions on calls that arrived from `since` on and before `until`, in Unix seconds."""
    return summed(_decisions(connection, guard, since, until))


def _decisions(connection: Reading, guard: str, since: float, until: float | None) -> Iterator[DecisionRow]:
    d, e = guard_decisions.c, exchanges.c
    decided = (d.on_side, d.config_hash, d.action, d.result, d.failure, d.score, d.acted, d.seconds, d.pi, d.stratum)
    query = (
        select(e.caller, e.unit, *decided, d.received)
        .join(exchanges, e.id == d.exchange_id)
        .where(d.guard == guard, d.received >= since)
    )
    query = query if until is None else query.where(d.received < until)
    yield from (DecisionRow(*tuple(row)) for row in connection.execute(query, execution_options={"yield_per": 5_000}))


def stored_hours(connection: Reading, guard: str, since: float) -> dict[float, list[DecisionHour]]:
    """The hours that consumers have summed, from the one on in which `since` lies. since: Unix seconds."""
    h = guard_hours.c
    query = select(h.begin, h.sums).where(h.guard == guard, h.begin >= since // HOUR_S * HOUR_S)
    return {float(begin): hours_from_json(sums) for begin, sums in connection.execute(query)}


def read_times(connection: Reading, guard: str, since: float) -> dict[float, float]:
    """Time at which each stored hour was summed, by its beginning. since: Unix seconds."""
    h = guard_hours.c
    query = select(h.begin, h.read_at).where(h.guard == guard, h.begin >= since)
    return {float(begin): float(at) for begin, at in connection.execute(query)}


def hours_since(connection: Reading, guard: str, since: float, now: float) -> dict[float, list[DecisionHour]]:
    """The hours since then: what is settled as stored, and all else from the decisions. since, now: Unix seconds."""
    settled = {
        begin
        for begin, at in read_times(connection, guard, since).items()
        if at >= begin + HOUR_S + SETTLED_S and begin >= since
    }
    found = {begin: of for begin, of in stored_hours(connection, guard, since).items() if begin in settled}
    begin, first = since // HOUR_S * HOUR_S, since
    while begin <= now:
        end = begin + HOUR_S
        if begin in settled:
            first = end
        elif end in settled or end > now or end % DAY_S == 0:  # a day at a time, since each unit is held meanwhile
            found |= decided_hours(connection, guard, first, None if end > now else end)
            first = end
        begin = end
    return {begin: of for begin, of in found.items() if of}


def store_hour(connection: Transaction, guard: str, begin: float, of: list[DecisionHour], read_at: float) -> None:
    """Stores the sums of an hour in place of those that were read before. begin, read_at: Unix seconds."""
    statement = replacing(connection.dialect, guard_hours, ("read_at", "sums"))
    connection.execute(statement.values(guard=guard, begin=begin, read_at=read_at, sums=hours_to_json(of)))


def forget_hours(connection: Transaction, before: float) -> None:
    connection.execute(delete(guard_hours).where(guard_hours.c.begin < before))


_DRIFT, _UNSAMPLED = "", "unsampled"
"""Values in place of a model name in the table of drift alarms."""


def save_watch(
    connection: Transaction, guard: str, drift: DriftState | None, unsampled: tuple[str, ...], at: float
) -> None:
    """Stores what a consumer has found out about a guard. at: Unix seconds."""
    if drift is not None:
        save_state(connection, OF_GUARD + guard, _DRIFT, state_to_json(drift), at)
    save_state(connection, OF_GUARD + guard, _UNSAMPLED, orjson.dumps(unsampled).decode(), at)


def watched(connection: Reading, guard: str) -> tuple[DriftState | None, tuple[str, ...]]:
    """(the drift alarm, the strata of which no call was drawn) as a consumer found them last."""
    found = saved_states(connection, OF_GUARD + guard)
    drift = state_from_json(found[_DRIFT]) if _DRIFT in found else None
    return drift, tuple(orjson.loads(found[_UNSAMPLED])) if _UNSAMPLED in found else ()


def first_decision(connection: Reading, guard: str) -> float | None:
    """The arrival of the oldest call that a guard decided on, Unix seconds; None if there is none."""
    d = guard_decisions.c
    return connection.execute(select(func.min(d.received)).where(d.guard == guard)).scalar()


@dataclass(frozen=True, slots=True)
class RecentHit:
    """A recorded call with a hit, nearly one, or no decision. Not what matched."""

    exchange_id: str
    received: float
    caller: str
    alias: str
    action: GuardAction
    result: GuardResult
    acted: bool
    score: float | None
    found: str
    """Names of the patterns that matched, with a blank between them."""
    failure: GuardFailure | None
    config_hash: str


def recent_hits(connection: Reading, guard: str, most: int) -> list[RecentHit]:
    """The newest calls with a hit, nearly one, or no decision, newest first."""
    d, e = guard_decisions.c, exchanges.c
    decided = (d.action, d.result, d.acted, d.score, d.found, d.failure, d.config_hash)
    query = (
        select(d.exchange_id, d.received, e.caller, e.alias, *decided)
        .join(exchanges, e.id == d.exchange_id)
        .where(d.guard == guard, text("guard_decisions.result <> 'pass'"))  # as in the partial index
        .order_by(d.received.desc(), d.exchange_id)
        .limit(most)
    )
    return [RecentHit(*row) for row in connection.execute(query)]


def unsampled_strata(connection: Reading, of: ScorerVersion, since: float) -> tuple[str, ...]:
    """The strata of which no call was drawn, of the models that the guard judged since then: only calls with a hit, or
    nearly one, are recorded of them. since: Unix seconds."""
    d, e, t = guard_decisions.c, exchanges.c, tallies.c
    judged = select(e.alias).join(guard_decisions, e.id == d.exchange_id)
    judged = judged.where(d.guard == guard_of(of.scorer), d.received >= since, _same_config(of)).distinct()
    counts = (func.sum(case((t.ledger == ledger, t.n), else_=0)) for ledger in ("seen", "sampled"))
    query = select(t.stratum, *counts).where(t.alias.in_(judged), ~t.stratum.startswith(BY_GUARDS)).group_by(t.stratum)
    return tuple(sorted(stratum for stratum, seen, sampled in connection.execute(query) if seen and not sampled))


def counted_calls(connection: Reading, guard: str, since: float) -> list[CountedCall]:
    """The calls since then, oldest first. since: Unix seconds."""
    d, e = guard_decisions.c, exchanges.c
    query = (
        select(d.exchange_id, d.received, e.caller, d.unit, d.action, d.result, d.asked)
        .join(exchanges, e.id == d.exchange_id)
        .where(d.guard == guard, d.received >= since, d.unit.is_not(None))
        .order_by(d.received, d.exchange_id)
    )
    return [CountedCall(*row) for row in connection.execute(query)]


def feedback_on(connection: Reading, guard: str, since: float) -> list[tuple[str, str, float]]:
    """(exchange, scorer, value) of the feedback on these calls. since: Unix seconds."""
    d, s = guard_decisions.c, scores.c
    query = (
        select(s.exchange_id, s.scorer, s.value)
        .join(guard_decisions, d.exchange_id == s.exchange_id)
        .where(d.guard == guard, d.received >= since, d.unit.is_not(None))
        .where(s.subject == "exchange", s.kind == "feedback", s.value.is_not(None))
    )
    return [(exchange, scorer, value) for exchange, scorer, value in connection.execute(query)]


def _same_config(of: ScorerVersion) -> ColumnElement[bool]:
    d = guard_decisions.c
    return and_(d.config_hash == of.config_hash, d.on_side == of.version)
