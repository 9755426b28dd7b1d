"""Few labels, many judged answers."""

import math

import numpy as np
import pytest

from tests.statistics.powered_mean import Labelled, best_weight, powered_mean


def studies(judge_noise: float, count: int = 800) -> list[Labelled]:
    """Truth of mean 0.3; a judge biased by +0.1 and noisy; 60 labels and 600 judged answers."""
    rng = np.random.default_rng(35)
    result = []
    for _ in range(count):
        y = (rng.random(660) < 0.3).astype(float)
        f = y + 0.1 + rng.normal(0, judge_noise, 660)
        result.append(Labelled(y[:60], f[:60], f[60:]))
    return result


@pytest.mark.parametrize("weight", [0.0, 1.0, None])
def test_every_weight_is_unbiased_and_covers(weight: float | None) -> None:
    data = studies(0.3)
    fits = [powered_mean(d, 0.1, weight) for d in data]
    means = np.array([fit.mean for fit in fits])

    assert abs(means.mean() - 0.3) <= 3 * means.std() / math.sqrt(len(fits)) + 0.002
    assert np.mean([fit.low <= 0.3 <= fit.high for fit in fits]) >= 0.9 - 3 * math.sqrt(0.09 / len(fits)) - 0.01
    assert np.mean([d.f_unlabelled.mean() for d in data]) == pytest.approx(0.4, abs=0.01)


def test_the_best_weight_is_no_worse_than_either_end() -> None:
    for noise in (0.1, 0.5, 3.0):
        spread = {w: np.std([powered_mean(d, weight=w).mean for d in studies(noise, 400)]) for w in (0.0, 1.0, None)}
        assert spread[None] <= 1.05 * min(spread[0.0], spread[1.0])


def test_useless_judges_get_no_weight() -> None:
    y = [0.0, 1.0, 0.0, 1.0]

    assert best_weight(Labelled.of(y, [0.5] * 4, [0.5] * 9)) == 0.0
    assert best_weight(Labelled.of(y, [1.0, 0.0, 1.0, 0.0], [0.0, 1.0])) == 0.0
    assert best_weight(Labelled.of(y, y, y * 1000)) == pytest.approx(1.0, abs=0.4)


def test_one_side_is_a_lower_bound() -> None:
    data = studies(0.3, 1)[0]

    one, two = powered_mean(data, 0.05, side="greater"), powered_mean(data, 0.1)

    assert one.high == math.inf
    assert one.low == pytest.approx(two.low)


def test_domains() -> None:
    for refused, message in (
        (lambda: Labelled.of([1.0], [1.0, 2.0], [1.0, 2.0]), "y: 1 values, expected 2"),
        (lambda: Labelled.of([1.0, 2.0], [1.0, 2.0, 3.0], [1.0, 2.0]), "y, f: lengths"),
        (lambda: Labelled.of([1.0, math.nan], [1.0, 2.0], [1.0, 2.0]), r"y\[1\]: nan"),
        (lambda: powered_mean(studies(0.3, 1)[0], 0.0), "alpha: 0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
