"""Read-only queries about one experiment, for its report and its gauges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select

from gateway.core.plan import STRATA
from gateway.store.run_chunks import whole_request
from gateway.store.tables import exchanges, increments, pair_scores, pairs, scores
from gateway.verdict.cached_cost import ArmBill
from gateway.verdict.preferences import PairwiseVerdict

_WHOLE = and_(exchanges.c.outcome == "ok", exchanges.c.status < 400)
PairKey = tuple[str, str, str, str, str]  # pair, arm, scorer, version, config hash


@dataclass(frozen=True, slots=True)
class ArmCounts:
    """Counts over the records of one arm. priced: those of known cost; cost: their sum, in USD."""

    arm: str
    n: int
    whole: int
    served: int
    input_tokens: float | None
    output_tokens: float | None
    priced: int
    cost: float


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """An answer as a reader of the report sees it."""

    id: str
    request: bytes
    text: str
    outcome: str
    tool_calls: str
    finish_reason: str = ""
    refusal: str = ""
    reference: str = ""


def most_frequent_score(connection: Connection, plan: str, scorer: str, identity: str) -> tuple[float, float] | None:
    """(value, its share of all scores of this version in the plan); None if it has none."""
    version, _, config_hash = identity.rpartition(" ")
    s, n = scores.c, func.count()
    ours = (s.scorer == scorer, s.version == version, s.config_hash == config_hash, s.plan == plan)
    query = select(s.value, n).where(*ours, s.status == "scored", s.value.is_not(None)).group_by(s.value)
    rows = [(row[0], int(row[1])) for row in connection.execute(query)]
    if not rows:
        return None
    value, most = max(rows, key=lambda row: row[1])
    return float(value), most / sum(count for _, count in rows)


def score_explanations(connection: Connection, ids: Sequence[str], scorer: str) -> dict[str, str]:
    """exchange → why the scorer gave its value, where it said so."""
    s = scores.c
    query = select(s.exchange_id, s.explanation).where(
        s.exchange_id.in_(ids), s.scorer == scorer, s.status == "scored", s.explanation.is_not(None)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def known_pair_scores(connection: Connection, ids: Sequence[str]) -> set[PairKey]:
    """The keys of the stored pair scores of these pairs."""
    p = pair_scores.c
    query = select(p.pair, p.arm, p.scorer, p.version, p.config_hash).where(p.pair.in_(ids))
    return {(row[0], row[1], row[2], row[3], row[4]) for row in connection.execute(query)}


def arm_counts(connection: Connection, plan: str, paired: bool, *, empty_fails: bool = False) -> dict[str, ArmCounts]:
    """Counts by arm. paired: only answers of the control that have a settled pair. empty_fails: an empty answer has
    failed."""
    e, complete = exchanges.c, _whole(empty_fails)
    whole = case((complete, 1), else_=0)
    of_whole = {name: case((complete, e[name])) for name in ("input_tokens", "output_tokens", "cost_usd")}
    counts = (func.count(), func.sum(whole), func.sum(case((e.role == "served", 1), else_=0)))
    tokens = (func.avg(of_whole["input_tokens"]), func.avg(of_whole["output_tokens"]))
    cost = (func.count(of_whole["cost_usd"]), func.coalesce(func.sum(of_whole["cost_usd"]), 0.0))
    query = select(e.arm, *counts, *tokens, *cost).where(_in(plan, paired), e.arm.is_not(None)).group_by(e.arm)
    return {
        arm: ArmCounts(arm, n, int(whole), int(served), _float(tokens_in), _float(tokens_out), priced, float(usd))
        for arm, n, whole, served, tokens_in, tokens_out, priced, usd in connection.execute(query)
    }


def cached_bills(connection: Connection, plan: str, served: bool = False) -> dict[str, ArmBill]:
    """The bill of each arm whose upstream reports cached tokens, over settled pairs, or over served calls."""
    e = exchanges.c
    sums = func.count(), func.sum(e.input_tokens), func.sum(e.cached_input_tokens), func.sum(e.cost_usd)
    ours = and_(e.plan == plan, e.role == "served") if served else _in(plan, True)
    known = e.arm.is_not(None), e.input_tokens.is_not(None), e.cached_input_tokens.is_not(None), e.cost_usd.is_not(None)
    rows = connection.execute(select(e.arm, *sums).where(ours, *known).group_by(e.arm))
    return {arm: ArmBill(n, int(tokens), int(cached), float(usd)) for arm, n, tokens, cached, usd in rows}


def _whole(empty_fails: bool) -> ColumnElement[bool]:
    return and_(_WHOLE, exchanges.c.empty.is_not(True)) if empty_fails else _WHOLE


def _in(plan: str, paired: bool) -> Any:
    ours = exchanges.c.plan == plan
    if not paired:
        return ours
    in_pair = select(pairs.c.id).where(pairs.c.id == exchanges.c.id, pairs.c.place.is_not(None)).exists()
    return and_(ours, or_(exchanges.c.role != "served", in_pair))


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def durations(
    connection: Connection, plan: str, measure: str, paired: bool, *, empty_fails: bool = False
) -> dict[str, list[float]]:
    """arm → seconds of every complete answer, ascending. empty_fails: as arm_counts takes it."""
    column, whole = exchanges.c[measure], _whole(empty_fails)
    query = select(exchanges.c.arm, column).where(_in(plan, paired), whole, column.is_not(None)).order_by(column)
    found: dict[str, list[float]] = {}
    for arm, value in connection.execute(query):
        found.setdefault(arm, []).append(value)
    return found


def pairwise_verdicts(connection: Connection, plan: str, scorer: str, identity: str) -> list[PairwiseVerdict]:
    """The verdicts of one pairwise judge, in the order of the pairs."""
    version, _, config_hash = identity.rpartition(" ")
    p = pair_scores.c
    query = (
        select(p.arm, p.value, p.detail)
        .join(pairs, pairs.c.id == p.pair)
        .where(p.plan == plan, p.scorer == scorer, p.version == version, p.config_hash == config_hash)
        .where(p.status == "scored", pairs.c.place.is_not(None))
        .order_by(pairs.c.place)
    )
    rows = connection.execute(query)
    return [PairwiseVerdict(arm, value, orjson.loads(detail) if detail else {}) for arm, value, detail in rows]


def _of_sequence(where: Mapping[str, str]) -> list[ColumnElement[bool]]:
    """The increments of one sequence. where: the columns of its name."""
    return [increments.c[key] == value for key, value in where.items()]


def differences_by_stratum(
    connection: Connection, names: Sequence[str], where: Mapping[str, str]
) -> dict[str, list[float]]:
    """ "caller=web" → the differences of one sequence, in order. where: the columns of the sequence's name."""
    found: dict[str, list[float]] = {}
    for name in (name for name in names if name in STRATA):
        column = exchanges.c[name]
        query = (
            select(column, increments.c.difference)
            .join(exchanges, exchanges.c.id == increments.c.pair)
            .where(*_of_sequence(where))
            .order_by(increments.c.place)
        )
        for value, difference in connection.execute(query):
            found.setdefault(f"{name}={value}", []).append(difference)
    return found


