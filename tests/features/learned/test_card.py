"""The card says how well a model predicted what it had not seen, and whether it helps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fixtures.learned_worlds import PREDICTORS, traffic

from gateway.features.learned.card import CardEvidence, card_lines, card_of, psi
from gateway.store.guided_means import harmful


def evidence(name: str, n: int = 2000, seed: int = 1, **fields: Any) -> CardEvidence:
    rng = np.random.default_rng(seed)
    t = traffic(rng, n)
    guess = PREDICTORS[name](rng, t)
    x = np.stack([t.expected, rng.random(n)], axis=1).astype(np.float32)
    plain: dict[str, Any] = {"pi": np.full(n, 0.2), "mean": 0.65, "x": x, "before": x[::-1]}
    return CardEvidence(t.h, guess.g, guess.residual, **{**plain, **fields})


def card(name: str, **fields: Any) -> dict[str, Any]:
    return card_of(evidence(name, **fields), ("expected", "noise"), 0.2, 0.05)


def test_a_good_model_beats_the_mean_and_saves_answers() -> None:
    found = card("good")
    assert found["mae"] < 0.8 * found["mae_of_mean"]
    assert found["auc"] > 0.75
    assert found["slope"] == pytest.approx(1.0, abs=0.1)
    assert found["variance_ratio_low"] < found["variance_ratio"] < found["variance_ratio_high"] < 0.8
    assert not harmful(found)


def test_a_model_that_spares_the_wrong_answers_is_off() -> None:
    found = card("wrong sign")
    assert found["weight"] == 0.0
    assert found["variance_ratio_low"] > 1.0
    assert harmful(found)
    assert any(line.startswith("off: ") for line in card_lines(found))


def test_the_variance_ratio_is_that_of_the_simulated_means() -> None:
    """tests/statistics/test_control_variate.py simulates the same worlds: 0.46 from the deviations of the means
    of the good predictor and of plain sampling (0.0070 and 0.0107 of 2 000 exchanges), 2.4 of the wrong one."""
    assert card("good", n=20_000)["variance_ratio"] == pytest.approx((0.0070 / 0.0107) ** 2, rel=0.15)
    assert card("wrong sign", n=20_000)["variance_ratio"] == pytest.approx((0.0165 / 0.0107) ** 2, rel=0.15)


@pytest.mark.parametrize("name", ["good", "wrong sign"])
def test_its_interval_covers_the_ratio_of_a_large_sample(name: str) -> None:
    truth = card(name, n=50_000)["variance_ratio"]
    found = [card(name, n=400, seed=seed) for seed in range(30)]
    covered = [f["variance_ratio_low"] <= truth <= f["variance_ratio_high"] for f in found]
    assert np.mean(covered) >= 0.95 - 3 * (0.05 * 0.95 / 30) ** 0.5, "in 300 runs it is 95 % and more"


def test_verdicts_that_never_differ_have_no_ranking() -> None:
    same = CardEvidence(**{**_fields(evidence("good")), "h": np.ones(2000)})
    equal = card_of(same, (), 0.2, 0.05)
    assert (equal["auc"], equal["variance_ratio"]) == (None, 1.0)
    assert equal["psi"] == {}


def _fields(of: CardEvidence) -> dict[str, Any]:
    return {name: getattr(of, name) for name in CardEvidence.__dataclass_fields__}


def test_rows_that_were_judged_seldom_count_for_more() -> None:
    """Every tenth of the good answers was judged, every poor one: the mean error is that of all."""
    pi = np.where(np.arange(110) < 100, 1.0, 0.1)
    h, g = np.where(pi < 1, 1.0, 0.0), np.full(110, 0.5)
    of = CardEvidence(h, np.where(pi < 1, 0.9, g), np.full(110, 0.1), pi, 0.5, np.zeros((110, 0)), np.zeros((110, 0)))
    assert card_of(of, (), 0.2, 0.05)["mae"] == pytest.approx((100 * 0.5 + 100 * 0.1) / 200)


def test_features_that_have_changed_are_named() -> None:
    x = evidence("good").x
    found = card("good", before=x - np.array([0.5, 0.0], dtype=np.float32))
    assert found["psi"]["expected"] > 1.0
    assert found["psi"]["noise"] == 0.0
    assert "expected" in card_lines(found)[-1]


def test_psi_is_small_within_a_population_and_always_finite() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random(2000), rng.random(2000)
    assert 0 < psi(a, b) < 0.02
    assert 5 < psi(a, b + 9) < 20
    assert psi(np.array([]), a) == 0.0
    assert psi(np.full(50, np.nan), a) > 1


def test_lines_tell_the_numbers_and_the_age() -> None:
    first, second = card_lines({**card("good"), "trained_to": 3600.0}, now=9000.0)
    assert "n 2000" in first
    assert "1.5 h ago" in first
    assert "always the mean" in first
    assert "of that without a predictor" in second
    assert "no model yet" in card_lines({})[0]
