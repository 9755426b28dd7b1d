"""Our trees predict what scikit-learn's do, and a file that is not one is refused with the place in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from fixtures.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from gateway.features.learned.trees.ensembles import Forest, InvalidModel, Tree, TreeEnsemble
from gateway.features.learned.trees.training import exported


def table(seed: int, n: int = 300, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """A table with missing and infinite values, and some constant columns."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, width)).round(random.integers(0, 3))
    x[random.random(x.shape) < random.choice([0.0, 0.3])] = np.nan
    x[random.random(x.shape) < 0.02] = np.inf
    x[random.random(x.shape) < 0.02] = -np.inf
    y = np.where(np.isnan(x[:, 0]), 2.0, np.sign(x[:, 0])) + np.nan_to_num(x[:, 1], posinf=3, neginf=-3) ** 2
    return x, y + random.normal(size=n) * 0.1


@pytest.mark.parametrize("seed", range(4))
def test_predictions_are_those_of_scikit_learn(seed: int) -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor  # two seconds for each worker that collects this file

    x, y = table(seed)
    fitted = HistGradientBoostingRegressor(max_iter=10, min_samples_leaf=3, early_stopping=False, random_state=seed)
    with threadpool_limits(1, user_api="openmp"):
        fitted.fit(x, y)
    read = TreeEnsemble.from_json(orjson.loads(orjson.dumps(exported(fitted).to_json())))
    new, _ = table(seed + 100, n=700)
    for rows in (new, x.astype(np.float32)):
        with threadpool_limits(1, user_api="openmp"):
            expected = fitted.predict(rows)
        np.testing.assert_allclose(read.predict(rows), expected, rtol=0, atol=1e-9)


STUMP = Tree((1, 0, 0), (0.5, 0.0, 0.0), (True, False, False), (1, 0, 0), (2, 0, 0), (0.0, -1.0, 2.0))


@given(st.lists(st.one_of(st.floats(width=32), st.just(float("nan"))), min_size=1, max_size=20))
@settings(max_examples=examples(50))
def test_a_stump_sends_missing_values_where_it_says(values: list[float]) -> None:
    x = np.array([[9.0, value] for value in values])
    left = TreeEnsemble(10.0, (STUMP,), 2).predict(x)
    right = TreeEnsemble(10.0, (Tree(STUMP.feature, STUMP.threshold, (False,) * 3, *_rest(STUMP)),), 2).predict(x)
    assert left.tolist() == [9.0 if np.isnan(v) or v <= 0.5 else 12.0 for v in values]
    assert right.tolist() == [9.0 if v <= 0.5 else 12.0 for v in values]


def _rest(tree: Tree) -> Any:
    return tree.left, tree.right, tree.value


def test_several_ensembles_are_evaluated_together() -> None:
    forest = Forest([TreeEnsemble(1.0, (STUMP, STUMP), 2), TreeEnsemble(0.0, (), 2), TreeEnsemble(5.0, (STUMP,), 2)])
    assert forest.predict(np.array([[0.0, 0.0], [0.0, 1.0]])).tolist() == [[-1.0, 5.0], [0.0, 0.0], [4.0, 7.0]]
    assert forest.predict(np.empty((0, 2))).shape == (3, 0)
    with pytest.raises(ValueError, match="expected rows of 2 features"):
        forest.predict(np.zeros((3, 5)))


def changed(**of_tree: Any) -> Any:
    raw = TreeEnsemble(0.0, (STUMP,), 2).to_json()
    raw["trees"][0].update(of_tree)
    return raw


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([], "the ensemble: expected an object"),
        ({"width": 0, "trees": [], "baseline": 0}, "width"),
        ({"width": 2, "trees": {}, "baseline": 0}, "trees: expected a list"),
        ({"width": 2, "trees": [], "baseline": None}, "baseline: expected a finite number"),
        ({"width": 2, "trees": [3], "baseline": 0}, r"trees\[0\]: expected an object"),
        (changed(left=[1, 0]), r"trees\[0\]: .* lists of one length"),
        (changed(feature=[2, 0, 0]), r"trees\[0\]\[0\].feature: expected a number below 2, got 2"),
        (changed(feature=[True, 0, 0]), "feature"),
        (changed(missing_left=[1, 0, 0]), "missing_left"),
        (changed(left=[0, 0, 0], right=[2, 0, 0]), "children"),
        (changed(left=[1, 1, 0], right=[2, 2, 0]), "do not come after it"),
        (changed(right=[3, 0, 0]), "children"),
        (changed(right=[1, 0, 0]), "the child of two others"),
        (changed(value=[0.0, "1", 2.0]), "value: expected a finite number"),
        (changed(threshold=["x", 0.0, 0.0]), "threshold"),
    ],
)
def test_an_invalid_ensemble_is_refused(raw: Any, message: str) -> None:
    with pytest.raises(InvalidModel, match=message):
        TreeEnsemble.from_json(raw)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["left", "x"]), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=examples(60))
@given(column=st.sampled_from(["feature", "threshold", "missing_left", "left", "right", "value"]), value=json_like)
def test_any_json_either_is_an_ensemble_that_predicts_or_is_refused(column: str, value: Any) -> None:
    try:
        read = TreeEnsemble.from_json(changed(**{column: value}))
    except InvalidModel:
        return
    assert np.isfinite(read.predict(np.zeros((2, 2)))).all()
