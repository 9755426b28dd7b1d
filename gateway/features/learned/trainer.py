"""Trains a model from the store and stores it, in a process of its own: `python -m gateway.features.learned.trainer`.

The process reads a TrainingJob from stdin and writes its outcome to stdout, both as JSON. The job has the store's URL,
and with it perhaps a password: arguments and the environment would show it to others.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from gateway.config.config import Config
from gateway.config.predictor import FEEDBACK_TARGET, LABELS_TARGET, PI_MIN, PredictorConfig
from gateway.config.scorers import ScorerConfig
from gateway.core.errors import CannotRun
from gateway.core.score import ConfiguredScorer
from gateway.features.learned.card import card_of
from gateway.features.learned.inclusion import affordable_share
from gateway.features.learned.model import version_of
from gateway.features.learned.trees.features import feature_names, feature_set
from gateway.features.learned.trees.training import Design, TrainingResult, TrainingRows, evidence_of, train
from gateway.store import engine
from gateway.store.engine import Transaction
from gateway.store.predictions import (
    StoredModel,
    TargetOf,
    TargetValue,
    mean_cost,
    newest_predictions,
    save_model,
    target_values,
)

WINDOW = 4_000
"""Number of newest exchanges over which the mean of π is to be the share."""


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """The task of a training. As JSON it enters the process that trains."""

    store: str
    """URL of the store."""
    target: str
    key: str
    pi_min: float
    share: float
    min_rows: int
    max_rows: int
    version: str
    """The version of the guided scorer, as is config_hash; "" if there is none."""
    config_hash: str
    budget_usd: float | None
    budget_tokens: int | None
    embedding: bool = False
    adaptive: bool = False
    """Whether an exchange has a probability of its own; otherwise all have the share."""

    @property
    def names(self) -> tuple[str, ...]:
        return feature_names(embedding=self.embedding)

    @classmethod
    def of(
        cls, config: PredictorConfig, store: str, scorer: ConfiguredScorer | None, section: ScorerConfig | None
    ) -> TrainingJob:
        """The job of a config. scorer, section: of the guided scorer; None if none is guided."""
        own = 1.0 if section is None else section.share
        share = own if config.share is None else config.share
        rows = (config.min_rows, config.max_rows)
        identity = ("", "") if scorer is None else (scorer.scorer.version, scorer.config_hash)
        budgets = (None, None) if section is None else (section.budget_usd, section.budget_tokens)
        flags = (config.embedding, config.adaptive)
        return cls(store, config.target, config.key, config.floor(share), share, *rows, *identity, *budgets, *flags)

    def to_json(self) -> bytes:
        return orjson.dumps(asdict(self))

    @property
    def of_target(self) -> TargetOf:
        people = self.target.startswith((FEEDBACK_TARGET, LABELS_TARGET))
        kind = "scores" if not people else "labels" if self.target.startswith(LABELS_TARGET) else "feedback"
        return TargetOf(self.key, kind, self.version, self.config_hash, feature_set(self.names))  # type: ignore[arg-type]


def training_job(config: Config, store: str, scorers: Mapping[str, ConfiguredScorer]) -> TrainingJob:
    """The job of a config with a predictor. store: URL. Raises ValueError without one."""
    if config.predictor is None:
        raise ValueError("the config has no section predictor")
    name = config.predictor.guided or ""
    return TrainingJob.of(config.predictor, store, scorers.get(name), config.scorers.get(name))


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    rows: int
    """Exchanges with a value of the target."""
    version: str = ""
    """The version of the new model; "" if there were fewer rows than a training needs."""
    seconds: float = 0.0
    """Seconds of processor time."""


def train_from_store(job: TrainingJob, step: Callable[[], None] = lambda: None) -> TrainingOutcome:
    """Trains and stores a model. step: see training.train. Raises CannotRun, and errors of the database."""
    began = time.process_time()
    opened = engine.writer(job.store)
    try:
        with opened.connect() as connection:
            values = target_values(connection, job.of_target, job.max_rows)
            if len(values) < job.min_rows:
                return TrainingOutcome(len(values))
            window = newest_predictions(connection, job.of_target, WINDOW)
            share = _affordable(connection, job, window.a_day)
        newest = matrix_of(window.features, job.names)
        design = Design(job.target, share, job.pi_min, job.names)
        trained = train(design, rows_of(values, job.names), newest, step)
        seconds = time.process_time() - began
        stored = _stored(job, trained, values, {"share": share, "asked_share": job.share, "train_cpu_s": seconds})
        with opened.begin() as connection:
            save_model(connection, stored)
        return TrainingOutcome(len(values), stored.version, seconds)
    finally:
        opened.dispose()


def _affordable(connection: Transaction, job: TrainingJob, a_day: float) -> float:
    """The share that the scorer's budgets pay for."""
    usd, tokens = mean_cost(connection, job.key)
    calls = [
        budget / cost
        for budget, cost in ((job.budget_usd, usd), (job.budget_tokens, tokens))
        if budget is not None and cost
    ]
    return affordable_share(job.share, a_day, min(calls, default=None), job.pi_min if job.adaptive else PI_MIN)


def matrix_of(features: Sequence[bytes], names: Sequence[str]) -> NDArray[np.float32]:
    """Stored features as rows: shape (n, number of features)."""
    width = len(names)
    return np.frombuffer(b"".join(features), dtype="<f4").reshape(len(features), width).astype(np.float32)


def rows_of(values: Sequence[TargetValue], names: Sequence[str]) -> TrainingRows:
    """The rows in order of arrival."""
    h, pi, received = np.array([(v.value, v.pi, v.received) for v in values], dtype=np.float64).reshape(-1, 3).T
    return TrainingRows(matrix_of([v.features for v in values], names), np.clip(h, 0.0, 1.0), pi, received)


def _stored(
    job: TrainingJob, trained: TrainingResult, values: Sequence[TargetValue], more: dict[str, Any]
) -> StoredModel:
    text = trained.model.to_json()
    span = values[0].received, values[-1].received
    pi_min = job.pi_min if job.adaptive else more["share"]
    card = card_of(evidence_of(trained.held_out), job.names, more["share"], pi_min)
    card |= {**more, "pi_min": pi_min, "trained_to": span[1]}
    return StoredModel(version_of(text), job.target, time.time(), *span, len(values), text, card, job.names)


NICENESS = 10  # scoring comes first


def main() -> int:
    """Returns the exit code. 0 if done. 1 if it cannot run, and stderr says why in one line."""
    os.nice(NICENESS)
    job = TrainingJob(**orjson.loads(sys.stdin.buffer.read()))
    try:
        outcome = train_from_store(job)
    except CannotRun as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.buffer.write(orjson.dumps(asdict(outcome)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
