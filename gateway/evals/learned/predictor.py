"""Decides for a batch of exchanges, before they are scored, with which probability the judge sees each, and draws.

An exchange that was served and is in no experiment is drawn by itself with its own probability. The others keep the
scorer's share and its draw by unit, since the answers of a pair must be judged together. The number that is drawn never
depends on the model, so a redelivered exchange gets the same one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gateway.config.predictor import PredictorConfig
from gateway.core.exchange import Exchange
from gateway.core.randomization import draw
from gateway.evals.learned.card import predictor_off
from gateway.evals.learned.features import FeatureExtractor, Matrix
from gateway.evals.learned.inclusion import inclusion
from gateway.evals.learned.model import PredictorModel
from gateway.evals.scoring.registry import RegisteredScorer
from gateway.evals.scoring.types import Subject
from gateway.evals.store.predictions import Prediction, StoredModel
from gateway.observability.eval_metrics import PredictorFigures

_RECENT = 64  # batches over which the mean of π is shown


@dataclass(frozen=True, slots=True)
class _Expected:
    """What a model, or the lack of one, says of one exchange."""

    version: str = ""
    predicted: float | None = None
    residual: float | None = None
    pi: float = 1.0
    features: bytes = b""


class Predictor:
    """scorers: those of the consumer, by name."""

    def __init__(self, config: PredictorConfig, scorers: Mapping[str, RegisteredScorer]) -> None:
        self.config = config
        self._guided = scorers.get(config.guided or "")
        self._others = {name: each for name, each in scorers.items() if name != config.guided}
        self._extractor = FeatureExtractor()
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
        """ "": there is no model."""
        return "" if self._stored is None else self._stored.version

    @property
    def off(self) -> bool:
        """Whether the model's card says that it does harm; every exchange then has the share."""
        return self._stored is not None and predictor_off(self._stored.card)

    def figures(self) -> PredictorFigures:
        """For Prometheus."""
        stored = self._stored
        n = sum(size for size, _ in self._recent)
        mean = sum(total for _, total in self._recent) / n if n else None
        trained, rows = (None, 0) if stored is None else (stored.created, stored.rows)
        return PredictorFigures(self.config.target, trained, rows, self.off, mean, self.exchanges, self.cpu_s)

    def use(self, model: PredictorModel, stored: StoredModel) -> None:
        """From the next batch on. A model over other features than this version computes is not used."""
        self._model = model if model.feature_set == self._extractor.set else None
        self.note_card(stored)

    def note_card(self, stored: StoredModel) -> None:
        """The same model with its newest card."""
        self._stored = replace(stored, model="")

    def predict(self, subjects: Sequence[Subject]) -> list[Prediction]:
        """One for each subject, in order."""
        began = time.thread_time()
        expected = self._expected(self._extractor.matrix(subjects))
        found = [self._drawn(s.exchange, each) for s, each in zip(subjects, expected, strict=True)]
        self.exchanges += len(subjects)
        self.cpu_s += time.thread_time() - began
        self._recent.append((len(found), sum(p.pi for p in found)))
        return found

    def without_model(self, subjects: Sequence[Subject]) -> list[Prediction]:
        """The same with the probability that holds where nothing can be predicted."""
        return [self._drawn(s.exchange, _Expected(pi=self.share)) for s in subjects]

    def _expected(self, x: Matrix) -> list[_Expected]:
        raw, size = x.astype("<f4", copy=False).tobytes(), 4 * x.shape[1]
        features = [raw[at : at + size] for at in range(0, len(raw), size)]
        if self._model is None:
            return [_Expected(pi=self.share, features=each) for each in features]
        g, residual = self._model.predict(x)
        pi = np.full(len(x), self.share) if self.off else inclusion(residual, self._model.scale, self.config.pi_min)
        version = self.model_version
        columns = zip(g.tolist(), residual.tolist(), pi.tolist(), features, strict=True)
        return [_Expected(version, *each) for each in columns]

    def _drawn(self, e: Exchange, of: _Expected) -> Prediction:
        key, expected = self.config.key, (of.version, of.predicted, of.residual)
        features = (self._extractor.set if of.features else "", of.features)
        if self._guided is None:
            return Prediction(key, *expected, 1.0, False, *features)
        if e.role == "served" and e.experiment is None:
            pi = of.pi
            judged = pi >= 1.0 or draw(f"learn:{key}", e.id) < pi
        else:
            pi = self._guided.share
            judged = pi >= 1.0 or draw(f"score:{key}", e.unit) < pi
        return Prediction(key, *expected, pi, judged, *features)

    @property
    def unguided(self) -> Mapping[str, RegisteredScorer]:
        """The scorers whose draws are not decided here, by name."""
        return self._others

    def drawn(self, of: Prediction | None) -> Mapping[str, RegisteredScorer]:
        """The guided scorer where it was drawn for the exchange, with the probability of that as its share; or none."""
        if self._guided is None or of is None or not of.judged:
            return {}
        return {of.scorer: replace(self._guided, share=of.pi)}