def increments_after(connection: Connection, where: Mapping[str, str], place: int) -> int:
    """Increments of one sequence after this place."""
    query = select(func.count()).where(*_of_sequence(where), increments.c.place > place)
    return int(connection.execute(query).scalar_one())


def widest_differences(
    connection: Connection, where: Mapping[str, str], worst: int, best: int
) -> list[tuple[str, float]]:
    """(pair, difference): the worst for the candidate, the widest first, then the best for it."""
    found: list[tuple[str, float]] = []
    difference = increments.c.difference
    for order, side, most in ((difference.asc(), difference < 0, worst), (difference.desc(), difference > 0, best)):
        query = (
            select(increments.c.pair, difference)
            .where(*_of_sequence(where), side)
            .order_by(order, increments.c.place)
            .limit(most)
        )
        found += [(row[0], row[1]) for row in connection.execute(query)]
    return found


def farthest_pairs(connection: Connection, plan: str, arm: str, most: int) -> list[tuple[str, float]]:
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


def answers_of_pair(connection: Connection, pair: str) -> dict[str, RecordedAnswer]:
    """arm → its answer, the served one under "control"."""
    e = exchanges.c
    query = select(
        *(e.id, e.arm, e.role, whole_request(), e.text, e.outcome, e.tool_calls),
        *(e.finish_reason, e.refusal, e.reference),
    ).where(or_(e.id == pair, e.pair == pair))
    found = {}
    for row in connection.execute(query):
        may_lack = (row.finish_reason or "", row.refusal or "", row.reference or "")
        answer = RecordedAnswer(row.id, bytes(row.request), row.text, row.outcome, row.tool_calls, *may_lack)
        found[row.arm if row.role != "served" else "control"] = answer
    return found


def responses_of_pair(connection: Connection, pair: str) -> dict[str, bytes]:
    """arm → its recorded response, without the served one."""
    e = exchanges.c
    query = select(e.arm, e.response).where(e.pair == pair, e.arm.is_not(None))
    return {row.arm: bytes(row.response) for row in connection.execute(query)}


def served_requests(connection: Connection, plan: str, most: int) -> list[bytes]:
    """The requests of the newest settled pairs, as they were sent to the control."""
    e = exchanges.c
    query = (
        select(whole_request())
        .select_from(exchanges.join(pairs, pairs.c.id == e.id))
        .where(pairs.c.plan == plan, pairs.c.state == "joined")
        .order_by(pairs.c.place.desc())
        .limit(most)
    )
    return [bytes(row.request) for row in connection.execute(query)]


def likelihoods_of_arm(connection: Connection, plan: str, arm: str, most: int) -> list[str]:
    """The newest records of the likelihood of an answer."""
    e = exchanges.c
    query = select(e.likelihood).where(e.plan == plan, e.arm == arm, e.likelihood.is_not(None))
    return list(connection.execute(query.order_by(e.received.desc()).limit(most)).scalars())


def score_values(connection: Connection, ids: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """exchange → scorer → value."""
    query = select(scores.c.exchange_id, scores.c.scorer, scores.c.value).where(
        scores.c.exchange_id.in_(ids), scores.c.status == "scored"
    )
    found: dict[str, dict[str, float | None]] = {}
    for row in connection.execute(query.order_by(scores.c.scorer)):
        found.setdefault(row[0], {})[row[1]] = row[2]
    return found


def pair_distances(connection: Connection, ids: Sequence[str]) -> dict[str, float]:
    """exchange of an arm → the largest distance to its served answer."""
    p = pair_scores.c
    query = (
        select(p.exchange_id, func.max(p.value))
        .where(p.exchange_id.in_(ids), p.direction == "minimise", p.status == "scored")
        .group_by(p.exchange_id)
    )
    return {row[0]: float(row[1]) for row in connection.execute(query)}
