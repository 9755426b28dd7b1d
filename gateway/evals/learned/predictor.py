"""Decides for a batch of exchanges, before they are scored, with which probability the judge sees each, and draws.

An exchange that was served and is in no experiment is drawn by itself with its own probability. The others keep the
scorer's share and its draw by unit, since the answers of a pair must be judged together. The number that is drawn never
depends on the model, so a redelivered exchange gets the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from gateway.config.predictor import PredictorConfig
from gateway.core.exchange import Exchange
from gateway.core.randomization import draw
from gateway.evals.scoring.registry import RegisteredScorer
from gateway.evals.scoring.types import Subject
from gateway.evals.store.predictions import Prediction


class Predictor:
    """scorers: those of the consumer, by name."""

    def __init__(self, config: PredictorConfig, scorers: Mapping[str, RegisteredScorer]) -> None:
        self.config = config
        self._scorers = scorers
        self._guided = scorers.get(config.guided or "")
        self._others = {name: each for name, each in scorers.items() if name != config.guided}

    @property
    def share(self) -> float:
        """The share of exchanges that the judge sees on average."""
        own = 1.0 if self._guided is None else self._guided.share
        return own if self.config.share is None else self.config.share

    def predict(self, subjects: Sequence[Subject]) -> list[Prediction]:
        """One for each subject, in order."""
        return self.without_model(subjects)

    def without_model(self, subjects: Sequence[Subject]) -> list[Prediction]:
        """The same with the probability that holds where nothing can be predicted."""
        return [self._drawn(s.exchange, "", None, None, self.share, "", b"") for s in subjects]

    def _drawn(
        self, e: Exchange, version: str, g: float | None, residual: float | None, pi: float, of: str, features: bytes
    ) -> Prediction:
        if self._guided is None:
            return Prediction(self.config.key, version, g, residual, 1.0, False, of, features)
        if e.role == "served" and e.experiment is None:
            judged = pi >= 1.0 or draw(f"learn:{self.config.key}", e.id) < pi
        else:
            pi = self._guided.share
            judged = pi >= 1.0 or draw(f"score:{self.config.key}", e.unit) < pi
        return Prediction(self.config.key, version, g, residual, pi, judged, of, features)

    def chosen(self, of: Prediction) -> Mapping[str, RegisteredScorer]:
        """The scorers that may see the exchange. The guided one is among them where it was drawn, and its share is the
        probability of that."""
        if self._guided is None:
            return self._scorers
        if not of.judged:
            return self._others
        return {name: replace(each, share=of.pi) if name == of.scorer else each for name, each in self._scorers.items()}


def draws_of(unit: str, of: Prediction | None) -> Callable[[str], float]:
    """The draws of one exchange by domain; that of a scorer which was drawn already is 0."""
    if of is None or not of.judged:
        return partial(draw, unit=unit)
    decided = f"score:{of.scorer}"
    return lambda domain: 0.0 if domain == decided else draw(domain, unit)
