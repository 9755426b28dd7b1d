"""Predictions of learned models for each exchange, and the models. Rows only: features/learned makes both."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import orjson
from sqlalchemy import Connection, Select, func, literal, select, update

from gateway.core.chunked import chunked
from gateway.core.exchange import Exchange
from gateway.store.engine import insert
from gateway.store.tables import labels, predictions, predictor_models, scores

_CHUNK = 500
_PRICED = 200  # calls whose mean is the cost of one
KEPT_MODELS = 24
"""Models that are kept of one target: those of the last day, where one is trained each hour."""


class Prediction(NamedTuple):
    """Prediction for an exchange before the draw, and the draw. A tuple: one is made for every exchange."""

    scorer: str
    """Scorer whose sampling it guides, or "feedback:NAME"."""
    version: str
    """Version of the model; "" if there was none."""
    predicted: float | None
    """The expected value in [0, 1], 1 best; None if there was no model."""
    residual: float | None
    """The expected squared error of `predicted`; None if there was no model."""
    pi: float
    """The probability with which the scorer sees the exchange, given that it was recorded."""
    judged: bool
    """The scorer was drawn, whatever comes of it."""
    feature_set: str
    features: bytes
    """32-bit floats, little-endian."""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model as it was stored. Times in Unix seconds."""

    version: str
    """SHA-256 of `model`."""
    target: str
    created: float
    trained_from: float
    """The arrival of the oldest exchange that it was trained on."""
    trained_to: float
    rows: int
    model: str
    """JSON, which features/learned reads and checks."""
    card: Mapping[str, Any]
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TargetOf:
    """Target and features of a model."""

    key: str
    """The column `scorer` of `predictions`."""
    kind: Literal["scores", "labels", "feedback"]
    version: str
    """Version of the scorer, as is config_hash; "" if the target is given by people."""
    config_hash: str
    feature_set: str


@dataclass(frozen=True, slots=True)
class TargetValue:
    """An exchange with features and a value of the target in [0, 1]; `received` is in Unix seconds."""

    features: bytes
    value: float
    pi: float
    """The probability with which it was drawn; 1 where the target is given by people."""
    received: float


def target_values(connection: Connection, of: TargetOf, most: int) -> list[TargetValue]:
    """The newest exchanges with a value, in order of arrival."""
    p = predictions.c
    query = _scored(of) if of.kind == "scores" else _given_by_people(of)
    query = query.where(p.scorer == of.key, p.feature_set == of.feature_set)
    rows = connection.execute(query.order_by(p.received.desc(), p.exchange_id.desc()).limit(most)).all()
    return [TargetValue(bytes(row[0]), float(row[1]), float(row[2]), float(row[3])) for row in reversed(rows)]


def _scored(of: TargetOf) -> Select[Any]:
    p, s = predictions.c, scores.c
    these = (s.scorer == of.key, s.version == of.version, s.config_hash == of.config_hash, s.repeat == 0)
    joined = predictions.join(scores, s.exchange_id == p.exchange_id)
    query = select(p.features, s.value01, p.pi, p.received).select_from(joined)
    return query.where(*these, s.value01.is_not(None), p.judged.is_(True))


def _given_by_people(of: TargetOf) -> Select[Any]:
    """The mean over the people who gave a value."""
    p, s, given = predictions.c, scores.c, labels.c
    if of.kind == "labels":
        values = select(given.subject_id.label("id"), func.avg(given.value).label("value"))
        values = values.where(given.scorer == of.key, given.subject == "exchange", given.value.is_not(None))
        mean = values.group_by(given.subject_id).subquery()
    else:
        values = select(s.exchange_id.label("id"), func.avg(s.value01).label("value"))
        mean = values.where(s.scorer == of.key, s.value01.is_not(None)).group_by(s.exchange_id).subquery()
    joined = predictions.join(mean, mean.c.id == p.exchange_id)
    return select(p.features, mean.c.value, literal(1.0), p.received).select_from(joined)


@dataclass(frozen=True, slots=True)
class PredictionWindow:
    """The newest exchanges, whether they were judged or not."""

    features: tuple[bytes, ...]
    a_day: float
    """Number of them that arrive in 24 hours, by the time between the oldest and the newest; 0 if unknown."""


def newest_predictions(connection: Connection, of: TargetOf, most: int) -> PredictionWindow:
    p = predictions.c
    query = select(p.features, p.received).where(p.scorer == of.key, p.feature_set == of.feature_set)
    rows = connection.execute(query.order_by(p.received.desc()).limit(most)).all()
    span_s = rows[0][1] - rows[-1][1] if rows else 0.0
    return PredictionWindow(tuple(bytes(row[0]) for row in rows), 86_400.0 * len(rows) / span_s if span_s > 0 else 0.0)


