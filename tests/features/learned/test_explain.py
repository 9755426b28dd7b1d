"""What a model relies on is found, together for columns that mean nothing alone."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.features.learned.explain import groups_of, importances, reasons, usual_values
from gateway.features.learned.features import FEATURES
from gateway.features.learned.model import PredictorModel
from gateway.features.learned.training import TrainingRows
from gateway.features.learned.trees import Tree, TreeEnsemble

NAMES = FEATURES
LENGTH, GRAM = NAMES.index("answer_log"), NAMES.index("request_gram_3")


def stump(feature: int, low: float, high: float) -> Tree:
    return Tree((feature, 0, 0), (0.5, 0.0, 0.0), (True, False, False), (1, 0, 0), (2, 0, 0), (0.0, low, high))


MODEL = PredictorModel("judge", NAMES, TreeEnsemble(0.5, (stump(LENGTH, -0.4, 0.4), stump(GRAM, 0.0, 0.1)), len(NAMES)),
                       TreeEnsemble(0.1, (), len(NAMES)), 1.0)  # fmt: skip


def rows(n: int = 400) -> TrainingRows:
    x = np.random.default_rng(1).random((n, len(NAMES)), dtype=np.float32)
    return TrainingRows(x, MODEL.predict(x)[0], np.full(n, 0.5), np.arange(n, dtype=float))


def test_columns_that_mean_nothing_alone_are_explained_together() -> None:
    groups = groups_of(NAMES)
    assert sorted(i for columns in groups.values() for i in columns) == list(range(len(NAMES)))
    assert GRAM in groups["request character sequences"]
    assert len(groups["request kinds of characters"]) == 17
    assert groups["answer_log"] == [LENGTH]


def test_the_error_grows_with_what_the_model_relies_on() -> None:
    found = importances(MODEL, rows())
    assert [e.feature for e in found[:2]] == ["answer_log", "request character sequences"]
    assert found[0].effect == pytest.approx(0.8**2 / 2, rel=0.2), "half of the exchanges get another's side"
    assert all(e.effect == 0 for e in found[2:])
    assert importances(MODEL, rows()) == found, "the same each time"


def test_a_prediction_is_explained_by_what_is_not_usual() -> None:
    x = np.zeros(len(NAMES), dtype=np.float32)
    x[LENGTH] = 1.0
    found = reasons(MODEL, x, dict.fromkeys(NAMES, 0.0))
    assert (found[0].feature, found[0].effect) == ("answer_log", pytest.approx(0.8))
    assert all(e.effect == 0 for e in found[1:])


def test_the_usual_value_is_the_median_of_what_applies() -> None:
    nan = float("nan")
    window = np.array([[1, nan, nan], [2, 5, nan], [9, 7, nan], [nan, nan, 4], [nan, 6, nan]], dtype=np.float32)
    usual = usual_values(("a", "b", "c"), window)
    assert (usual["a"], usual["b"]) == (2.0, 6.0)
    assert np.isnan(usual["c"])
