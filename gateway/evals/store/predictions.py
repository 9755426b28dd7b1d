"""What learned models predicted for each exchange, and the models. Rows only: evals/learned makes both."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, func, select, update

from gateway.core.chunked import chunked
from gateway.core.exchange import Exchange
from gateway.evals.store.engine import insert
from gateway.evals.store.tables import predictions, predictor_models

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was predicted for an exchange before the draw, and the draw."""

    scorer: str
    """Whose sampling it guides, or "feedback:NAME"."""
    version: str
    """Of the model; "": there was none."""
    predicted: float | None
    """The expected value in [0, 1], 1 best; None: there was no model."""
    residual: float | None
    """The expected squared error of `predicted`; None: there was no model."""
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
    """JSON, which evals/learned reads and checks."""
    card: Mapping[str, Any]
    features: tuple[str, ...]


def prediction_row(exchange: Exchange, of: Prediction) -> tuple[Any, ...]:
    """A row of `predictions`, in the order of its columns."""
    return (
        exchange.id, of.scorer, of.version, of.predicted, of.residual, of.pi, of.judged, exchange.received,
        exchange.alias, str(exchange.target), exchange.stratum, of.feature_set, of.features,
    )  # fmt: skip


def predicted(connection: Connection, scorer: str, ids: Iterable[str]) -> set[str]:
    """Those of the exchanges for which the draw of this scorer was decided by a stored prediction."""
    p, found = predictions.c, set[str]()
    for chunk in chunked(ids, _CHUNK):
        query = select(p.exchange_id).where(p.scorer == scorer, p.exchange_id.in_(chunk))
        found.update(connection.execute(query).scalars())
    return found


def save_model(connection: Connection, model: StoredModel) -> None:
    """Stores a model; one of the same version stays as it is."""
    values = {name: getattr(model, name) for name in StoredModel.__dataclass_fields__}
    values |= {"card": orjson.dumps(dict(model.card)).decode(), "features": orjson.dumps(model.features).decode()}
    connection.execute(insert(connection.dialect, predictor_models).values(values).on_conflict_do_nothing())


def set_card(connection: Connection, version: str, card: Mapping[str, Any]) -> None:
    """Replaces the card of a model."""
    text = orjson.dumps(dict(card)).decode()
    connection.execute(update(predictor_models).where(predictor_models.c.version == version).values(card=text))


def newest_model(connection: Connection, target: str, known: Collection[str] = ()) -> StoredModel | None:
    """The newest model of a target. known: versions whose text the caller has; `model` is "" for these."""
    m = predictor_models.c
    columns = [c for c in predictor_models.columns if c.name != "model"]
    query = select(*columns).where(m.target == target).order_by(m.created.desc(), m.version).limit(1)
    row = connection.execute(query).mappings().first()
    if row is None:
        return None
    text = "" if row["version"] in known else _text_of(connection, row["version"])
    values = {**row, "card": orjson.loads(row["card"]), "features": tuple(orjson.loads(row["features"]))}
    return StoredModel(model=text, **values)


def _text_of(connection: Connection, version: str) -> str:
    query = select(predictor_models.c.model).where(predictor_models.c.version == version)
    return str(connection.execute(query).scalar_one())


def cards(connection: Connection) -> dict[str, Mapping[str, Any]]:
    """Of the newest model by target."""
    m, newer = predictor_models.c, predictor_models.alias("newer").c
    newest = select(func.max(newer.created)).where(newer.target == m.target).scalar_subquery()
    query = select(m.target, m.card).where(m.created == newest).order_by(m.version.desc())
    return {target: orjson.loads(card) for target, card in connection.execute(query)}
