"""Queries about runs: the list, one run with its calls, and the data that a scorer of runs reads and writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import ColumnElement, RowMapping, Select, and_, case, delete, func, literal, or_, select, text

from gateway.core.chunked import chunked
from gateway.core.exchange import CLIENT_ENDED
from gateway.core.score import ConfiguredScorer, ScoreResult, ScorerInfo
from gateway.store.engine import Transaction, insert
from gateway.store.query import ExchangeFilter, Found, Reading, conditions, is_of_run, rows_of, scores_of
from gateway.store.rows import (
    OF_SCORER,
    PAID,
    SCORED,
    UNPAID,
    UNSCORED,
    paid_values,
    plain_text,
    score_id_of,
    score_values,
    scorer_values,
)
from gateway.store.run_chunks import whole_request
from gateway.store.score_sums import add_costs, costs_of_results
from gateway.store.tables import TARGET, exchanges, runs, scores

_CHUNK = 200
_OF_RUNS = text("scores.subject = 'run'")  # written as in the index, so that SQLite uses it
CALL_COLUMNS = (
    "id received alias upstream model variant arm outcome status finish_reason error input_tokens output_tokens "
    "cached_input_tokens tokens cost_usd first_token_s total_s tool_calls text bytes pi unit truncated"
)
"""The columns of a call of a run."""


@dataclass(frozen=True, slots=True)
class RunFilter:
    """The runs to list. None or "" means no condition."""

    caller: str = ""
    since: float | None = None
    """Unix seconds, of the end of the last call."""
    worst_by: str = ""
    """A scorer of runs, by which the worst come first; "" means that the newest come first."""
    after: tuple[float, str] | None = None
    """The last one of the page before: the time, or the value of the score, and the run (or the call that has it)."""
    limit: int = 50


@dataclass(frozen=True, slots=True)
class RunPage:
    runs: Sequence[Found]
    """Runs with sums over their calls, and their `scores`."""
    next: tuple[float, str] | None
    """The `after` of the next page; None if this is the last."""


def list_runs(connection: Reading, filter: RunFilter) -> RunPage:
    rows = _worst(connection, filter) if filter.worst_by else _newest(connection, filter)
    shown = rows[: filter.limit]
    found = summaries(connection, [row[2] for row in shown])
    listed = [{**found[run_id], "placed": value} for value, _, run_id in shown if run_id in found]
    return RunPage(listed, (shown[-1][0], shown[-1][1]) if len(rows) > len(shown) else None)


def _newest(connection: Reading, filter: RunFilter) -> list[Any]:
    """(end, run, run) of the newest."""
    r = runs.c
    query = select(r.last_at, r.run_id, r.run_id).where(*_conditions(filter))
    if filter.after is not None:
        at, run_id = filter.after
        query = query.where(or_(r.last_at < at, and_(r.last_at == at, r.run_id < run_id)))
    return [*connection.execute(query.order_by(r.last_at.desc(), r.run_id.desc()).limit(filter.limit + 1))]


def _worst(connection: Reading, filter: RunFilter) -> list[Any]:
    """(value, call, run) of those with the lowest scores, the newest of one value first."""
    s, r = scores.c, runs.c
    query = select(s.value01, s.exchange_id, r.run_id).join(runs, r.scored_on == s.exchange_id)
    query = query.where(s.scorer == filter.worst_by, _OF_RUNS, s.value01.is_not(None), *_conditions(filter))
    if filter.after is not None:
        value, id = filter.after
        query = query.where(or_(s.value01 > value, and_(s.value01 == value, s.exchange_id < id)))
    return [*connection.execute(query.order_by(s.value01, s.exchange_id.desc()).limit(filter.limit + 1))]


def _conditions(filter: RunFilter) -> list[Any]:
    found: list[Any] = []
    if filter.since is not None:
        found.append(runs.c.last_at >= filter.since)
    if filter.caller:
        e = exchanges.c
        found.append(select(e.id).where(e.run_id == runs.c.run_id, e.caller == filter.caller).exists())
    return found


def scorers_of_runs(connection: Reading) -> list[str]:
    """The scorers that have scored a run."""
    return sorted(connection.execute(select(scores.c.scorer).where(_OF_RUNS).distinct()).scalars())


def has_failed(found: Mapping[str, Any]) -> bool:
    """Whether a call failed. One whose client left did not."""
    return (found["outcome"] != "ok" and found["outcome"] not in CLIENT_ENDED) or found["status"] >= 400


def summaries(connection: Reading, run_ids: Sequence[str]) -> dict[str, Found]:
    """run → sums over its calls, and its scores. Read from indexes alone, except the scores."""
    e = exchanges.c
    failed = or_(and_(e.outcome != "ok", e.outcome.not_in(CLIENT_ENDED)), e.status >= 400)
    columns = [
        e.run_id,
        func.count().label("calls_n"),
        func.sum(case((failed, 1), else_=0)).label("failed"),
        func.sum(e.tokens).label("tokens"),
        func.sum(e.cost_usd).label("cost_usd"),
        func.min(e.received).label("began"),
        func.max(e.received + e.total_s).label("ended"),
        func.min(e.caller).label("caller"),
        func.min(e.alias).label("alias"),
        func.min(e.run).label("run"),
        func.min(e.run_source).label("run_source"),
        func.min(e.arm).label("arm"),
    ]
    found: dict[str, Found] = {}
    for chunk in chunked(run_ids, _CHUNK):
        query: Select[Any] = select(*columns).where(e.run_id.in_(chunk)).group_by(e.run_id)
        for row in rows_of(connection, query):  # PostgreSQL's sum of bigints is a decimal
            whole = {name: None if row[name] is None else int(row[name]) for name in ("failed", "tokens")}
            found[row["run_id"]] = {**row, **whole, "scores": []}
        on = select(runs.c.scored_on, runs.c.run_id).where(runs.c.run_id.in_(chunk), runs.c.scored_on.is_not(None))
        scored = {row[0]: row[1] for row in connection.execute(on)}
        for id, rows in scores_of(connection, list(scored)).items():
            if scored[id] in found:
                found[scored[id]]["scores"] = [row for row in rows if row["subject"] == "run"]
    return found


def runs_named(connection: Reading, name: str) -> list[str]:
    """The runs with this id, ours or the client's, in order of their first call."""
    e = exchanges.c
    query = select(e.run_id).where(is_of_run(name), e.run_id.is_not(None)).group_by(e.run_id)
    return list(connection.execute(query.order_by(func.min(e.received))).scalars())


