"""What a model looks at: over many exchanges by permutation, for one exchange by what is usual. Pure.

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

from gateway.features.learned.features import BYTE_CLASSES
from gateway.features.learned.inclusion import Floats
from gateway.features.learned.model import PredictorModel
from gateway.features.learned.training import TrainingRows

REPEATS = 3
_PROJECTED = re.compile(r"minilm_\d+")
_GRAM = re.compile(r"request_gram_\d+")


@dataclass(frozen=True, slots=True)
class FeatureEffect:
    """feature: a name, or that of several features together. effect: see the function that returns it."""

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


def importances(model: PredictorModel, rows: TrainingRows, seed: int = 0) -> list[FeatureEffect]:
    """By how much the mean squared error of g grows when a feature's values are shuffled among the exchanges, weighted
    by 1 / π; the largest first. Source: Breiman, "Random Forests", Machine Learning 45, 2001."""
    random = np.random.default_rng(seed)
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
    """For one exchange: g less what it would be if a feature had its usual value; the largest in size first. x: shape
    (number of features,). usual: see usual_values."""
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
