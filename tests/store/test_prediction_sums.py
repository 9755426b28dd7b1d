"""The sums over guided exchanges are those of the formulas, once for each exchange. On both databases."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.exchange import Exchange
from gateway.core.score import Score, ScoreResult
from gateway.store.prediction_sums import terms_of
from gateway.store.predictions import Prediction

Make = Callable[..., Exchange]
NAMES = ("b", "d", "e1", "e2")


def prediction(pi: float, judged: bool, g: float | None = 0.5, **fields: Any) -> Prediction:
    plain: dict[str, Any] = {"scorer": "stated", "version": "v1", "residual": 0.04, "feature_set": "", "features": b""}
    return Prediction(**{**plain, "predicted": g, "pi": pi, "judged": judged, **fields})


def summed(store: Any) -> dict[str, float]:
    columns = ["n", "failed", "s_failed", *(f"s_{a}" for a in NAMES)]
    columns += [f"s_{a}{b}" for a, b in combinations_with_replacement(NAMES, 2)]
    (row,) = store.sql(f"SELECT {', '.join(columns)} FROM prediction_sums")  # noqa: S608
    return dict(zip(columns, row, strict=True))


def test_each_term_and_product_is_summed_by_its_formula(store: Any, exchange: Make) -> None:
    given = [("0.5", 0.25, True), ("n/a", 0.5, True), ("1", 0.2, False), ("error", 0.1, True), ("1", 1.0, True)]
    sent = [exchange(text) for text, _, _ in given]
    store.predictions = {e.id: prediction(pi, judged, 0.8) for e, (_, pi, judged) in zip(sent, given, strict=True)}
    store.write(*sent[:2])
    store.write(*sent)  # the first two come again
    terms = np.array([
        [0.5 / 0.25, 1 / 0.25, 1 - 1 / 0.25, 0.8 * (1 - 1 / 0.25)],
        [0, 0, 1 - 1 / 0.5, 0.8 * (1 - 1 / 0.5)],
        [0, 0, 1, 0.8],
        [0, 0, 1 - 1 / 0.1, 0.8 * (1 - 1 / 0.1)],
        [1, 1, 0, 0],
    ])  # fmt: skip
    expected = {"n": 5, "failed": 1, "s_failed": 10.0}
    expected |= {f"s_{a}": terms[:, i].sum() for i, a in enumerate(NAMES)}
    expected |= {
        f"s_{NAMES[i]}{NAMES[j]}": terms[:, i] @ terms[:, j] for i, j in combinations_with_replacement(range(4), 2)
    }
    assert summed(store) == pytest.approx(expected)
    key = "scorer, version, config_hash, alias, model, arm, stratum"
    assert store.sql(f"SELECT {key} FROM prediction_sums") == [  # noqa: S608
        ("stated", "1", "c1", "chat", "local/small", "", "default")
    ]


def test_predictions_that_guide_no_scorer_have_no_sums(store: Any, exchange: Make) -> None:
    one, other = exchange("1"), exchange("1")
    store.predictions[one.id] = prediction(1.0, False, scorer="feedback:thumb")
    store.predictions[other.id] = prediction(0.0, False)  # in an experiment, and the scorer's share is 0
    store.write(one, other)
    assert store.sql("SELECT * FROM prediction_sums") == []
    assert len(store.sql("SELECT * FROM predictions")) == 2


@given(pi=st.floats(0.05, 1), g=st.floats(0, 1), answers=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_errors_terms_have_mean_zero_whatever_the_judge_does(
    stated_scorer: Any, pi: float, g: float, answers: bool
) -> None:
    """The mean is over the draw of an exchange whose judge answers or fails."""
    status, score = ("scored", Score(0.25)) if answers else ("timeout", None)
    result = ScoreResult("stated", "1", "c1", status, score, None, 0.1, pi)  # type: ignore[arg-type]
    drawn = terms_of(prediction(pi, True, g), result, stated_scorer())
    not_drawn = terms_of(prediction(pi, False, g), None, stated_scorer())
    mean = [pi * a + (1 - pi) * b for a, b in zip(drawn, not_drawn, strict=True)]
    assert mean == pytest.approx([0.25 * answers, float(answers), 0.0, 0.0, float(not answers)], abs=1e-9)


def test_closed_squares_of_guided_scores_count_with_their_own_weights(
    store: Any, exchange: Make, tally: Callable[..., Any]
) -> None:
    """Weights are 1 / π times what brings them to the population."""
    drawn = [("0.5", 0.25), ("1", 0.5), ("0", 1.0)]
    sent = [exchange(text) for text, _ in drawn]
    store.predictions = {e.id: prediction(pi, True) for e, (_, pi) in zip(sent, drawn, strict=True)}
    store.write(*sent, tally(sent, {"default": 70}))
    store.close()
    factor = 70 / (4 + 2 + 1)
    weighted = [(factor / pi, float(text)) for text, pi in drawn]
    expected = tuple(sum(w * w * v**power for w, v in weighted) for power in (0, 1, 2))
    assert store.cell().weight == pytest.approx(70)
    assert store.cell().closed_units == pytest.approx(expected)