def selected_runs(connection: Reading, filter: ExchangeFilter) -> list[str]:
    """The runs with a call that the filter selects, the oldest first. Raises QueryError."""
    e = exchanges.c
    query = select(e.run_id).where(e.run_id.is_not(None), *conditions(connection, filter)).group_by(e.run_id)
    query = query.order_by(func.min(e.received), e.run_id)
    return list(connection.execute(query.limit(filter.limit) if filter.limit else query).scalars())


def full_run(connection: Reading, run_id: str) -> Found | None:
    """A run with its sums, its `scores`, and its `calls` in order of arrival, each with its own scores. The calls are
    without their requests and raw responses. None if it is not stored."""
    found = summaries(connection, [run_id]).get(run_id)
    if found is None:
        return None
    e = exchanges.c
    query = select(*(e[name] for name in CALL_COLUMNS.split())).where(e.run_id == run_id).order_by(e.received, e.id)
    calls = rows_of(connection, query)
    scored: dict[str, list[Found]] = {}
    for chunk in chunked([call["id"] for call in calls], _CHUNK):
        scored |= scores_of(connection, chunk)
    for score in (score for rows in scored.values() for score in rows):
        score["detail"] = orjson.loads(score["detail"]) if score["detail"] else None
    of_run = [score for rows in scored.values() for score in rows if score["subject"] == "run"]
    for call in calls:
        call["tool_calls"] = orjson.loads(call["tool_calls"])
        call["scores"] = [score for score in scored.get(call["id"], []) if score["subject"] != "run"]
        call["failed"] = has_failed(call)
    return {**found, "scores": of_run, "calls": calls}


@dataclass(frozen=True, slots=True)
class ScoredRuns:
    """Sums over the scores of runs that share all of these."""

    scorer: str
    version: str
    config_hash: str
    alias: str
    model: str
    """Target of the call that stands for the run, as "upstream/model"."""
    arm: str
    """The arm of an experiment; "" if the run is in none."""
    stratum: str
    pi: float
    scored: int
    not_applicable: int
    nonresponse: int
    total: float
    squares: float
    inverse_pi: float


def scored_runs(connection: Reading, scorers: Sequence[str], since: float) -> list[ScoredRuns]:
    """Scores by scorer, version, model, arm, stratum and π, of runs that ended since then. since: Unix seconds."""
    s, e = scores.c, exchanges.c
    group = (s.scorer, s.version, s.config_hash, e.alias, TARGET, func.coalesce(s.arm, ""), s.stratum, s.pi)

    def count(*statuses: str) -> ColumnElement[int]:
        return func.sum(case((s.status.in_(statuses), 1), else_=0))

    value = case((s.status == "scored", s.value), else_=0.0)
    sums = (func.sum(value), func.sum(value * value), func.sum(1.0 / s.pi))
    counts = (count("scored"), count("not_applicable"), count("error", "timeout", "budget"))
    query = select(*group, *counts, *sums).join(exchanges, e.id == s.exchange_id)
    query = query.where(_OF_RUNS, s.scorer.in_(scorers), s.answered >= since, s.repeat == 0).group_by(*group)
    return [ScoredRuns(*row[:8], *map(int, row[8:11]), *row[11:]) for row in connection.execute(query)]


