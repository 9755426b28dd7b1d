"""Recent traffic of a model, from recorded calls: calls per hour, failures, and the units that they name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, case, func, not_, select

from gateway.core.plan import Plan
from gateway.store.run_chunks import request_size, whole_request
from gateway.store.tables import exchanges
from gateway.verdict.price.failures import FailureRate

FEWEST = 20  # recorded calls from which a rate is estimated
_HOUR_S = 3600.0


def _calls(plan: Plan, since: float) -> list[ColumnElement[bool]]:
    """The served calls of the plan's model and keys since then."""
    e = exchanges.c
    ours = [e.alias == plan.model, e.role == "served", e.received >= since]
    return ours if plan.keys is None else [*ours, e.caller.in_(plan.keys)]


def calls_an_hour(connection: Connection, plan: Plan, since: float, now: float) -> float | None:
    """Served calls of the plan's model, keys and APIs; each recorded one stands for 1 / π.

    since, now: Unix seconds. From the first recorded call since then on, where that is later. None if fewer than FEWEST
    calls were recorded, or less than an hour.
    """
    e = exchanges.c
    query = select(func.count(), func.min(e.received), func.sum(1.0 / e.pi))
    n, first, calls = connection.execute(query.where(*_calls(plan, since), e.api.in_(plan.apis))).one()
    if n < FEWEST or now - first < _HOUR_S:
        return None
    return float(calls) * _HOUR_S / (now - float(first))


def calls_by_api(connection: Connection, plan: Plan, since: float) -> dict[str, int]:
    """Recorded calls of the plan's model and keys, by API. since: Unix seconds."""
    query = select(exchanges.c.api, func.count()).where(*_calls(plan, since)).group_by(exchanges.c.api)
    return {row[0]: row[1] for row in connection.execute(query)}


FEWEST_FOR_RATE = 200  # recorded calls from which a rate of failures is planned with
_FAILED = ("upstream_error", "timeout", "cut")


def control_failures(connection: Connection, plan: Plan, since: float) -> FailureRate | None:
    """Failures of the control as the last calls show them. since: Unix seconds. None for fewer than FEWEST_FOR_RATE
    calls.

    A request that the upstream refuses as such (4xx) has no pair, so it does not count; a rate limit does.
    """
    e = exchanges.c
    of_control = (e.upstream == plan.control.upstream, e.model == plan.control.model)
    refused = and_(e.status >= 400, e.status < 500, e.status != 429)
    failed = case((and_(e.outcome.in_(_FAILED), not_(refused)), 1.0 / e.pi), else_=0.0)
    query = select(func.count(), func.sum(1.0 / e.pi), func.sum(failed))
    n, calls, failures = connection.execute(query.where(*_calls(plan, since), *of_control, not_(refused))).one()
    return None if n < FEWEST_FOR_RATE else FailureRate(int(n), float(failures) / float(calls))


MOST_READ = 500  # calls, the newest; their requests are read
_NAMED = b'"conversation_id"'


@dataclass(frozen=True, slots=True)
class RecentUnits:
    """calls: recorded with their content. users, conversations, runs: of these, those that name one.

    A header's conversation is recorded as the cluster of calls in an experiment, where a call without one is a cluster
    of its own.
    """

    calls: int
    users: int
    conversations: int
    runs: int = 0

    def named(self, unit: str) -> int:
        return {"user": self.users, "run": self.runs}.get(unit, self.conversations)


def recent_units(connection: Connection, plan: Plan, since: float) -> RecentUnits:
    """Units of the newest served calls of the plan's model and keys. since: Unix seconds."""
    e = exchanges.c
    query = select(e.user_digest, e.cluster, whole_request(), e.run).where(
        *_calls(plan, since), request_size() > len(b"{}")
    )
    rows = connection.execute(query.order_by(e.received.desc()).limit(MOST_READ)).all()
    shared = {cluster for cluster, n in Counter(row.cluster for row in rows).items() if cluster and n > 1}
    users = sum(row.user_digest is not None for row in rows)
    conversations = sum(row.cluster in shared or _NAMED in row.request for row in rows)
    return RecentUnits(len(rows), users, conversations, sum(row.run is not None for row in rows))


@dataclass(frozen=True, slots=True)
class RecentRequest:
    """A recorded call of clients, as far as its segments depend on it."""

    caller: str
    api: str
    stream: bool
    size: int  # bytes of its body
    pi: float
    request: bytes


MOST_REQUESTS = 2000  # the newest
_LARGE = 65_536  # bytes; larger requests are not read


def recent_requests(connection: Connection, plan: Plan, since: float) -> list[RecentRequest]:
    """The newest served calls of the plan's model, keys and APIs. since: Unix seconds."""
    e, length = exchanges.c, request_size()
    size, body = func.coalesce(e.client_bytes, length), case((length <= _LARGE, whole_request()), else_=b"")
    query = select(e.caller, e.api, e.stream, size, e.pi, body).where(*_calls(plan, since), e.api.in_(plan.apis))
    rows = connection.execute(query.order_by(e.received.desc()).limit(MOST_REQUESTS))
    return [RecentRequest(*row[:5], bytes(row[5] or b"")) for row in rows]


@dataclass(frozen=True, slots=True)
class RecentCall:
    """A recorded call of clients, with its request and its price."""

    api: str
    request: bytes
    pi: float
    cost_usd: float | None
    input_tokens: int | None


def recent_calls(connection: Connection, alias: str, keys: Collection[str] | None, since: float) -> list[RecentCall]:
    """The newest served calls of a model that were recorded whole and with their content. since: Unix seconds."""
    e, length = exchanges.c, request_size()
    ours = [e.alias == alias, e.role == "served", e.received >= since, length > len(b"{}"), length <= _LARGE]
    ours += [e.caller.in_(keys)] if keys is not None else []
    query = select(e.api, whole_request(), e.pi, e.cost_usd, e.input_tokens).where(*ours)
    rows = connection.execute(query.order_by(e.received.desc()).limit(MOST_READ))
    return [RecentCall(row[0], bytes(row[1] or b""), *row[2:]) for row in rows]


@dataclass(frozen=True, slots=True)
class UnitCounts:
    """calls: recorded. callers: keys and subjects of tokens. users: as calls named them."""

    calls: int
    callers: int
    users: int


def unit_counts(connection: Connection, plan: Plan, since: float) -> UnitCounts:
    """Counts of the units of the served calls of the plan's model and keys. since: Unix seconds."""
    e = exchanges.c
    counts = func.count(), func.count(e.caller.distinct()), func.count(e.user_digest.distinct())
    row = connection.execute(select(*counts).where(*_calls(plan, since))).one()
    return UnitCounts(int(row[0]), int(row[1]), int(row[2]))


@dataclass(frozen=True, slots=True)
class UnitSizes:
    """calls: recorded. effective: as many equally large users or keys would say as much, (Σ n)² / Σ n²."""

    calls: int
    effective: float


def unit_sizes(connection: Connection, plan: Plan, since: float, of_users: bool) -> UnitSizes:
    """Sizes of the units of the served calls of the plan's model and keys; a call that names none is one of its own.
    since: Unix seconds. of_users: the users of each key, else the keys."""
    e = exchanges.c
    unit = (e.caller, e.user_digest) if of_users else (e.caller,)
    query = select(*unit, func.count()).where(*_calls(plan, since)).group_by(*unit)
    calls, squares = 0, 0
    for *names, n in connection.execute(query):
        calls += n
        squares += n * n if names[-1] is not None else n
    return UnitSizes(calls, calls * calls / squares if squares else 0.0)
