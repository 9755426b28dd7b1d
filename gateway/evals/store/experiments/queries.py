"""Questions about one experiment that change nothing: for its report and its gauges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, and_, case, func, or_, select

from gateway.core.plan import STRATA
from gateway.evals.store.tables import exchanges, scores
from gateway.evals.store.tables_experiments import increments, pair_scores, pairs

_WHOLE = and_(exchanges.c.outcome == "ok", exchanges.c.status < 400)
PairKey = tuple[str, str, str, str, str]  # pair, arm, scorer, version, config hash


@dataclass(frozen=True, slots=True)
class PairCounts:
    """settled: joined and lost. not_asked: by reason. first, last: Unix seconds of the settled ones."""

    joined: int = 0
    lost: int = 0
    open: int = 0
    not_asked: Mapping[str, int] | None = None
    first: float | None = None
    last: float | None = None


@dataclass(frozen=True, slots=True)
class ArmCounts:
    """Of the records of one arm. priced: those of known cost, cost: their sum and the sum of squares, in USD."""

    arm: str
    n: int
    whole: int
    served: int
    input_tokens: float | None
    output_tokens: float | None
    priced: int
    cost: float
    cost_squares: float


@dataclass(frozen=True, slots=True)
class PairwiseVerdict:
    """What a pairwise judge said. value: preference for the arm."""

    arm: str
    value: float
    detail: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """An answer to read beside another."""

    id: str
    arm: str
    request: bytes
    text: str
    outcome: str
    tool_calls: str


def scored_beside(connection: Connection, ids: Sequence[str]) -> set[PairKey]:
    """What pair scorers have said already of these pairs."""
    p = pair_scores.c
    query = select(p.pair, p.arm, p.scorer, p.version, p.config_hash).where(p.pair.in_(ids))
    return {(row[0], row[1], row[2], row[3], row[4]) for row in connection.execute(query)}


def pair_counts(connection: Connection, plan: str) -> PairCounts:
    p = pairs.c
    query = select(p.state, p.reason, func.count(), func.min(p.received), func.max(p.received))
    n = {"joined": 0, "lost": 0, "open": 0}
    refused: dict[str, int] = {}
    times: list[float] = []
    for state, reason, count, first, last in connection.execute(
        query.where(p.plan == plan).group_by(p.state, p.reason)
    ):
        if state == "not_asked":
            refused[reason or "unknown"] = refused.get(reason or "unknown", 0) + count
        else:
            n[state] += count
        if state in ("joined", "lost"):
            times += [first, last]
    return PairCounts(**n, not_asked=refused, first=min(times, default=None), last=max(times, default=None))


def lost_by_arm(connection: Connection, plan: str) -> dict[str, tuple[int, int]]:
    """arm → (asked, lost). The control's: shadows whose served exchange never came."""
    found: dict[str, list[int]] = {}
    query = select(pairs.c.arms).where(pairs.c.plan == plan, pairs.c.arms.is_not(None))
    for text in connection.execute(query).scalars():
        for arm, said in orjson.loads(text).items():
            counts = found.setdefault(arm, [0, 0])
            counts[0] += 1
            counts[1] += said["state"] == "lost"
    served = select(pairs.c.id).where(pairs.c.id == exchanges.c.pair).exists()
    orphans = select(func.count(exchanges.c.pair.distinct())).where(
        exchanges.c.plan == plan, exchanges.c.pair.is_not(None), ~served
    )
    settled = select(func.count()).where(pairs.c.plan == plan, pairs.c.place.is_not(None))
    lost = int(connection.execute(orphans).scalar_one())
    found["control"] = [int(connection.execute(settled).scalar_one()) + lost, lost]
    return {arm: (counts[0], counts[1]) for arm, counts in found.items()}


def arm_counts(connection: Connection, plan: str, paired: bool) -> dict[str, ArmCounts]:
    """paired: of the control only those answers that others were asked beside."""
    e = exchanges.c
    whole = case((_WHOLE, 1), else_=0)
    of_whole = {name: case((_WHOLE, e[name])) for name in ("input_tokens", "output_tokens", "cost_usd")}
    query = select(
        e.arm, func.count(), func.sum(whole), func.sum(case((e.role == "served", 1), else_=0)),
        func.avg(of_whole["input_tokens"]), func.avg(of_whole["output_tokens"]), func.count(of_whole["cost_usd"]),
        func.sum(of_whole["cost_usd"]), func.sum(of_whole["cost_usd"] * of_whole["cost_usd"]),
    ).where(_in(plan, paired)).group_by(e.arm)  # fmt: skip
    return {
        row[0]: ArmCounts(
            row[0], row[1], int(row[2]), int(row[3]), _float(row[4]), _float(row[5]), row[6], float(row[7] or 0.0),
            float(row[8] or 0.0),
        )
        for row in connection.execute(query)
        if row[0] is not None
    }  # fmt: skip


