"""Floors of limits: the usage of their scopes in the windows that are open. Only reads.

Usage is summed by UTC day, so it bounds limits by day, week and month. In another time zone the days that are only
partly in the window are left out: a floor is never too high for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, select

from gateway.core.call_scopes import CallScopes, call_scopes_of
from gateway.core.keys import Directory, KeyRecord, LimitedRecord, record_kind, shown_name, with_defaults
from gateway.core.limits import Limit, LimitScope, ScopeKind, counter_name, limits_of, window_end, window_start
from gateway.core.usage import UsageSums
from gateway.store.directory import all_rows
from gateway.store.tables import usage
from gateway.store.usage import read_usage

WINDOWS = ("day", "week", "month")
_KEEP_S = 86_400

Daily = Mapping[str, Mapping[date, UsageSums]]
"""The usage of each scope of one kind, by id and day."""


@dataclass(frozen=True, slots=True)
class SpentFloor:
    """The least that one limit must count as spent in its window."""

    name: str
    """The name that core.limits.counter_name gives."""
    amount: int
    """Calls, tokens, nano-dollars or billionths of a GPU-second."""
    expires_ms: int
    """Unix milliseconds; some time after the window ends."""


def limited_scopes(connection: Connection, static: Directory, now: float) -> list[LimitScope]:
    """The keys, people, teams and organizations with limits, of gateway.yaml (static) and of the store."""
    found = (_scope(record, record.limits) for record in records_with_defaults(connection, static, now))
    return [scope for scope in found if scope.limits]


def limited_call_scopes(connection: Connection, static: Directory, now: float) -> list[LimitScope]:
    """Lists the scopes of calls to a model or with a tag that have limits. End users are left out: there are too
    many.
    """
    found = []
    for record in records_with_defaults(connection, static, now):
        of = call_scopes_of(_scope(record, {}), record.limits, CallScopes(()))
        scopes = (scope for _, scope in (*of.models, *of.tags))
        found += [replace(scope, limits=tuple(_in_windows(scope.limits))) for scope in scopes]
    return [scope for scope in found if scope.limits]


def soft_scopes(connection: Connection, static: Directory, now: float) -> list[LimitScope]:
    """The scopes with their soft limits."""
    records = records_with_defaults(connection, static, now)
    shared = ({"time_zone": record.limits.get("time_zone"), **record.limits.get("soft", {})} for record in records)
    found = (_scope(record, settings) for record, settings in zip(records, shared, strict=True))
    return [scope for scope in found if scope.limits]


def records_with_defaults(connection: Connection, static: Directory, now: float) -> list[LimitedRecord]:
    groups = (static.organizations, static.teams, static.people, static.keys)
    records: list[LimitedRecord] = [record for group in groups for record in group.values()]
    records += [row.record for row in all_rows(connection, deleted_since=now)[1]]
    return [with_defaults(static, each) if isinstance(each, KeyRecord) else each for each in records]


def _scope(record: LimitedRecord, settings: Mapping[str, Any]) -> LimitScope:
    limits = tuple(_in_windows(limits_of(settings)))
    return LimitScope(record_kind(record), record.id, limits, shown_name(record))


def _in_windows(limits: Iterable[Limit]) -> Iterator[Limit]:
    return (limit for limit in limits if limit.window in WINDOWS)


def teams_of_keys(connection: Connection, since: date) -> dict[str, str]:
    """The team with which each key, by its name, was used last from that day on (UTC); "": with none."""
    u = usage.c
    by_key = select(u.key_name, u.team).where(u.day >= since.isoformat(), u.experiment == "", u.scorer == "")
    rows = connection.execute(by_key.group_by(u.key_name, u.team).order_by(func.max(u.day), u.team))
    return {name: team for name, team in rows}  # the newest of a name is the last


def spent_floors(connection: Connection, scopes: Iterable[LimitScope], now: float) -> list[SpentFloor]:
    """The floors above zero. now: Unix seconds, by the stream server's clock."""
    scopes = list(scopes)
    today = datetime.fromtimestamp(now, UTC).date()
    firsts = [_first_day(limit, now) for scope in scopes for limit in scope.limits]
    since = min([today, *firsts])
    daily = {kind: _daily(connection, kind, since, today) for kind in sorted({scope.kind for scope in scopes})}
    return [floor for scope in scopes for floor in _floors(scope, daily[scope.kind], now) if floor.amount]


def _floors(scope: LimitScope, daily: Daily, now: float) -> Iterator[SpentFloor]:
    used = daily.get(scope.id, {})
    for limit in scope.limits:
        first = _first_day(limit, now)
        amount = sum(_measured(limit, sums) for day, sums in used.items() if day >= first)
        expires_s = window_end(limit.window or "day", limit.zone, now) + _KEEP_S
        yield SpentFloor(counter_name(scope, limit, now), amount, round(expires_s * 1000))


def _measured(limit: Limit, sums: UsageSums) -> int:
    if limit.measure == "requests":
        return sums.calls
    if limit.measure == "gpu_seconds":
        return sums.nano_gpu_seconds
    return sums.nano_usd if limit.measure == "usd" else sums.input_tokens + sums.output_tokens


def _first_day(limit: Limit, now: float) -> date:
    """The first UTC day that is completely in the window."""
    start = window_start(limit.window or "day", limit.zone, now).astimezone(UTC)
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    return start.date() if start == midnight else start.date() + timedelta(days=1)


def _daily(connection: Connection, kind: ScopeKind, since: date, until: date) -> Daily:
    found: dict[str, dict[date, UsageSums]] = {}
    for row in read_usage(connection, (kind, "day"), since, until):
        found.setdefault(row.by[kind], {})[date.fromisoformat(row.by["day"])] = row.sums
    return found
