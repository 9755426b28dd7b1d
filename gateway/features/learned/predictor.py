"""Decides for a batch of exchanges, before they are scored, the probability with which the judge sees each, and draws.

An exchange that was served and is in no experiment is drawn by itself with its own probability. The others keep the
scorer's share and its draw by unit, since the answers of a pair must be judged together. The number that is drawn never
depends on the model, so a redelivered exchange gets the same one.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gateway.config.predictor import PredictorConfig
from gateway.core.exchange import Exchange
from gateway.core.randomization import draw
from gateway.features.learned.inclusion import inclusion
from gateway.features.learned.model import PredictorModel
from gateway.features.learned.trees.ensembles import InvalidModel
from gateway.features.learned.trees.features import (
    EMBEDDING_FEATURES,
    Embedded,
    EmbeddingColumns,
    FeatureExtractor,
    Matrix,
    feature_names,
    feature_set,
)
from gateway.observability.eval_metrics import PredictorFigures
from gateway.scorers.embedding import local_minilm
from gateway.scoring.registry import RegisteredScorer
from gateway.scoring.types import Subject
from gateway.statistics.domains import Floats
from gateway.store.guided_means import harmful
from gateway.store.predictions import Prediction, StoredModel

_new_tuple = tuple.__new__  # a NamedTuple's own __new__ costs twice as much, and this runs for every exchange
_RECENT = 64  # batches over which the mean of π is shown


class Predictor:
    """Predicts and draws. scorers: of the consumer, by name. embedding: with `config.embedding`; None: MiniLM."""

    def __init__(
        self,
        config: PredictorConfig,
        scorers: Mapping[str, RegisteredScorer],
        embedding: EmbeddingColumns | None = None,
    ) -> None:
        self.config = config
        self._embedding = (embedding or EmbeddingColumns(local_minilm())) if config.embedding else None
        self.names = feature_names(embedding=config.embedding)
        """The names of the features that it computes."""
        self._set = feature_set(self.names)
        self._guided = scorers.get(config.guided or "")
        self._others = {name: each for name, each in scorers.items() if name != config.guided}
        self._extractor = FeatureExtractor()
        self._key, self._domain = config.key, f"learn:{config.key}"
        self._model: PredictorModel | None = None
        self._stored: StoredModel | None = None
        self._recent: deque[tuple[int, float]] = deque(maxlen=_RECENT)
        self.exchanges, self.cpu_s = 0, 0.0

    @property
    def share(self) -> float:
        """The share of exchanges that the judge sees on average."""
        own = 1.0 if self._guided is None else self._guided.share
        return own if self.config.share is None else self.config.share

    @property
    def model_version(self) -> str:
        """The version of the model; "" if there is none."""
        return "" if self._stored is None else self._stored.version

    @property
    def off(self) -> bool:
        """Tells whether the model makes intervals wider, by its card; every exchange then has the share."""
        return self._stored is not None and harmful(self._stored.card)

    def figures(self) -> PredictorFigures:
        stored = self._stored
        n = sum(size for size, _ in self._recent)
        mean = sum(total for _, total in self._recent) / n if n else None
        trained, rows = (None, 0) if stored is None else (stored.created, stored.rows)
        return PredictorFigures(self.config.target, trained, rows, self.off, mean, self.exchanges, self.cpu_s)

    def use(self, model: PredictorModel, stored: StoredModel) -> None:
        """Uses this model from the next batch on. Raises InvalidModel for a model over other features than this
        consumer computes: every exchange then has the share."""
        self._model = model if model.feature_set == self._set else None
        self.note_card(stored)
        if self._model is None:
            raise InvalidModel(_other_features(model, embedding=self.config.embedding))

    def note_card(self, stored: StoredModel) -> None:
        """Takes the newest card of the same model."""
        self._stored = replace(stored, model="")

    async def embedded(self, subjects: Sequence[Subject]) -> Embedded | None:
        """The columns of `predict` that take long, computed in a thread; None if there are none."""
        return None if self._embedding is None else await asyncio.to_thread(self._embedding.of, subjects)

    async def predictions(self, subjects: Sequence[Subject]) -> list[Prediction]:
        return self.predict(subjects, await self.embedded(subjects))

    def predict(self, subjects: Sequence[Subject], embedded: Embedded | None = None) -> list[Prediction]:
        """Makes a prediction for each subject, in order. embedded: of these subjects."""
        began = time.thread_time()
        x = self._extractor.matrix(subjects)
        if embedded is not None:
            x = np.hstack((x, embedded.columns))
            self.cpu_s += embedded.cpu_s
        columns = self._expected(x)
        version = "" if self._model is None else self.model_version
        found = []
        for s, g, residual, expected, features in zip(subjects, *columns, strict=True):
            pi, judged = self._draw(s.exchange, expected)
            values = (self._key, version, g, residual, pi, judged, self._set, features)
            found.append(_new_tuple(Prediction, values))
        self.exchanges += len(subjects)
        self.cpu_s += time.thread_time() - began
        self._recent.append((len(found), sum([p.pi for p in found])))
        return found

    def without_model(self, subjects: Sequence[Subject]) -> list[Prediction]:
        """Makes predictions with the probability that holds where nothing can be predicted."""
        draws = (self._draw(s.exchange, self.share) for s in subjects)
        return [Prediction(self._key, "", None, None, pi, judged, "", b"") for pi, judged in draws]

    def _expected(self, x: Matrix) -> tuple[list[Any], list[Any], list[float], list[bytes]]:
        """Returns g and r̂ of each row, None without a model; π; and the features."""
        raw, size, n = x.astype("<f4", copy=False).tobytes(), 4 * x.shape[1], len(x)
        features = [raw[at : at + size] for at in range(0, len(raw), size)]
        if self._model is None:
            return [None] * n, [None] * n, [self.share] * n, features
        g, residual = self._model.predict(x)
        pi = self._probabilities(residual)
        return g.tolist(), residual.tolist(), pi.tolist(), features

    def _probabilities(self, residual: Floats) -> Floats:
        """π of each exchange; residual: the squared error that the model expects."""
        if self.off:
            return np.full(len(residual), self.share)
        if not self.config.adaptive:
            affordable = 1.0 if self._stored is None else float(self._stored.card.get("share", 1.0))
            return np.full(len(residual), min(self.share, affordable))
        scale = 0.0 if self._model is None else self._model.scale
        return inclusion(residual, scale, self.config.floor(self.share))

    def _draw(self, e: Exchange, pi: float) -> tuple[float, bool]:
        """Returns the probability with which the judge sees the exchange, and whether it does."""
        guided = self._guided
        if guided is None:
            return 1.0, False
        if e.role == "served" and e.experiment is None:
            return pi, pi >= 1.0 or draw(self._domain, e.id) < pi
        return guided.share, guided.share >= 1.0 or draw(f"score:{self.config.key}", e.unit) < guided.share

    @property
    def unguided(self) -> Mapping[str, RegisteredScorer]:
        """The scorers whose draws are not decided here, by name."""
        return self._others

    def drawn(self, of: Prediction | None) -> Mapping[str, RegisteredScorer]:
        """The guided scorer where it was drawn for the exchange, with the probability of that as its share; or none."""
        if self._guided is None or of is None or not of.judged:
            return {}
        return {of.scorer: replace(self._guided, share=of.pi)}


def _other_features(model: PredictorModel, *, embedding: bool) -> str:
    trained = any(name in EMBEDDING_FEATURES for name in model.names)
    if trained == embedding:
        return "it looks at other features than this version computes"
    return (
        "it looks at MiniLM's vectors, and this consumer has no `predictor.embedding: true`"
        if trained
        else "it was trained without MiniLM's vectors, and this consumer has `predictor.embedding: true`"
    )
