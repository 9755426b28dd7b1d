"""The choice of judged exchanges: by a probability that is known before the draw, and by a number that no model
changes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gateway.config.predictor import PredictorConfig
from gateway.core.completion import completion_of
from gateway.core.exchange import Exchange
from gateway.core.randomization import draw
from gateway.features.learned.predictor import Predictor
from gateway.features.learned.trees.features import feature_names, feature_set
from gateway.scoring.types import Subject
from gateway.store.predictions import StoredModel

Make = Callable[..., Exchange]


def subject(exchange: Exchange) -> Subject:
    return Subject(exchange, {}, completion_of(exchange))


@pytest.fixture
def predictor(stated_scorer: Any) -> Callable[..., Predictor]:
    """Makes a predictor of the scorer `stated`. own_share: the scorer's share."""

    def make(own_share: float = 1.0, **config: Any) -> Predictor:
        scorers = {"other": stated_scorer(name="other"), "stated": stated_scorer(share=own_share)}
        return Predictor(PredictorConfig(**{"target": "stated", "adaptive": True, "pi_min": 0.05, **config}), scorers)

    return make


def test_without_a_model_each_exchange_has_the_share(predictor: Any, exchange: Make) -> None:
    sent = [exchange() for _ in range(50)]
    found = predictor(0.4).predict([subject(e) for e in sent])
    assert {(p.scorer, p.version, p.predicted, p.residual, p.pi) for p in found} == {("stated", "", None, None, 0.4)}
    assert [p.judged for p in found] == [draw("learn:stated", e.id) < 0.4 for e in sent]


def test_the_share_of_the_section_wins_over_the_scorers_own(predictor: Any, exchange: Make) -> None:
    (found,) = predictor(0.4, share=0.7).predict([subject(exchange())])
    assert found.pi == 0.7


@pytest.mark.parametrize("of", [{"role": "shadow", "pair": "x"}, {"experiment": "swap", "plan": "p", "arm": "control"}])
def test_the_answers_of_an_experiment_are_drawn_together(predictor: Any, exchange: Make, of: dict[str, Any]) -> None:
    """Answers are drawn by their unit, with the scorer's own share."""
    sent = [exchange(unit=f"conversation {i}", **of) for i in range(50)]
    found = predictor(0.4, share=0.9).predict([subject(e) for e in sent])
    assert {p.pi for p in found} == {0.4}
    assert [p.judged for p in found] == [draw("score:stated", e.unit) < 0.4 for e in sent]


def test_only_a_judge_that_was_drawn_sees_the_exchange(predictor: Any, exchange: Make) -> None:
    whole = predictor(0.5)
    assert list(whole.unguided) == ["other"]
    for e in (exchange() for _ in range(30)):
        (found,) = whole.predict([subject(e)])
        shares = {name: each.share for name, each in whole.drawn(found).items()}
        assert shares == ({"stated": found.pi} if found.judged else {}), "results state it as their probability"
    assert whole.drawn(None) == {}


def test_feedback_guides_no_judge(predictor: Any, exchange: Make) -> None:
    people = predictor(0.5, target="feedback:thumb")
    (found,) = people.predict([subject(exchange())])
    assert (found.scorer, found.pi, found.judged) == ("feedback:thumb", 1.0, False)
    assert people.drawn(found) == {}
    assert people.unguided["stated"].share == 0.5


def test_a_prediction_takes_few_calls_of_functions(predictor: Any, exchange: Make) -> None:
    """A batch of 256 is counted: its cost does not depend on the load of the machine. An answer has 1 KB."""
    words = "the quick brown fox jumps over a lazy dog near the river bank while it rains "
    subjects = [subject(exchange(words * 14)) for _ in range(256)]
    whole = predictor(0.4)
    whole.predict(subjects)
    calls = 0

    def count(_: Any, event: str, __: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        whole.predict(subjects)
    finally:
        sys.setprofile(None)
    assert calls / 256 < 65


class ExpectsErrors:
    """A model that expects a different error in each exchange."""

    scale = 0.3

    def __init__(self, feature_set: str) -> None:
        self.feature_set = feature_set

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.full(len(x), 0.5), np.linspace(0.0, 1.0, len(x))


@pytest.mark.parametrize(
    ("config", "lowest", "highest"),
    [({"adaptive": False}, 0.4, 0.4), ({"pi_min": None}, 0.2, 0.3), ({"pi_min": 0.1}, 0.1, 0.3)],
)
def test_the_model_decides_only_where_it_is_adaptive(
    predictor: Any, exchange: Make, config: dict[str, Any], lowest: float, highest: float
) -> None:
    whole = predictor(0.4, **config)
    names = feature_names(embedding=False)
    whole.use(ExpectsErrors(feature_set(names)), StoredModel("v", "stated", 1.0, 0.0, 1.0, 400, "{}", {}, names))
    found = whole.predict([subject(exchange()) for _ in range(40)])
    assert (min(p.pi for p in found), max(p.pi for p in found)) == (lowest, highest)
    assert {p.predicted for p in found} == {0.5}, "the control variate has its predictions either way"


def test_equal_probabilities_are_no_higher_than_a_budget_affords(predictor: Any, exchange: Make) -> None:
    whole = predictor(0.4, adaptive=False)
    names, card = feature_names(embedding=False), {"share": 0.25}
    whole.use(ExpectsErrors(feature_set(names)), StoredModel("v", "stated", 1.0, 0.0, 1.0, 400, "{}", card, names))
    assert whole.predict([subject(exchange())])[0].pi == 0.25
