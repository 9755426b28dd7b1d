"""Decisions of guards in the store, summed: by key and result, of the config with which a guard decided last."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, case, func, select

from gateway.core.guards import GuardAction, GuardResult
from gateway.features.labels.rows import ScorerVersion, guard_of
from gateway.statistics.detection import WeightSums
from gateway.store.query import Reading
from gateway.store.tables import exchanges, guard_decisions, tallies

_BY_GUARDS = "guard:"  # begins the strata of calls that were recorded since a guard had a hit, or nearly one


@dataclass(frozen=True, slots=True)
class DecisionSums:
    """Decisions of one guard on recorded calls of one key, with one result."""

    caller: str
    """Name of the key."""
    result: GuardResult
    n: int
    """Recorded calls."""
    sampled: int
    """Number of them that sampling has drawn; the others were recorded because a guard had a hit, or nearly one."""
    sums: WeightSums
    """Sums with w = 1 / π."""


@dataclass(frozen=True, slots=True)
class DecisionSpan:
    """The decisions of one guard since some time, whatever its config was."""

    n: int
    other_configs: int
    """Number of decisions with another config than the last; they are in no rate."""
    first: float | None
    """Arrival of the oldest call with the last config, Unix seconds; None: there is none."""
    action: GuardAction | None
    """The action in force for the newest call."""


def guards_since(connection: Reading, since: float) -> list[str]:
    """The guards that decided on a call since then. since: Unix seconds."""
    d = guard_decisions.c
    return sorted(connection.execute(select(d.guard).where(d.received >= since).distinct()).scalars())


def decision_sums(connection: Reading, of: ScorerVersion, since: float) -> list[DecisionSums]:
    """since: Unix seconds."""
    d, e = guard_decisions.c, exchanges.c
    sampled = func.count(case((~d.stratum.startswith(_BY_GUARDS), 1)))
    weights = (func.sum(1.0 / d.pi), func.sum(1.0 / (d.pi * d.pi)))
    query = (
        select(e.caller, d.result, func.count(), sampled, *weights)
        .join(exchanges, e.id == d.exchange_id)
        .where(d.guard == guard_of(of.scorer), d.received >= since, _same_config(of))
        .group_by(e.caller, d.result)
    )
    return [
        DecisionSums(caller, result, n, drawn, WeightSums(weight, squares))
        for caller, result, n, drawn, weight, squares in connection.execute(query)
    ]


def decision_span(connection: Reading, of: ScorerVersion, since: float) -> DecisionSpan:
    """since: Unix seconds."""
    d = guard_decisions.c
    these = (d.guard == guard_of(of.scorer), d.received >= since)
    counts = (func.count(), func.count(case((_same_config(of), 1))), func.min(case((_same_config(of), d.received))))
    n, same, first = connection.execute(select(*counts).where(*these)).one()
    newest = select(d.action).where(*these).order_by(d.received.desc()).limit(1)
    return DecisionSpan(n, n - same, first, connection.execute(newest).scalar())


def unsampled_strata(connection: Reading, of: ScorerVersion, since: float) -> tuple[str, ...]:
    """The strata of which no call was drawn, of the models that the guard judged since then: only calls with a hit, or
    nearly one, are recorded of them. since: Unix seconds."""
    d, e, t = guard_decisions.c, exchanges.c, tallies.c
    judged = select(e.alias).join(guard_decisions, e.id == d.exchange_id)
    judged = judged.where(d.guard == guard_of(of.scorer), d.received >= since, _same_config(of)).distinct()
    counts = (func.sum(case((t.ledger == ledger, t.n), else_=0)) for ledger in ("seen", "sampled"))
    query = select(t.stratum, *counts).where(t.alias.in_(judged), ~t.stratum.startswith(_BY_GUARDS)).group_by(t.stratum)
    return tuple(sorted(stratum for stratum, seen, sampled in connection.execute(query) if seen and not sampled))


def _same_config(of: ScorerVersion) -> ColumnElement[bool]:
    d = guard_decisions.c
    return and_(d.config_hash == of.config_hash, d.on_side == of.version)