def mean_cost(connection: Connection, scorer: str) -> tuple[float | None, float | None]:
    """USD and tokens that the newest calls of a guided scorer cost on average; None if unknown."""
    p, s = predictions.c, scores.c
    joined = predictions.join(scores, (s.exchange_id == p.exchange_id) & (s.scorer == p.scorer))
    query = select(s.cost_usd, s.tokens).select_from(joined).where(p.scorer == scorer, p.judged.is_(True))
    newest = query.order_by(p.received.desc()).limit(_PRICED).subquery()
    row = connection.execute(select(func.avg(newest.c.cost_usd), func.avg(newest.c.tokens))).one()
    return (None if row[0] is None else float(row[0])), (None if row[1] is None else float(row[1]))


def prediction_row(exchange: Exchange, of: Prediction) -> tuple[Any, ...]:
    """A row of `predictions`, in the order of its columns."""
    draw = (of.scorer, of.version, of.predicted, of.residual, of.pi, of.judged)
    place = (exchange.received, exchange.alias, str(exchange.target), exchange.stratum)
    return (exchange.id, *draw, *place, of.feature_set, of.features)


def predicted(connection: Connection, scorer: str, ids: Iterable[str]) -> set[str]:
    """Exchanges of these for which the draw of this scorer was decided by a stored prediction."""
    p, found = predictions.c, set[str]()
    for chunk in chunked(ids, _CHUNK):
        query = select(p.exchange_id).where(p.scorer == scorer, p.exchange_id.in_(chunk))
        found.update(connection.execute(query).scalars())
    return found


def decided_scorers(connection: Connection, ids: Iterable[str]) -> dict[str, list[str]]:
    """Exchange → the scorers whose draw was decided by a stored prediction."""
    p = predictions.c
    found: dict[str, list[str]] = {}
    for chunk in chunked(ids, _CHUNK):
        for exchange_id, scorer in connection.execute(select(p.exchange_id, p.scorer).where(p.exchange_id.in_(chunk))):
            found.setdefault(exchange_id, []).append(scorer)
    return found


def save_model(connection: Connection, model: StoredModel) -> None:
    """Stores a model; one of the same version stays as it is. Of older models of its target only the card is kept."""
    values = {name: getattr(model, name) for name in StoredModel.__dataclass_fields__}
    values |= {"card": orjson.dumps(dict(model.card)).decode(), "features": orjson.dumps(model.features).decode()}
    connection.execute(insert(connection.dialect, predictor_models).values(values).on_conflict_do_nothing())
    m = predictor_models.c
    kept = select(m.version).where(m.target == model.target).order_by(m.created.desc(), m.version).limit(KEPT_MODELS)
    newest = list(connection.execute(kept).scalars())
    connection.execute(
        update(predictor_models)
        .where(m.target == model.target, m.version.not_in(newest), m.model != "")
        .values(model="")
    )


def stored_prediction(connection: Connection, scorer: str, exchange_id: str) -> tuple[bytes, dict[str, Any]] | None:
    """The features of an exchange, and the other columns of its prediction; None if there is none."""
    p = predictions.c
    query = select(predictions).where(p.scorer == scorer, p.exchange_id == exchange_id)
    row = connection.execute(query).mappings().first()
    if row is None:
        return None
    return bytes(row["features"]), {str(name): value for name, value in row.items() if name != "features"}


def predictions_of(connection: Connection, ids: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """Reads predictions by exchange: `scorer`, `version`, `predicted`, `residual`, `pi` and `judged` of each, and the
    `target` of its model, None where there was no model. ids: of one batch."""
    p, m = predictions.c, predictor_models.c
    query = (
        select(p.exchange_id, p.scorer, m.target, p.version, p.predicted, p.residual, p.pi, p.judged)
        .outerjoin(predictor_models, m.version == p.version)
        .where(p.exchange_id.in_(ids))
        .order_by(p.exchange_id, p.scorer)
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for row in connection.execute(query).mappings():
        found.setdefault(row["exchange_id"], []).append({str(k): v for k, v in row.items() if k != "exchange_id"})
    return found


def newest_model(
    connection: Connection, target: str, known: Collection[str] = (), *, with_text: bool = True
) -> StoredModel | None:
    """The newest model of a target. known: versions whose text the caller has; `model` is "" for these, and without
    with_text."""
    m = predictor_models.c
    columns = [c for c in predictor_models.columns if c.name != "model"]
    query = select(*columns).where(m.target == target).order_by(m.created.desc(), m.version).limit(1)
    row = connection.execute(query).mappings().first()
    if row is None:
        return None
    text = ""
    if with_text and row["version"] not in known:
        text = str(connection.execute(select(m.model).where(m.version == row["version"])).scalar_one())
    values = {**row, "card": orjson.loads(row["card"]), "features": tuple(orjson.loads(row["features"]))}
    return StoredModel(model=text, **values)


def cards(connection: Connection) -> dict[str, Mapping[str, Any]]:
    """The card of the newest model, by target."""
    m, newer = predictor_models.c, predictor_models.alias("newer").c
    newest = select(func.max(newer.created)).where(newer.target == m.target).scalar_subquery()
    query = select(m.target, m.card).where(m.created == newest).order_by(m.version.desc())
    return {target: orjson.loads(card) for target, card in connection.execute(query)}
