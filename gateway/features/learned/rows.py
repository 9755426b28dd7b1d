"""The SQL of the predictor: predicted exchanges in order of arrival, drift alarms, lengths of answers, its history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, Integer, Select, and_, cast, func, select

from gateway.store.engine import replacing
from gateway.store.query import Reading
from gateway.store.run_chunks import request_size, whole_request
from gateway.store.tables import drift_states, exchanges, predictions, predictor_models, scores

DAY_S = 86_400.0
_MOST = 20_000  # rows of one step


class PredictedRow(NamedTuple):
    received: float
    pi: float
    feature_set: str
    features: bytes
    value: float | None
    """The scorer's, in [0, 1], 1 best; None if it has none."""
    version: str
    """The scorer's version, with its config's hash; "" without a value."""


def aliases_predicted(connection: Connection, scorer: str, until: float) -> list[str]:
    """The model names with a prediction in the day before `until`, in Unix seconds."""
    p = predictions.c
    query = select(p.alias).where(p.scorer == scorer, p.received > until - DAY_S, p.received <= until)
    return sorted(connection.execute(query.distinct()).scalars())


def rows_after(connection: Connection, scorer: str, alias: str, after: float, until: float) -> list[PredictedRow]:
    """Rows that arrived within a time, the oldest first."""
    p = predictions.c
    query = _rows(scorer, alias).where(p.received > after, p.received <= until)
    return [_row(row) for row in connection.execute(query.order_by(p.received).limit(_MOST))]


def newest_rows(
    connection: Connection, scorer: str, alias: str, between: tuple[float, float], n: int, *, judged: bool = False
) -> list[PredictedRow]:
    """The newest n after the first of two times and until the second, oldest first. judged: only those with a value."""
    p = predictions.c
    query = _rows(scorer, alias).where(p.received > between[0], p.received <= between[1])
    query = query.where(scores.c.value01.is_not(None)) if judged else query
    rows = connection.execute(query.order_by(p.received.desc()).limit(n))
    return [_row(row) for row in rows][::-1]


def _rows(scorer: str, alias: str) -> Select[Any]:
    p, s = predictions.c, scores.c
    same = and_(s.exchange_id == p.exchange_id, s.scorer == p.scorer, s.repeat == 0, s.value01.is_not(None))
    columns = (p.received, p.pi, p.feature_set, p.features, s.value01, s.version, s.config_hash)
    return select(*columns).outerjoin(scores, same).where(p.scorer == scorer, p.alias == alias)


def _row(row: Any) -> PredictedRow:
    version = "" if row.version is None else f"{row.version} {row.config_hash}"
    return PredictedRow(row.received, row.pi, row.feature_set, bytes(row.features or b""), row.value01, version)


def load_state(connection: Connection, scorer: str, alias: str) -> str | None:
    """Reads the state, and locks its row, so that consumers take turns."""
    d = drift_states.c
    query = select(d.state).where(d.scorer == scorer, d.alias == alias).with_for_update()
    return connection.execute(query).scalar()


def save_state(connection: Connection, scorer: str, alias: str, state: str, at: float) -> None:
    statement = replacing(connection.dialect, drift_states, ("state", "at"))
    connection.execute(statement.values(scorer=scorer, alias=alias, state=state, at=at))


def saved_states(connection: Connection, scorer: str) -> dict[str, str]:
    d = drift_states.c
    return {row.alias: row.state for row in connection.execute(select(d.alias, d.state).where(d.scorer == scorer))}


_AT_ONCE = 100
_APIS = ("chat", "completions", "responses", "messages")


@dataclass(frozen=True, slots=True)
class CallOutput:
    alias: str
    request: bytes
    """JSON; of a key whose content is not recorded, `{}`."""
    stream: bool
    tokens: float
    """Output tokens of one answer."""
    weight: float
    """The weight 1 / π."""


def call_outputs(connection: Reading, since: float, limit: int) -> Iterator[CallOutput]:
    """The newest served answers, with their upstream's count of tokens, some at a time: requests may be large.
    since: Unix seconds."""
    e = exchanges.c
    query = (
        select(e.alias, whole_request(), e.stream, e.output_tokens, e.choices, e.pi)
        .where(e.received >= since, e.role == "served", e.outcome == "ok", e.status == 200, e.api.in_(_APIS))
        .where(e.output_tokens > 0, e.truncated.is_(False), request_size() > len(b"{}"))
        .order_by(e.received.desc())
        .limit(limit)
    )
    rows = connection.execute(query, execution_options={"yield_per": _AT_ONCE})
    for alias, request, stream, tokens, choices, pi in rows:
        yield CallOutput(alias, bytes(request), stream, tokens / max(choices or 1, 1), 1.0 / pi)


_FAILURES = ("error", "timeout", "budget")


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A training of the model. Times in Unix seconds."""

    version: str
    created: float
    trained_from: float
    """The arrival of the oldest exchange that it was trained on."""
    trained_to: float
    rows: int
    card: Mapping[str, Any]
    """Card as features/learned/card.py writes it."""


@dataclass(frozen=True, slots=True)
class JudgedShare:
    """Draws of the exchanges since some time."""

    exchanges: int
    judged: int
    """Drawn for the judge, whether or not it gave a score."""
    mean_pi: float | None
    """Mean of their π; None if there were no exchanges."""
    least_pi: float | None
    failed: int = 0
    """Drawn exchanges to which the judge gave no score: an error, a missed deadline, a spent budget."""


def trained_models(connection: Reading, target: str, limit: int) -> list[TrainedModel]:
    """The newest first."""
    m = predictor_models.c
    query = select(m.version, m.created, m.trained_from, m.trained_to, m.rows, m.card).where(m.target == target)
    rows = connection.execute(query.order_by(m.created.desc(), m.version).limit(limit))
    return [TrainedModel(*row[:5], orjson.loads(row[5])) for row in rows]


def judged_share(connection: Reading, scorer: str, since: float) -> JudgedShare:
    """Counts draws since a Unix time, without exchanges of experiments, which keep the scorer's own share (π = 0)."""
    p = predictions.c
    columns = (func.count(), func.sum(cast(p.judged, Integer)), func.avg(p.pi), func.min(p.pi))
    query = select(*columns).where(p.scorer == scorer, p.received >= since, p.pi > 0)
    n, judged, mean, least = connection.execute(query).one()
    s = scores.c
    given = (s.exchange_id == p.exchange_id) & (s.scorer == p.scorer) & (s.repeat == 0)
    failures = select(func.count()).select_from(predictions.join(scores, given))
    failures = failures.where(p.scorer == scorer, p.received >= since, p.pi > 0, s.status.in_(_FAILURES))
    return JudgedShare(n, int(judged or 0), mean, least, int(connection.execute(failures).scalar() or 0))
