"""Budgets of callers that are nearly or completely used, for `gateway status`: those of keys, people, teams and
organizations, and of their calls to a model or with a tag. End users are too many, and are left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gateway.core.call_scopes import CallScopes, call_scopes_of
from gateway.core.keys import Directory, KeyRecord, LimitedRecord
from gateway.core.limits import LimitScope
from gateway.features.keys.limits_used import UsedLimit, scope_of, used_limits
from gateway.features.usage.rows import records_with_defaults
from gateway.store.query import Reading
from gateway.stream import Corridor


@dataclass(frozen=True, slots=True)
class NearLimit:
    """A budget of which a caller has used at least 80 %."""

    scope: str
    """The kind of the caller: key, person, team, organization; or model, tag: calls to one model or with one tag."""
    name: str
    """Name of the caller; of calls to a model or with a tag, `team-search/chat`."""
    limit: str
    """Name of the limit as in gateway.yaml: `usd_per_month`."""
    amount: float
    """Requests, tokens, US dollars or GPU-seconds, as the limit says."""
    spent: float
    """The amount that all gateways have reported as spent, and what was carried over."""
    share: float
    """Spent amount divided by the limit; from 1 on, calls are refused."""
    resets_at: float | None
    """End of its window, Unix seconds."""


def caller_budgets(connection: Reading, static: Directory, now: float) -> dict[LimitScope, str]:
    """The scopes with a budget, each with its name for people. Limits per minute and `concurrency` are left out.

    static: of gateway.yaml. now: Unix seconds.
    """
    found: dict[LimitScope, str] = {}
    for record in records_with_defaults(connection, static, now):
        for scope in _scopes(record):
            limits = tuple(limit for limit in scope.limits if not limit.heals_with_time)
            if limits:
                found[replace(scope, limits=limits)] = _name(scope, record)
    return found


def _scopes(record: LimitedRecord) -> list[LimitScope]:
    scope = scope_of(record)
    of_calls = call_scopes_of(scope, record.limits, CallScopes(()))
    return [scope, *(each for _, each in (*of_calls.models, *of_calls.tags))]


def _name(scope: LimitScope, record: LimitedRecord) -> str:
    """A key has an id of its own, which says nothing to people."""
    return scope.id.replace(record.id, record.name, 1) if isinstance(record, KeyRecord) else scope.id


async def near_limits(corridor: Corridor, budgets: Mapping[LimitScope, str], now: float) -> tuple[NearLimit, ...]:
    """The budgets that are used to at least 80 %, the most used first. Raises StreamDown."""
    used = await used_limits(corridor, budgets, now)
    return tuple(_near(each, budgets) for each in used if each.near)


def _near(used: UsedLimit, budgets: Mapping[LimitScope, str]) -> NearLimit:
    scope, limit = used.scope, used.limit
    name = budgets[scope]
    return NearLimit(scope.kind, name, limit.name, limit.amount, used.spent, used.share, used.resets_at)
