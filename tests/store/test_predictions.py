"""Predictions are stored once, with what the draw was made with; models by their hash. On both databases."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from gateway.core.exchange import Exchange
from gateway.features.calls.rows.erase import ErasureRequest, count, erase, find
from gateway.store.predictions import Prediction, StoredModel, newest_model, predicted, save_model
from gateway.store.retention import RetentionLimits, sweep

Make = Callable[..., Exchange]
DAY = 86_400.0


def prediction(pi: float = 0.5, judged: bool = True, **fields: Any) -> Prediction:
    plain: dict[str, Any] = {"scorer": "stated", "version": "v1", "predicted": 0.75, "residual": 0.04}
    return Prediction(**{**plain, "pi": pi, "judged": judged, "feature_set": "f1", "features": b"1234", **fields})


def test_a_prediction_is_stored_also_where_the_judge_was_not_drawn(store: Any, exchange: Make) -> None:
    seen, unseen = exchange("1"), exchange("0")
    store.predictions = {
        seen.id: prediction(0.5),
        unseen.id: prediction(0.25, judged=False, version="", predicted=None),
    }
    store.write(seen, unseen)
    rows = store.sql("SELECT exchange_id, scorer, version, predicted, residual, pi, judged, received, alias, model, "
                     "stratum, feature_set FROM predictions")  # fmt: skip
    of = {row[0]: row[1:] for row in rows}
    place = ("chat", "local/small", "default", "f1")
    assert of[seen.id] == ("stated", "v1", 0.75, 0.04, 0.5, True, seen.received, *place)
    assert of[unseen.id] == ("stated", "", None, 0.04, 0.25, False, unseen.received, *place)
    assert store.sql("SELECT exchange_id FROM scores") == [(seen.id,)]
    assert store.run(lambda c: predicted(c, "stated", [seen.id, unseen.id, "x"])) == {seen.id, unseen.id}
    assert store.run(lambda c: predicted(c, "other", [seen.id])) == set()


def test_the_first_decision_stays_when_an_exchange_comes_again(store: Any, exchange: Make) -> None:
    """A newer model may have drawn the judge since: that score has another probability, and does not count."""
    one = exchange("1")
    store.predictions[one.id] = prediction(0.1, judged=False)
    store.write(one)
    store.predictions[one.id] = prediction(0.9, judged=True, version="v2")
    before = store.sql("SELECT * FROM prediction_sums")
    assert store.write(one).duplicates == 1
    assert store.sql("SELECT pi, judged, version FROM predictions") == [(0.1, False, "v1")]
    assert store.sql("SELECT * FROM scores") == []
    assert store.sql("SELECT * FROM prediction_sums") == before


def test_predictions_go_with_their_exchange(store: Any, exchange: Make) -> None:
    old, pinned, new = exchange("1", received=1.0), exchange("1", received=1.0, experiment="e", plan="p"), exchange("0")
    store.predictions = {e.id: prediction() for e in (old, pinned, new)}
    store.write(old, pinned, new)
    store.run(lambda c: sweep(c, RetentionLimits(30 * DAY), "c1", time.time() + 4000))
    kept = {row[0]: bytes(row[1]) for row in store.sql("SELECT exchange_id, features FROM predictions")}
    assert kept == {pinned.id: b"", new.id: b"1234"}, "features count what a text consists of"


def test_an_erased_exchange_leaves_no_prediction(store: Any, exchange: Make) -> None:
    gone, pinned = exchange("1", caller="ada"), exchange("1", caller="ada", experiment="e", plan="p")
    store.predictions = {e.id: prediction() for e in (gone, pinned)}
    store.write(gone, pinned)
    request = ErasureRequest("caller", "ada")
    assert store.run(lambda c: count(c, request)).n["predictions"] == 2
    store.run(lambda c: erase(c, list(find(c, request)), time.time() + 4000))
    rows = store.sql("SELECT exchange_id, features FROM predictions")
    assert [(row[0], bytes(row[1])) for row in rows] == [(pinned.id, b"")]


def test_the_newest_model_of_a_target_is_found_with_its_card(store: Any) -> None:
    def model(version: str, created: float, target: str = "stated") -> StoredModel:
        return StoredModel(version, target, created, 1.0, 2.0, 700, "{}", {"mae": 0.1}, ("length", "tools"))

    assert store.run(lambda c: newest_model(c, "stated")) is None
    for each in (model("a", 1.0), model("b", 3.0), model("c", 2.0), model("d", 9.0, "other"), model("b", 3.0)):
        store.run(lambda c, each=each: save_model(c, each))
    assert store.run(lambda c: newest_model(c, "stated")) == model("b", 3.0)
    found = store.run(lambda c: newest_model(c, "stated", {"b"}))
    assert (found.model, found.card, found.features) == ("", {"mae": 0.1}, ("length", "tools"))
