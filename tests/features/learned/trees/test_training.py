"""A model is trained on the past only, learns what can be learned, and knows where it errs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.features.learned.card import card_of
from gateway.features.learned.inclusion import inclusion
from gateway.features.learned.trees.features import FEATURES, FeatureExtractor
from gateway.features.learned.trees.training import (
    BINS,
    STEPS,
    Design,
    TrainingRows,
    bin_edges,
    codes_of,
    evidence_of,
    train,
)

DESIGN = Design("judge", 0.3, 0.05)


def rows(n: int = 400, seed: int = 1) -> TrainingRows:
    """The verdict h depends on the first feature, and is noisy where the second is positive."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, len(FEATURES))).astype(np.float32)
    noise = random.uniform(-0.4, 0.4, n) * (x[:, 1] > 0)
    h = np.clip(0.5 + 0.3 * np.sign(x[:, 0]) + noise, 0.0, 1.0)
    return TrainingRows(x, h, np.full(n, 0.5), np.arange(n, dtype=float))


def test_a_model_learns_the_value_and_where_it_errs() -> None:
    given = rows()
    steps = []
    trained = train(DESIGN, given, given.x[-200:], lambda: steps.append(1))
    new = rows(seed=2)
    g, residual = trained.model.predict(new.x)
    assert np.abs(g - new.h).mean() < 0.6 * np.abs(new.h.mean() - new.h).mean()
    noisy = new.x[:, 1] > 0
    assert residual[noisy].mean() > 1.5 * residual[~noisy].mean()
    pi = inclusion(trained.model.predict(given.x[-200:])[1], trained.model.scale, 0.05)
    assert pi.mean() == pytest.approx(0.3, abs=1e-6)
    card = card_of(evidence_of(trained.held_out), FeatureExtractor.names, 0.3, 0.05)
    assert card["held_out"] == 100
    assert card["mae"] < card["mae_of_mean"]
    assert len(steps) == STEPS


def test_the_newest_block_is_predicted_from_the_past_alone() -> None:
    """The model that predicted a block is the same, whatever comes later."""
    given = rows(200)
    other = TrainingRows(given.x, np.where(np.arange(200) < 150, given.h, 1.0 - given.h), given.pi, given.received)
    first, second = (train(DESIGN, each, given.x).held_out for each in (given, other))
    assert first.g.tolist() == second.g.tolist()
    assert first.residual.tolist() == second.residual.tolist()
    assert first.mean == second.mean


def test_the_same_rows_give_the_same_model() -> None:
    given = rows(100)
    texts = {train(DESIGN, given, given.x).model.to_json() for _ in range(2)}
    assert len(texts) == 1


def test_values_that_are_all_equal_give_a_model() -> None:
    given = rows(100)
    given.x[:, 3] = np.nan
    same = TrainingRows(given.x, np.ones(100), given.pi, given.received)
    model = train(DESIGN, same, given.x).model
    assert model.predict(given.x)[0] == pytest.approx(np.ones(100))


@given(st.lists(st.floats(-5, 5, width=32) | st.just(float("nan")), max_size=200))
def test_codes_order_values_as_their_edges_do(values: list[float]) -> None:
    column = np.array(values, dtype=np.float32)
    edges = bin_edges(column)
    codes = codes_of(column, edges)
    assert len(edges) < BINS
    for c, edge in enumerate(edges):
        assert ((codes <= c) == (column <= edge)).all()
    assert (np.isnan(codes) == np.isnan(column)).all()
