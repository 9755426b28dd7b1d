"""The output of `gateway learn` on a predictor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gateway.core.errors import CannotRun
from gateway.core.exchange import Exchange
from gateway.features.learned import inspect
from gateway.features.learned import report as reports
from gateway.features.learned.inspect import groups_of, importances, reasons, usual_values
from gateway.features.learned.model import PredictorModel
from gateway.features.learned.trainer import TrainingJob, train_from_store
from gateway.features.learned.trees.ensembles import Tree, TreeEnsemble
from gateway.features.learned.trees.features import FEATURES, FeatureExtractor
from gateway.features.learned.trees.training import TrainingRows
from gateway.store.predictions import Prediction

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


def test_the_error_grows_with_features_that_the_model_uses() -> None:
    found = importances(MODEL, rows())
    assert [e.feature for e in found[:2]] == ["answer_log", "request character sequences"]
    assert found[0].effect == pytest.approx(0.8**2 / 2, rel=0.2), "half of the exchanges get another's side"
    assert all(e.effect == 0 for e in found[2:])
    assert importances(MODEL, rows()) == found, "the same each time"


def test_a_prediction_is_explained_by_unusual_features() -> None:
    x = np.zeros(len(NAMES), dtype=np.float32)
    x[LENGTH] = 1.0
    found = reasons(MODEL, x, dict.fromkeys(NAMES, 0.0))
    assert (found[0].feature, found[0].effect) == ("answer_log", pytest.approx(0.8))
    assert all(e.effect == 0 for e in found[1:])


def test_the_usual_value_is_the_median_of_applicable_ones() -> None:
    nan = float("nan")
    window = np.array([[1, nan, nan], [2, 5, nan], [9, 7, nan], [nan, nan, 4], [nan, 6, nan]], dtype=np.float32)
    usual = usual_values(("a", "b", "c"), window)
    assert (usual["a"], usual["b"]) == (2.0, 6.0)
    assert np.isnan(usual["c"])


Make = Callable[..., Exchange]


@pytest.fixture
def job(store: Any) -> TrainingJob:
    """A training job on the store."""
    return TrainingJob(store.url, "stated", "stated", 0.05, 0.4, 60, 200, "1", "c1", None, None)


def fill(store: Any, exchange: Make, n: int, start: float = 0.0) -> list[Exchange]:
    """The verdict h is the parity of the exchange's number, and so is its first feature."""
    sent = [exchange(str(i % 2), received=start + i) for i in range(n)]
    for i, e in enumerate(sent):
        x = np.random.default_rng(i).normal(size=len(FeatureExtractor.names)).astype("<f4")
        x[0] = i % 2
        store.predictions[e.id] = Prediction("stated", "", None, None, 0.5, True, FeatureExtractor.set, x.tobytes())
    store.write(*sent)
    return sent


def test_without_a_model_the_state_says_which_rows_are_missing(store: Any, exchange: Make, job: TrainingJob) -> None:
    [one, *_] = fill(store, exchange, 3)
    status = store.run(lambda c: inspect.status(c, job, 10.0))
    assert (status.model, status.values, status.since_yesterday.judged) == (None, 3, 3)
    text = reports.status_text(status)
    assert "no model yet; a training needs 60" in text
    assert "3 of 3 exchanges drawn, mean probability 0.500" in text
    assert reports.status_dict(status)["model"] is None
    for ask in (lambda c: inspect.explain_all(c, job), lambda c: inspect.explain_one(c, job, one.id)):
        with pytest.raises(CannotRun, match="no model of stated has been trained yet"):
            store.run(ask)


def test_a_model_is_explained_over_all_and_for_one(store: Any, exchange: Make, job: TrainingJob) -> None:
    sent = fill(store, exchange, 100)
    train_from_store(job)
    status = store.run(lambda c: inspect.status(c, job, 100.0))
    assert status.model is not None
    assert status.model.model == ""
    assert reports.status_dict(status)["model"]["rows"] == 100
    assert f"model {status.model.version[:12]}, trained on 100 exchanges" in reports.status_text(status)

    found = store.run(lambda c: inspect.explain_all(c, job))
    first = FeatureExtractor.names[0]
    assert (found.effects[0].feature, found.exchanges, found.unseen) == (first, 25, False)
    assert "which it was also trained on" in reports.importances_text(found)
    fill(store, exchange, 100, start=1000.0)
    found = store.run(lambda c: inspect.explain_all(c, job))
    assert (found.effects[0].feature, found.exchanges, found.unseen) == (first, 100, True)
    assert reports.importances_dict(found)["features"][0]["feature"] == first

    one = store.run(lambda c: inspect.explain_one(c, job, sent[1].id))
    assert one.effects[0].feature == first
    assert one.effects[0].effect > 0.3
    text = reports.explanation_text(one)
    assert f"exchange {sent[1].id}: no model yet" in text
    assert "probability of being judged 0.500: drawn" in text
    assert reports.explanation_dict(one)["pi"] == 0.5


def test_an_exchange_without_a_prediction_is_refused(store: Any, exchange: Make, job: TrainingJob) -> None:
    [one] = fill(store, exchange, 1)
    with pytest.raises(CannotRun, match="no prediction of stated is stored for exchange x"):
        store.run(lambda c: inspect.explain_one(c, job, "x"))
    store.sql("UPDATE predictions SET feature_set = '' RETURNING 1")
    with pytest.raises(CannotRun, match="of another version, or retention removed them"):
        store.run(lambda c: inspect.explain_one(c, job, one.id))
