"""What `gateway learn` shows of a predictor, read from the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gateway.core.errors import CannotRun
from gateway.features.learned.explain import FeatureEffect, importances, reasons, usual_values
from gateway.features.learned.model import PredictorModel, read_model
from gateway.features.learned.trainer import WINDOW, TrainingJob, matrix_of, rows_of
from gateway.features.learned.training import TrainingRows
from gateway.features.learned.trees import InvalidModel
from gateway.store.predictions import StoredModel, newest_model, newest_predictions, stored_prediction, target_values
from gateway.store.predictor_history import JudgedShare, judged_share
from gateway.store.query import Reading

LEAST_NEW = 100
"""Fewer exchanges since the training say too little of a feature."""
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class LearnStatus:
    """A predictor's state."""

    target: str
    model: StoredModel | None
    """Without its text; None: there is none yet."""
    values: int
    """Exchanges that a training would use now."""
    min_rows: int
    since_yesterday: JudgedShare


@dataclass(frozen=True, slots=True)
class Importances:
    """effects: see explain.importances. unseen: the model was trained before these exchanges."""

    version: str
    effects: tuple[FeatureEffect, ...]
    exchanges: int
    unseen: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """One exchange. stored: its row of `predictions`, without its features. effects: see explain.reasons."""

    stored: Mapping[str, Any]
    version: str
    """Of the model that effects were computed with: the newest."""
    effects: tuple[FeatureEffect, ...]


def status(connection: Reading, job: TrainingJob, now: float) -> LearnStatus:
    """now: Unix seconds."""
    values = len(target_values(connection, job.of_target, job.max_rows))
    model = newest_model(connection, job.target, with_text=False)
    return LearnStatus(job.target, model, values, job.min_rows, judged_share(connection, job.key, now - DAY_S))


def explain_all(connection: Reading, job: TrainingJob) -> Importances:
    """On exchanges that arrived after the training where there are enough of them, else on the newest quarter of all.
    Raises CannotRun without a model."""
    stored, model = _model(connection, job)
    rows = rows_of(target_values(connection, job.of_target, job.max_rows), job.names)
    if not len(rows):
        raise CannotRun(f"no exchange has both a value of {job.target} and features of this version")
    new = int(np.count_nonzero(rows.received > stored.trained_to))
    used = _newest(rows, new if new >= LEAST_NEW else max(1, len(rows) // 4))
    return Importances(stored.version, tuple(importances(model, used)), len(used), new >= LEAST_NEW)


def explain_one(connection: Reading, job: TrainingJob, exchange_id: str) -> Explanation:
    """Raises CannotRun where there is no prediction with features of this version, or no model."""
    found = stored_prediction(connection, job.key, exchange_id)
    if found is None:
        raise CannotRun(f"no prediction of {job.key} is stored for exchange {exchange_id}")
    features, row = found
    if row["feature_set"] != job.of_target.feature_set:
        raise CannotRun(f"the features of exchange {exchange_id} are of another version, or retention removed them")
    stored, model = _model(connection, job)
    window = newest_predictions(connection, job.of_target, WINDOW)
    usual = usual_values(model.names, matrix_of(window.features, job.names))
    return Explanation(row, stored.version, tuple(reasons(model, matrix_of([features], job.names)[0], usual)))


def _newest(rows: TrainingRows, n: int) -> TrainingRows:
    return rows.part(slice(len(rows) - n, None))


def _model(connection: Reading, job: TrainingJob) -> tuple[StoredModel, PredictorModel]:
    stored = newest_model(connection, job.target)
    if stored is None:
        raise CannotRun(f"no model of {job.target} has been trained yet; `gateway learn status` says what is missing")
    try:
        return stored, read_model(stored)
    except InvalidModel as error:
        raise CannotRun(f"model {stored.version[:12]} cannot be used: {error}") from error
