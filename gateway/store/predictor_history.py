"""A predictor's history for the console: its models over time, their draws, and their figures for one exchange."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Integer, cast, func, select

from gateway.store.query import Found, Reading
from gateway.store.tables import predictions, predictor_models, scores

_FAILURES = ("error", "timeout", "budget")


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """One training. Times in Unix seconds."""

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
    """None: there were no exchanges."""
    least_pi: float | None
    failed: int = 0
    """Drawn ones of which the judge gave no score: an error, a missed deadline, a spent budget."""


def trained_models(connection: Reading, target: str, limit: int) -> list[TrainedModel]:
    """The newest first."""
    m = predictor_models.c
    query = select(m.version, m.created, m.trained_from, m.trained_to, m.rows, m.card).where(m.target == target)
    rows = connection.execute(query.order_by(m.created.desc(), m.version).limit(limit))
    return [TrainedModel(*row[:5], orjson.loads(row[5])) for row in rows]


def judged_share(connection: Reading, scorer: str, since: float) -> JudgedShare:
    """since: Unix seconds. Exchanges of experiments, which keep the scorer's own share (π = 0), do not count."""
    p = predictions.c
    columns = (func.count(), func.sum(cast(p.judged, Integer)), func.avg(p.pi), func.min(p.pi))
    query = select(*columns).where(p.scorer == scorer, p.received >= since, p.pi > 0)
    n, judged, mean, least = connection.execute(query).one()
    s = scores.c
    given = (s.exchange_id == p.exchange_id) & (s.scorer == p.scorer) & (s.repeat == 0)
    failures = select(func.count()).select_from(predictions.join(scores, given))
    failures = failures.where(p.scorer == scorer, p.received >= since, p.pi > 0, s.status.in_(_FAILURES))
    return JudgedShare(n, int(judged or 0), mean, least, int(connection.execute(failures).scalar() or 0))


def predictions_of(connection: Reading, exchange_id: str) -> list[Found]:
    """Predictions for one exchange, by scorer."""
    p = predictions.c
    query = select(p.scorer, p.version, p.predicted, p.residual, p.pi, p.judged).where(p.exchange_id == exchange_id)
    rows = connection.execute(query.order_by(p.scorer)).mappings()
    return [{str(name): value for name, value in row.items()} for row in rows]
