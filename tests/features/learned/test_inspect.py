"""What `gateway learn` reads: the state, what the model relies on, and why one exchange was judged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gateway.core.errors import CannotRun
from gateway.core.exchange import Exchange
from gateway.features.learned import inspect
from gateway.features.learned import report as reports
from gateway.features.learned.features import FeatureExtractor
from gateway.features.learned.trainer import TrainingJob, train_from_store
from gateway.store.predictions import Prediction

Make = Callable[..., Exchange]


@pytest.fixture
def job(store: Any) -> TrainingJob:
    return TrainingJob(store.url, "stated", "stated", 0.05, 0.4, 60, 200, "1", "c1", None, None)


def fill(store: Any, exchange: Make, n: int, start: float = 0.0) -> list[Exchange]:
    """h is the parity of the exchange's number, and so is its first feature."""
    sent = [exchange(str(i % 2), received=start + i) for i in range(n)]
    for i, e in enumerate(sent):
        x = np.random.default_rng(i).normal(size=len(FeatureExtractor.names)).astype("<f4")
        x[0] = i % 2
        store.predictions[e.id] = Prediction("stated", "", None, None, 0.5, True, FeatureExtractor.set, x.tobytes())
    store.write(*sent)
    return sent


def test_before_there_is_a_model_the_state_says_what_is_missing(store: Any, exchange: Make, job: TrainingJob) -> None:
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