def _in(plan: str, paired: bool) -> Any:
    ours = exchanges.c.plan == plan
    if not paired:
        return ours
    in_pair = select(pairs.c.id).where(pairs.c.id == exchanges.c.id, pairs.c.place.is_not(None)).exists()
    return and_(ours, or_(exchanges.c.role != "served", in_pair))


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def durations(connection: Connection, plan: str, measure: str, paired: bool) -> dict[str, list[float]]:
    """arm → seconds of every whole answer, ascending."""
    column = exchanges.c[measure]
    query = select(exchanges.c.arm, column).where(_in(plan, paired), _WHOLE, column.is_not(None)).order_by(column)
    found: dict[str, list[float]] = {}
    for arm, value in connection.execute(query):
        found.setdefault(arm, []).append(value)
    return found


def verdicts(connection: Connection, plan: str, scorer: str, identity: str) -> list[PairwiseVerdict]:
    """Of one pairwise judge, in the order of the pairs."""
    version, _, config_hash = identity.rpartition(" ")
    p = pair_scores.c
    query = (
        select(p.arm, p.value, p.detail)
        .join(pairs, pairs.c.id == p.pair)
        .where(p.plan == plan, p.scorer == scorer, p.version == version, p.config_hash == config_hash)
        .where(p.status == "scored", pairs.c.place.is_not(None))
        .order_by(pairs.c.place)
    )
    return [
        PairwiseVerdict(row[0], row[1], orjson.loads(row[2]) if row[2] else {}) for row in connection.execute(query)
    ]


def strata(connection: Connection, names: Sequence[str], where: Mapping[str, str]) -> dict[str, list[float]]:
    """ "caller=web" → the differences of one sequence, in order. where: the columns of the sequence's name."""
    found: dict[str, list[float]] = {}
    for name in names:
        if name not in STRATA:
            continue
        column = exchanges.c[name]
        query = (
            select(column, increments.c.difference)
            .join(exchanges, exchanges.c.id == increments.c.pair)
            .where(*(increments.c[key] == value for key, value in where.items()))
            .order_by(increments.c.place)
        )
        for value, difference in connection.execute(query):
            found.setdefault(f"{name}={value}", []).append(difference)
    return found


def widest(connection: Connection, where: Mapping[str, str], most: int) -> list[tuple[str, float]]:
    """(pair, difference): the best and the worst for the candidate, half each, the widest first."""
    found: list[tuple[str, float]] = []
    difference = increments.c.difference
    for order, side in ((difference.asc(), difference < 0), (difference.desc(), difference > 0)):
        query = (
            select(increments.c.pair, difference)
            .where(*(increments.c[key] == value for key, value in where.items()), side)
            .order_by(order, increments.c.place)
            .limit((most + 1) // 2)
        )
        found += [(row[0], row[1]) for row in connection.execute(query)]
    return sorted(found, key=lambda each: -abs(each[1]))[:most]


def farthest(connection: Connection, plan: str, arm: str, most: int) -> list[tuple[str, float]]:
    """(pair, distance): where an arm's answer is farthest from the served one."""
    p = pair_scores.c
    far = func.max(p.value).label("far")
    query = (
        select(p.pair, far)
        .where(p.plan == plan, p.arm == arm, p.direction == "minimise", p.status == "scored")
        .group_by(p.pair)
        .order_by(far.desc(), p.pair)
        .limit(most)
    )
    return [(row[0], float(row[1])) for row in connection.execute(query)]


def said(connection: Connection, pair: str) -> dict[str, RecordedAnswer]:
    """arm → its answer, the served one under "control"."""
    e = exchanges.c
    query = select(e.id, e.arm, e.role, e.request, e.text, e.outcome, e.tool_calls).where(
        or_(e.id == pair, e.pair == pair)
    )
    return {
        row.arm if row.role != "served" else "control": RecordedAnswer(
            row.id, row.arm or "", bytes(row.request), row.text, row.outcome, row.tool_calls
        )
        for row in connection.execute(query)
    }


def scores_of(connection: Connection, ids: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """exchange → scorer → value."""
    query = select(scores.c.exchange_id, scores.c.scorer, scores.c.value).where(
        scores.c.exchange_id.in_(ids), scores.c.status == "scored"
    )
    found: dict[str, dict[str, float | None]] = {}
    for row in connection.execute(query.order_by(scores.c.scorer)):
        found.setdefault(row[0], {})[row[1]] = row[2]
    return found


def distances_of(connection: Connection, ids: Sequence[str]) -> dict[str, float]:
    """exchange of an arm → the largest distance to its served answer."""
    p = pair_scores.c
    query = (
        select(p.exchange_id, func.max(p.value))
        .where(p.exchange_id.in_(ids), p.direction == "minimise", p.status == "scored")
        .group_by(p.exchange_id)
    )
    return {row[0]: float(row[1]) for row in connection.execute(query)}