@dataclass(frozen=True, slots=True)
class RunCosts:
    """Runs whose cost lies in one bucket."""

    alias: str
    """The alias on which the run spent most."""
    bucket: int
    """The number of bounds that the cost exceeds."""
    runs: float
    """Sum of 1 / π."""
    usd: float
    """Sum of the cost / π."""


def run_costs(connection: Reading, since: float, until: float, bounds: Sequence[float]) -> list[RunCosts]:
    """Costs of the runs whose last call ended in a span of time, in Unix seconds. bounds: ascending, in USD.

    Runs of which some calls may not be recorded are left out, as are those without a known cost.
    """
    e, r = exchanges.c, runs.c
    by_alias = (
        select(
            e.run_id, e.alias, func.sum(e.cost_usd).label("usd"), func.min(e.pi).label("least"),
            func.max(e.pi).label("most"), func.sum(case((e.unit == e.id, 1), else_=0)).label("alone"),
        )
        .join(runs, r.run_id == e.run_id)
        .where(r.last_at >= since, r.last_at < until)
        .group_by(e.run_id, e.alias)
        .subquery()
    )  # fmt: skip
    a = by_alias.c
    dearest = (func.coalesce(a.usd, -1.0).desc(), a.alias)
    ranked = select(
        a.alias,
        func.sum(a.usd).over(partition_by=a.run_id).label("usd"),
        func.min(a.least).over(partition_by=a.run_id).label("least"),
        func.max(a.most).over(partition_by=a.run_id).label("most"),
        func.sum(a.alone).over(partition_by=a.run_id).label("alone"),
        func.row_number().over(partition_by=a.run_id, order_by=dearest).label("place"),
    ).subquery()
    c = ranked.c
    exceeded = sum((case((c.usd > bound, 1), else_=0) for bound in bounds), start=literal(0))
    whole = c.least == c.most, or_(c.most == 1.0, c.alone == 0)
    placed = select(c.alias, c.usd, c.most, exceeded.label("bucket"))
    b = placed.where(c.place == 1, c.usd.is_not(None), *whole).subquery().c
    query = select(b.alias, b.bucket, func.sum(1.0 / b.most), func.sum(b.usd / b.most)).group_by(b.alias, b.bucket)
    return [RunCosts(alias, int(bucket), float(n), float(usd)) for alias, bucket, n, usd in connection.execute(query)]


def requests_of(connection: Reading, run_id: str) -> dict[str, bytes]:
    """The requests of a run, by call."""
    query = select(exchanges.c.id, whole_request()).where(exchanges.c.run_id == run_id)
    return {row[0]: bytes(row[1]) for row in connection.execute(query)}


_READ = (
    "id received total_s caller run run_source unit pi stratum experiment plan arm outcome status finish_reason text "
    "refusal error tool_calls tokens cost_usd truncated"
)


def call_rows(connection: Reading, run_id: str) -> Iterator[RowMapping]:
    """The calls of a run in order of arrival, one after the other, with the columns that its scorers read."""
    e = exchanges.c
    read = (*(e[name] for name in _READ.split()), whole_request())
    query = select(*read).where(e.run_id == run_id).order_by(e.received, e.id)
    yield from connection.execution_options(stream_results=True, max_row_buffer=1).execute(query).mappings()


def save_scores(
    connection: Transaction,
    run_id: str,
    place: Mapping[str, Any],
    scorers: Mapping[str, ConfiguredScorer],
    results: Sequence[ScoreResult],
    now: float,
) -> None:
    """Stores the scores of a run, in place of those that the same scorers gave it before.

    place: of the call that stands for the run: id, experiment, plan, arm, stratum, pi, and `answered`, the run's end.
    """
    ours = select(exchanges.c.id).where(exchanges.c.run_id == run_id)
    before = (scores.c.exchange_id.in_(ours), scores.c.subject == "run", scores.c.scorer.in_(list(scorers)))
    connection.execute(delete(scores).where(*before, scores.c.kind != "feedback"))
    rows = [_score_row(place, scorers[each.scorer].scorer, each, now) for each in results]
    if rows:
        connection.execute(insert(connection.dialect, scores), rows)
    add_costs(connection, costs_of_results(results))


def _score_row(place: Mapping[str, Any], scorer: ScorerInfo, of: ScoreResult, now: float) -> dict[str, Any]:
    shared = {**place, "exchange_id": place["id"], "pi": place["pi"] * of.pi, "subject": "run", "repeat": 0}
    del shared["id"]
    paid = UNPAID if of.spent is None else paid_values(of.spent)
    scored = UNSCORED if of.score is None else score_values(of.score, scorer)
    return {
        **shared,
        "score_id": score_id_of(place["id"], *of[:3]),
        **dict(zip(OF_SCORER, scorer_values(scorer, *of[:3]), strict=True)),
        "data_type": "numeric",
        "status": of.status,
        "explanation": plain_text(of.explanation),
        "seconds": of.seconds,
        "created": now,
        **dict(zip(PAID, paid, strict=True)),
        **dict(zip(SCORED, scored, strict=True)),
    }
