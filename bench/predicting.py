"""Measures what the learned predictor costs a consumer: CPU of each exchange, in batches, with a model and a SQLite
store.

The functions are those that the consumer calls, with a model of the usual size that was trained on such chats. Each
batch is met for the first time, as in the consumer. CPU is of the calling thread, so other programs matter little.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
import orjson
from chats import chats
from sqlalchemy import Connection

from gateway.config.predictor import PredictorConfig
from gateway.core.chunked import chunked
from gateway.core.completion import completion_of
from gateway.core.exchange import Exchange
from gateway.core.score import Score, ScoreResult
from gateway.features.learned.inclusion import inclusion
from gateway.features.learned.model import PredictorModel
from gateway.features.learned.predictor import Predictor
from gateway.features.learned.trees.features import FeatureExtractor
from gateway.features.learned.trees.training import Design, TrainingRows, train
from gateway.scorers.truncation import Truncation
from gateway.scoring.registry import RegisteredScorer
from gateway.scoring.text_facts import BatchTexts
from gateway.scoring.types import Subject
from gateway.store import engine
from gateway.store.bulk_insert import insert_new
from gateway.store.prediction_sums import add_predictions
from gateway.store.predictions import Prediction, StoredModel, prediction_row
from gateway.store.rows import ScoredExchange
from gateway.store.tables import predictions

T = TypeVar("T")
BATCH = 256
SHARE = 0.2
TRAINED_ON = 2_000
_NAME = "helpfulness"
_SCORERS = {_NAME: RegisteredScorer(Truncation(_NAME), SHARE, 10.0, "bench")}
"""Results are made here, since the judge's cost is not the predictor's."""


@dataclass(frozen=True, slots=True)
class PredictorCost:
    """CPU µs of an exchange."""

    features: float
    trees: float
    draw: float
    """π, the draw, and the Prediction."""
    storing: float
    """The row of `predictions`, and its part of the sums."""

    @property
    def all(self) -> float:
        return self.features + self.trees + self.draw + self.storing


def trained(rows: int = TRAINED_ON) -> PredictorModel:
    """Trains a model on chats whose verdict depends on their length, and on chance."""
    exchanges = list(chats(rows, seed=1))
    x = FeatureExtractor().matrix(_subjects(exchanges))
    sizes = np.array([len(e.response) for e in exchanges])
    h = np.clip(sizes / sizes.max() + np.random.default_rng(1).normal(size=rows) * 0.3, 0.0, 1.0)
    received = np.array([e.received for e in exchanges])
    return train(Design(_NAME, SHARE, 0.05), TrainingRows(x, h, np.full(rows, SHARE), received), x).model


def measured(model: PredictorModel, batches: int, seed: int = 2, batch: int = BATCH) -> PredictorCost:
    """Medians over `batches` batches of other chats."""
    predictor = Predictor(PredictorConfig(target=_NAME, adaptive=True, pi_min=0.05), _SCORERS)
    predictor.use(model, StoredModel("v1", _NAME, 0.0, 0.0, 0.0, 1, "", {}, FeatureExtractor.names))
    costs = []
    with TemporaryDirectory() as directory:
        opened = engine.writer(f"sqlite:///{Path(directory) / 'gateway.db'}")
        for each in chunked(chats(batches * batch, seed), batch):
            with opened.begin() as connection:
                costs.append(_cost(each, predictor, model, connection))
        opened.dispose()
    return PredictorCost(*np.median(costs, axis=0).tolist())


def _cost(
    exchanges: Sequence[Exchange], predictor: Predictor, model: PredictorModel, connection: Connection
) -> tuple[float, ...]:
    subjects = _subjects(exchanges)
    whole, found = _timed(lambda: predictor.predict(subjects))
    x = np.frombuffer(b"".join([p.features for p in found]), dtype="<f4").reshape(len(found), -1)
    trees, (_, residual) = _timed(lambda: model.predict(x))
    pi, _ = _timed(lambda: inclusion(residual, model.scale, predictor.config.pi_min).tolist())
    draw, _ = _timed(lambda: predictor.without_model(subjects))
    judged = [
        ScoredExchange(s.exchange, s.completion, [_result(p)] if p.judged else [], prediction=p)
        for s, p in zip(subjects, found, strict=True)
    ]
    storing, _ = _timed(lambda: _store(connection, judged))
    parts = whole - trees - pi - draw, trees, pi + draw, storing
    return tuple(1e6 * part / len(exchanges) for part in parts)


def _store(connection: Connection, judged: Sequence[ScoredExchange]) -> None:
    rows = [prediction_row(j.exchange, j.prediction) for j in judged if j.prediction is not None]
    insert_new(connection, predictions, rows)
    add_predictions(connection, judged, _SCORERS)


def _timed(of: Callable[[], T]) -> tuple[float, T]:
    """CPU seconds of this thread, and the result."""
    began = time.thread_time()
    result = of()
    return time.thread_time() - began, result


def _subjects(exchanges: Sequence[Exchange]) -> list[Subject]:
    """Subjects as the consumer makes them: the texts of a batch are known together."""
    texts, found = BatchTexts(), []
    for e in exchanges:
        completion = completion_of(e)
        found.append(Subject(e, orjson.loads(e.request), completion, batch=texts.add(completion.text)))
    return found


def _result(of: Prediction) -> ScoreResult:
    scorer = _SCORERS[_NAME]
    return ScoreResult(_NAME, scorer.scorer.version, scorer.config_hash, "scored", Score(0.5), None, 0.1, of.pi)
