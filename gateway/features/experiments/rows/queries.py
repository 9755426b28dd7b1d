"""Read-only queries about one experiment, for its report and its gauges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, and_, case, func, null, or_, select

from gateway.core.plan import STRATA
from gateway.store.run_chunks import request_size, whole_request
from gateway.store.tables import exchanges, increments, pair_scores, pairs, scores

_WHOLE = and_(exchanges.c.outcome == "ok", exchanges.c.status < 400)
PairKey = tuple[str, str, str, str, str]  # pair, arm, scorer, version, config hash


@dataclass(frozen=True, slots=True)
class PairCounts:
    """Pairs of a plan by state. not_asked: by reason. first, last: Unix seconds of those that are joined or lost."""

    joined: int = 0
    lost: int = 0
    open: int = 0
    not_asked: Mapping[str, int] | None = None
    first: float | None = None
    last: float | None = None


@dataclass(frozen=True, slots=True)
class RequestChecks:
    """Compares the request of each record of an experiment's shadow arms with the request of the served answer."""

    same: int = 0
    different: int = 0
    translated: int = 0
    """Sent in the format of another API, so that the bytes cannot be compared."""
    example: str | None = None
    """Id of the served exchange of a pair whose requests differ."""


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
class PairwiseVerdict:
    """The verdict of a pairwise judge. value: preference for the arm."""

    arm: str
    value: float
    detail: Mapping[str, float]


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


_LOOKED_AT = 100  # scores that tell whether a scorer says yes or no


@dataclass(frozen=True, slots=True)
class ScorerFacts:
    """Facts about one version of a scorer, from stored scores."""

    kind: str
    """Kind of scorer: code, model, llm or human."""
    turned: bool
    """Whether less is better; the value in [0, 1], 1 being best, is then 1 minus the value that the scorer returned."""
    binary: bool
    """Every score that was looked at is 0 or 1."""


def scorer_facts(connection: Connection, plan: str, scorer: str, identity: str | None) -> ScorerFacts | None:
    """Facts about a scorer; None if it has no score in the plan. identity: "version config_hash"; None: any version."""
    version, _, config_hash = (identity or "").rpartition(" ")
    for table, best in ((scores, scores.c.value01), (pair_scores, null())):
        t = table.c
        where = [t.scorer == scorer, t.plan == plan, t.status == "scored"]
        where += [] if identity is None else [t.version == version, t.config_hash == config_hash]
        query = select(t.kind, t.direction, t.value, best).where(*where).limit(_LOOKED_AT)
        rows = [tuple(row) for row in connection.execute(query)]
        if rows:
            kind, direction, value, value01 = rows[0]
            unit = value is not None and value01 is not None and abs(value + value01 - 1) < 1e-9
            return ScorerFacts(kind, direction == "minimise" and unit, all(row[3] in (0.0, 1.0) for row in rows))
    return None


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
        for arm, outcome in orjson.loads(text).items():
            counts = found.setdefault(arm, [0, 0])
            counts[0] += 1
            counts[1] += outcome["state"] == "lost"
    served = select(pairs.c.id).where(pairs.c.id == exchanges.c.pair).exists()
    orphans = select(func.count(exchanges.c.pair.distinct())).where(
        exchanges.c.plan == plan, exchanges.c.pair.is_not(None), ~served
    )
    settled = select(func.count()).where(pairs.c.plan == plan, pairs.c.place.is_not(None))
    lost = int(connection.execute(orphans).scalar_one())
    found["control"] = [int(connection.execute(settled).scalar_one()) + lost, lost]
    return {arm: (counts[0], counts[1]) for arm, counts in found.items()}


def paid_calls(connection: Connection, plan: str) -> dict[str, int]:
    """arm → recorded requests to it; one that a route left with the control was not sent, unless a cascade asked."""
    e = exchanges.c
    query = select(e.arm, func.count()).where(e.plan == plan, e.pair.is_not(None), e.arm.is_not(None))
    rows = connection.execute(query.where(or_(e.tied.is_not(True), e.attempts != "[]")).group_by(e.arm))
    return {row[0]: int(row[1]) for row in rows}


def request_checks(connection: Connection, plan: str) -> RequestChecks:
    """Counts of requests that were compared by digest. A record without one, of an older gateway or of a large request,
    is in no count.
    """
    arm, served = exchanges.alias(), exchanges.alias()
    a, b = arm.c.request_digest, served.c.request_digest
    found = case((a == b, "same"), (func.substr(a, 1, 3) == func.substr(b, 1, 3), "different"), else_="translated")
    query = (
        select(found, func.count(), func.min(served.c.id))
        .select_from(arm.join(served, served.c.id == arm.c.pair))
        .where(arm.c.plan == plan, a.is_not(None), b.is_not(None))
        .group_by(found)
    )
    counts = {row[0]: (int(row[1]), row[2]) for row in connection.execute(query)}
    n = {name: count for name, (count, _) in counts.items()}
    return RequestChecks(**n, example=counts["different"][1] if "different" in counts else None)


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


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """A pair's difference, and the properties of its request."""

    difference: float
    caller: str
    alias: str
    api: str
    stream: bool
    request_bytes: int
    request: bytes | None
    """The request's body; None if it is large."""
    language: str | None
    """Language that the scorer `language` expected of the served answer; None if it is not known."""
    tags: str = ""
    """Tags as in Exchange.tags; "": none."""
    place: int = 0
    """Index of the pair in its plan."""
    cluster: str | None = None


LARGE_REQUEST = 65_536  # bytes; larger ones are not read for their properties


def segment_rows(connection: Connection, where: Mapping[str, str], most: int) -> list[SegmentRow]:
    """The newest pairs of one sequence. where: the columns of its name."""
    e, size = exchanges.c, request_size()
    sent = func.coalesce(e.client_bytes, size)  # older records: of the control's body, so alike for both arms
    language = (
        select(func.max(scores.c.explanation))
        .where(scores.c.exchange_id == e.id, scores.c.scorer == "language", scores.c.status == "scored")
        .scalar_subquery()
    )
    request = case((size <= LARGE_REQUEST, whole_request()))
    place = (increments.c.place, increments.c.cluster)
    query = (
        select(increments.c.difference, e.caller, e.alias, e.api, e.stream, sent, request, language, e.tags, *place)
        .join(exchanges, e.id == increments.c.pair)
        .where(*_of_sequence(where))
        .order_by(increments.c.place.desc())
        .limit(most)
    )
    rows = connection.execute(query)
    return [SegmentRow(*row[:7], expected_language(row[7]), row[8] or "", row[9], row[10]) for row in rows]


def increments_after(connection: Connection, where: Mapping[str, str], place: int) -> int:
    """Increments of one sequence after this place."""
    query = select(func.count()).where(*_of_sequence(where), increments.c.place > place)
    return int(connection.execute(query).scalar_one())


def expected_language(explanation: str | None) -> str | None:
    """ "in fr, expected en" → "en". The language of an answer is the result of its arm, not a property of the
    request."""
    return (explanation or "").partition(", expected ")[2] or None


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
