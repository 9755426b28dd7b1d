"""A judge is replaced by one that is as near to people, and not by one that favours a target."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from gateway.features.labels.judge_comparison.model import (
    ComparisonOptions,
    JudgeComparison,
    JudgedTwice,
    JudgePrice,
    compare,
)
from gateway.statistics.domains import Floats

MARGIN, SHIFT = 0.02, 0.05
PRICES = JudgePrice(3.0, 1.2), JudgePrice(0.03, 0.1)
FEW, MANY, MOST = 25, *(pytest.param(n, marks=pytest.mark.long) for n in (500, 2000))  # runs
ANSWERS = 2000
Judge = Callable[[np.random.Generator, Floats, Floats], Floats]
"""(random numbers, verdicts, target of each as 0 or 1) → scores."""


def as_near(rng: np.random.Generator, y: Floats, target: Floats) -> Floats:
    """Squared distance to people: 0.04 + 0.01."""
    return np.asarray(0.2 + 0.6 * y + rng.choice([-0.1, 0.1], y.size))


def at_the_margin(rng: np.random.Generator, y: Floats, target: Floats) -> Floats:
    """Further by exactly the margin."""
    return np.asarray(0.2 + 0.6 * y + rng.choice([-1.0, 1.0], y.size) * math.sqrt(0.01 + MARGIN))


def biased(rng: np.random.Generator, y: Floats, target: Floats) -> Floats:
    """Agrees on the mean, and scores one target by 0.2 higher against the other."""
    return np.asarray(as_near(rng, y, target) + np.where(target == 1, 0.1, -0.1))


def at_the_shift(rng: np.random.Generator, y: Floats, target: Floats) -> Floats:
    return np.asarray(as_near(rng, y, target) + np.where(target == 1, 0.5, -0.5) * SHIFT)


def contrary(rng: np.random.Generator, y: Floats, target: Floats) -> Floats:
    """Agrees on the mean, and on hardly any answer."""
    return np.asarray(as_near(rng, rng.permutation(y), target))


def answers(seed: int, labels: int, second: Judge, first: Judge = as_near) -> JudgedTwice:
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 2, ANSWERS).astype(float)
    y = (rng.random(ANSWERS) < 0.5).astype(float)
    a, b = first(rng, y, target), second(rng, y, target)
    people = np.where(np.arange(ANSWERS) < labels, y, np.nan)
    units, targets = tuple(map(str, range(ANSWERS))), tuple("chat → " + ("big" if t else "small") for t in target)
    return JudgedTwice(a, b, people, np.ones(ANSWERS), np.ones(ANSWERS), units, targets)


def compared(judged: JudgedTwice) -> JudgeComparison:
    options = ComparisonOptions("text", "decision", MARGIN, SHIFT)
    return compare(judged, options, (("1", "a"), ("1", "b")), PRICES, "text")


def ever(runs: int, second: Judge, looks: tuple[int, ...] = (100, 200, 400)) -> Counter[str]:
    """The numbers of runs in which a reader ever saw each conclusion, looking again and again."""
    seen: Counter[str] = Counter()
    for seed in range(runs):
        seen.update({compared(answers(seed, labels, second)).conclusion for labels in looks})
    return seen


@pytest.mark.parametrize("runs", [FEW, MANY])
def test_an_equal_judge_replaces(runs: int) -> None:
    seen = ever(runs, as_near)
    assert seen["keep"] <= runs * 0.025 + 3.0 * math.sqrt(runs * 0.025)
    assert seen["replace"] >= 0.9 * runs


@pytest.mark.parametrize("runs", [FEW, MOST])
@pytest.mark.parametrize("second", [at_the_margin, at_the_shift])
def test_a_judge_at_a_margin_rarely_replaces(runs: int, second: Judge) -> None:
    """Each in at most 2.5 % of runs, although the reader looks again and again."""
    assert ever(runs, second)["replace"] <= runs * 0.025 + 3.0 * math.sqrt(runs * 0.025 * 0.975)


@pytest.mark.parametrize("runs", [FEW, MANY])
@pytest.mark.parametrize("second", [biased, contrary])
def test_a_judge_that_only_agrees_on_the_mean_is_kept_out(runs: int, second: Judge) -> None:
    seen = ever(runs, second)
    assert (seen["replace"], seen["keep"]) == (0, runs)
    result = compared(answers(0, 400, second))
    assert abs(result.second.bias.value if result.second.bias else 1.0) < 0.02


def test_a_bias_is_named_with_its_target() -> None:
    result = compared(answers(0, 400, biased))
    assert result.reasons == tuple(
        f"decision scores chat → {target} by {shift.error.value:+.3f} against the other targets, "
        "as people's labels show"
        for target, shift in zip(("big", "small"), result.shifts, strict=True)
        if shift.error is not None
    )
    assert result.shifts[0].error is not None
    assert result.shifts[0].error.value == pytest.approx(0.2, abs=0.03)


def test_a_judge_that_corrects_the_old_one_replaces_it() -> None:
    result = compared(answers(3, 800, as_near, first=biased))
    assert not result.shifts[0].shift.within(SHIFT)
    assert result.conclusion == "replace"


def test_without_labels_a_comparison_is_undecided() -> None:
    result = compared(answers(1, 10, as_near))
    assert (result.conclusion, result.loss_difference, result.labels_needed) == ("undecided", None, 90)
    assert result.reasons == ("fewer than 30 labels of answers that both judges scored",)
    assert (result.first.right, result.second.pairs) == (None, None)


def test_labels_needed_are_about_those_that_decide() -> None:
    result = compared(answers(5, 60, as_near))
    assert result.conclusion == "undecided"
    assert result.labels_needed is not None
    assert compared(answers(5, 2 * result.labels_needed, as_near)).conclusion == "replace"


def test_a_noisier_judge_needs_more_pairs() -> None:
    result = compared(answers(6, 800, at_the_margin))
    assert result.first.pairs is not None
    assert result.second.pairs is not None
    assert 1.05 * result.first.pairs < result.second.pairs


def test_a_judge_without_any_relation_to_people_has_no_pairs() -> None:
    def opposite(rng: np.random.Generator, y: Floats, target: Floats) -> Floats:
        return np.asarray(1.0 - as_near(rng, y, target))

    result = compared(answers(7, 400, opposite))
    assert result.second.pairs is None
    assert result.conclusion == "keep"


def test_pairs_of_experiments_give_the_variance() -> None:
    """Answers of a pair are alike, so that fewer pairs suffice than independent answers would need."""
    rng = np.random.default_rng(8)
    y = np.repeat((rng.random(ANSWERS // 2) < 0.5).astype(float), 2)
    a, b = as_near(rng, y, y), as_near(rng, y, y)
    ones, names = np.ones(ANSWERS), tuple(f"p{i // 2}" for i in range(ANSWERS))
    alone = JudgedTwice(a, b, y, ones, ones, names, ("t",) * ANSWERS)
    paired = JudgedTwice(a, b, y, ones, ones, names, ("t",) * ANSWERS, names)
    few, many = compared(paired).first.pairs, compared(alone).first.pairs
    assert few is not None
    assert many is not None
    assert few < many / 5
    assert compared(paired).shifts == ()
