"""The SQL of learned routes: the pairs of an experiment with the facts about each request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, case, func, select

from gateway.core.exchange import Form
from gateway.core.plan import CANDIDATE
from gateway.core.sequence import SequenceName
from gateway.store.plans import stored_plans
from gateway.store.run_chunks import whole_request
from gateway.store.tables import exchanges, increments

MOST_WATCHED = 20_000
_AT_ONCE = 200  # rows with their bodies that are in memory


@dataclass(frozen=True, slots=True)
class StoredPair:
    """One pair with a value of the primary."""

    id: str
    place: int
    """Index in the plan."""
    difference: float
    """Positive where the candidate is better."""
    received: float
    caller: str
    user: str | None
    conversation: str | None
    api: str
    stream: bool
    client_bytes: int | None
    request: bytes
    cost_control: float | None
    cost_candidate: float | None
    pi: float
    """Key by which it was drawn."""
    route: str | None
    """The leaf of the candidate, where that is a learned route."""
    response: bytes | None = None
    """The candidate's answer, with its `form` and whether it was streamed; None if it was not asked for."""
    form: Form = "raw"
    response_streamed: bool = False


def stored_pairs(
    connection: Connection, name: SequenceName, after: int = 0, *, answers: bool = False
) -> Iterator[StoredPair]:
    """The pairs of one sequence in order, from the one after this index on; one for each conversation. answers: with
    those of the candidate."""
    served, arm, i = exchanges.alias(), exchanges.alias(), increments.c
    answer = (arm.c.response, arm.c.form, arm.c.stream) if answers else ()
    query = (
        select(
            *(i.pair, i.place, i.difference, served.c.received, served.c.caller, served.c.user_digest, i.cluster),
            *(served.c.api, served.c.stream, served.c.client_bytes, whole_request(served), served.c.cost_usd),
            *(arm.c.cost_usd, func.coalesce(arm.c.pi, 1.0), arm.c.route, *answer),
        )
        .join(served, served.c.id == i.pair)
        .join(arm, and_(arm.c.pair == i.pair, arm.c.arm == name.candidate))
        .where(*(i[column] == value for column, value in name.values.items()), i.place > after)
        .order_by(i.place)
        .execution_options(yield_per=_AT_ONCE)
    )
    rows: Iterable[Any] = connection.execute(query)
    for row in rows:
        yield StoredPair(*row)


@dataclass(frozen=True, slots=True)
class WatchedPair:
    """One pair of a route's watch."""

    label: str
    """The name of the leaf."""
    loss: float
    """Positive where the control is better."""
    at: float
    caller: str
    user: str | None = None
    conversation: str | None = None


@dataclass(frozen=True, slots=True)
class WatchedPairs:
    """The newest pairs of a watch, in order. rules: of its plan."""

    pairs: tuple[WatchedPair, ...]
    rules: int


def watched_pairs(connection: Connection, experiment: str, primary: str) -> WatchedPairs:
    """At most MOST_WATCHED, of the plan that began last."""
    known = stored_plans(connection, experiment)
    if not known:
        return WatchedPairs((), 1)
    i, e = increments.c, exchanges.c
    newest = (
        select(i.pair, i.difference, i.place, i.cluster)
        .where(i.plan == known[-1].hash, i.candidate == CANDIDATE, i.metric == primary)
        .order_by(i.place.desc())
        .limit(MOST_WATCHED)
        .subquery()
    )
    query = (
        select(e.route, newest.c.difference, e.received, e.caller, e.user_digest, newest.c.cluster)
        .join(newest, newest.c.pair == e.id)
        .where(e.route.is_not(None))
        .order_by(newest.c.place)
    )
    return WatchedPairs(tuple(WatchedPair(*row) for row in connection.execute(query)), known[-1].plan.rules)


@dataclass(frozen=True, slots=True)
class LeafCalls:
    """Served calls of one leaf, estimated from those that were recorded."""

    label: str
    calls: float
    failed: float


def leaf_calls(connection: Connection, route: str, since: float) -> list[LeafCalls]:
    """since: Unix seconds."""
    e = exchanges.c
    weight = 1.0 / e.pi
    failed = case((e.outcome.in_(("upstream_error", "timeout", "cut")), weight), else_=0.0)
    query = (
        select(e.route, func.sum(weight), func.sum(failed))
        .where(e.received >= since, e.role == "served", e.route.startswith(f"{route}/", autoescape=True))
        .group_by(e.route)
    )
    return [LeafCalls(row[0], float(row[1]), float(row[2])) for row in connection.execute(query)]
