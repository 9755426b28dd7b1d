"""The state of a predictor for `gateway learn`, read from the store, and the importance of its features.

Over many exchanges, importance is measured by permutation; for one exchange, by the difference from the usual values.
Hashed three-byte sequences mean nothing one by one, and are explained together; so are kinds of characters, and the
projections of MiniLM's vector.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.core.errors import CannotRun
from gateway.features.learned.inclusion import Floats
from gateway.features.learned.model import PredictorModel, read_model
from gateway.features.learned.rows import JudgedShare, judged_share
from gateway.features.learned.trainer import WINDOW, TrainingJob, matrix_of, rows_of
from gateway.features.learned.trees.ensembles import InvalidModel
from gateway.features.learned.trees.features import BYTE_CLASSES
from gateway.features.learned.trees.training import TrainingRows
from gateway.store.predictions import StoredModel, newest_model, newest_predictions, stored_prediction, target_values
from gateway.store.query import Reading

REPEATS = 3
_PROJECTED = re.compile(r"minilm_\d+")
_GRAM = re.compile(r"request_gram_\d+")


@dataclass(frozen=True, slots=True)
class FeatureEffect:
    """The effect of a feature, or of several together; see the function that returns it."""

    feature: str
    effect: float


def groups_of(names: Sequence[str]) -> dict[str, list[int]]:
    """The columns of each feature, and of those that are explained together."""
    found: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        part, _, kind = name.partition("_")
        if _PROJECTED.fullmatch(name):
            name = "answer's MiniLM vector"
        elif _GRAM.fullmatch(name):
            name = f"{part} character sequences"
        elif kind in BYTE_CLASSES:
            name = f"{part} kinds of characters"
        found.setdefault(name, []).append(i)
    return found


def importances(model: PredictorModel, rows: TrainingRows) -> list[FeatureEffect]:
    """The growth of the mean squared error of g when a feature's values are shuffled among the exchanges, weighted
    by 1 / π; the largest first. Source: Breiman, "Random Forests", Machine Learning 45, 2001."""
    random = np.random.default_rng(0)
    weights = 1.0 / rows.pi
    plain = _error(model, rows.x, rows.h, weights)
    effects = []
    for name, columns in groups_of(model.names).items():
        growth = 0.0
        for _ in range(REPEATS):
            shuffled = rows.x.copy()
            shuffled[:, columns] = rows.x[random.permutation(len(rows))][:, columns]
            growth += _error(model, shuffled, rows.h, weights) - plain
        effects.append(FeatureEffect(name, growth / REPEATS))
    return sorted(effects, key=lambda e: -e.effect)


def _error(model: PredictorModel, x: NDArray[Any], h: Floats, weights: Floats) -> float:
    return float(np.average((model.predict(x)[0] - h) ** 2, weights=weights))


def reasons(model: PredictorModel, x: NDArray[np.float32], usual: Mapping[str, float]) -> list[FeatureEffect]:
    """The effects on one exchange: g less its value if a feature had its usual value; the largest in size first. x:
    shape (number of features,). usual: see usual_values."""
    groups = groups_of(model.names)
    changed = np.tile(x, (len(groups) + 1, 1))
    for row, columns in enumerate(groups.values(), 1):
        changed[row, columns] = [usual[model.names[i]] for i in columns]
    g, *others = model.predict(changed)[0].tolist()
    effects = [FeatureEffect(name, g - other) for name, other in zip(groups, others, strict=True)]
    return sorted(effects, key=lambda e: -abs(e.effect))


def usual_values(names: Sequence[str], window: NDArray[np.float32]) -> dict[str, float]:
    """The median of each feature; NaN where it mostly does not apply. window: shape (n, number of features)."""
    missing = np.isnan(window).mean(axis=0) > 0.5
    known = np.where(np.isnan(window), np.inf, window)  # beyond all known ones
    counts = (~np.isnan(window)).sum(axis=0)
    middle = np.sort(known, axis=0)[np.maximum(counts - 1, 0) // 2, np.arange(window.shape[1])]
    return dict(zip(names, np.where(missing, np.nan, middle).tolist(), strict=True))


LEAST_NEW = 100
"""Minimum number of exchanges since the training; fewer say too little about a feature."""
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class LearnStatus:
    """A predictor's state."""

    target: str
    model: StoredModel | None
    """The newest model without its text; None if there is none yet."""
    values: int
    """Exchanges that a training would use now."""
    min_rows: int
    since_yesterday: JudgedShare


@dataclass(frozen=True, slots=True)
class Importances:
    """The effects of features over many exchanges, as `importances` measures them.

    unseen: the model was trained before these exchanges.
    """

    version: str
    effects: tuple[FeatureEffect, ...]
    exchanges: int
    unseen: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """The effects on one exchange, as `reasons` gives them. stored: its row of `predictions` without its features."""

    stored: Mapping[str, Any]
    version: str
    """The version of the model that effects were computed with: the newest."""
    effects: tuple[FeatureEffect, ...]


def status(connection: Reading, job: TrainingJob, now: float) -> LearnStatus:
    """Reads the state of a predictor. now: Unix seconds."""
    values = len(target_values(connection, job.of_target, job.max_rows))
    model = newest_model(connection, job.target, with_text=False)
    return LearnStatus(job.target, model, values, job.min_rows, judged_share(connection, job.key, now - DAY_S))


def explain_all(connection: Reading, job: TrainingJob) -> Importances:
    """Explain on exchanges that arrived after the training, or, if they are too few, on the newest quarter of all.
    Raises CannotRun without a model."""
    stored, model = _model(connection, job)
    rows = rows_of(target_values(connection, job.of_target, job.max_rows), job.names)
    if not len(rows):
        raise CannotRun(f"no exchange has both a value of {job.target} and features of this version")
    new = int(np.count_nonzero(rows.received > stored.trained_to))
    n = new if new >= LEAST_NEW else max(1, len(rows) // 4)
    used = rows.part(slice(len(rows) - n, None))
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


def _model(connection: Reading, job: TrainingJob) -> tuple[StoredModel, PredictorModel]:
    stored = newest_model(connection, job.target)
    if stored is None:
        raise CannotRun(f"no model of {job.target} has been trained yet; `gateway learn status` says what is missing")
    try:
        return stored, read_model(stored)
    except InvalidModel as error:
        raise CannotRun(f"model {stored.version[:12]} cannot be used: {error}") from error
