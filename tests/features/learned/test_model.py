"""A model is JSON that is checked when it is read; its version is the hash of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest

from gateway.features.learned.model import PredictorModel, read_model, version_of
from gateway.features.learned.trees.ensembles import InvalidModel, Tree, TreeEnsemble
from gateway.store.predictions import StoredModel

STUMP = Tree((1, 0, 0), (0.5, 0.0, 0.0), (True, False, False), (1, 0, 0), (2, 0, 0), (0.0, -1.0, 2.0))
MODEL = PredictorModel("judge", ("a", "b"), TreeEnsemble(0.5, (STUMP,), 2), TreeEnsemble(0.1, (), 2), 2.5)


def stored(text: str) -> StoredModel:
    return StoredModel(version_of(text), "judge", 3.0, 1.0, 2.0, 700, text, {}, ("a", "b"))


def test_a_model_is_read_as_it_was_written() -> None:
    read = read_model(stored(MODEL.to_json()))
    assert read == MODEL
    assert read.to_json() == MODEL.to_json()
    assert read.feature_set == MODEL.feature_set


def test_predictions_are_values_and_squared_errors() -> None:
    g, residual = MODEL.predict(np.array([[0.0, 0.0], [0.0, 1.0]]))
    assert g.tolist() == [0.0, 1.0], "clipped to [0, 1]"
    assert residual.tolist() == [0.1, 0.1]


def test_a_model_that_was_changed_is_refused() -> None:
    with pytest.raises(InvalidModel, match="was changed after it was stored"):
        read_model(replace(stored(MODEL.to_json()), model=MODEL.to_json().replace("2.5", "9.5")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "expected a model of format 1"),
        ({"features": "ab"}, "features: expected a list of names"),
        ({"features": ["a"]}, "its trees are not over its 1 features"),
        ({"scale": -1}, "scale: expected a number from 0"),
        ({"scale": True}, "scale"),
        ({"value": None}, "expected an object"),
    ],
)
def test_an_invalid_model_is_refused(changes: dict[str, Any], message: str) -> None:
    raw = {**orjson.loads(MODEL.to_json()), **changes}
    with pytest.raises(InvalidModel, match=message):
        read_model(stored(orjson.dumps(raw).decode()))


def test_code_is_never_run() -> None:
    with pytest.raises(InvalidModel, match="not JSON"):
        PredictorModel.from_json("cos\nsystem\n(S'true'\ntR.")
