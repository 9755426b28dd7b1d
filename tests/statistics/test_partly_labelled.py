"""Means of which people's labels give a part: unbiased, narrower than by labels alone, and valid at every look."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gateway.statistics.partly_labelled import LEAST, PartlyLabelled, linear_mean

ANSWERS = 600
LOOKS = (60, 150, 300)


def drawn(rng: np.random.Generator, labels: int = ANSWERS, favour: float = 1.0) -> tuple[PartlyLabelled, float]:
    """Answers in conversations of two, of which those with low scores are labelled `favour` times as often. And the
    true mean of people's verdicts."""
    good = np.repeat(rng.random(ANSWERS // 2) < 0.6, 2)
    score = np.clip(np.where(good, 0.7, 0.3) + rng.normal(0.0, 0.15, ANSWERS), 0.0, 1.0)
    rate = np.where(score < 0.5, 1.0, 1.0 / favour) * labels / ANSWERS
    labelled = np.repeat(rng.random(ANSWERS // 2), 2) < rate
    people = np.where(labelled, good.astype(float), np.nan)
    units = [f"u{i // 2}" for i in range(ANSWERS)]
    return PartlyLabelled(score[:, None], people, np.ones(ANSWERS), 1.0 / rate, units), 0.6


def test_the_interval_holds_at_every_look() -> None:
    """The same answers are labelled further and further."""
    runs, missed = 150, 0
    for seed in range(runs):
        out = False
        for labels in LOOKS:
            sample, truth = drawn(np.random.default_rng(seed), labels, favour=2.0)
            mean = linear_mean(sample, np.zeros(ANSWERS), np.ones(ANSWERS))
            assert mean is not None
            low, high = mean.interval(sample.clusters, 0.02) or (-math.inf, math.inf)
            out |= not low <= truth <= high
        missed += out
    assert missed / runs <= 0.05 + 3.0 * math.sqrt(0.05 * 0.95 / runs)


def test_unequal_draws_and_bad_scores_leave_it_unbiased() -> None:
    values = []
    for seed in range(150):
        sample, truth = drawn(np.random.default_rng(seed), 150, favour=3.0)
        mean = linear_mean(sample, np.zeros(ANSWERS), np.ones(ANSWERS))
        assert mean is not None
        values.append(mean.value - truth)
    assert abs(np.mean(values)) < 4.0 * np.std(values) / math.sqrt(len(values))


def test_scores_that_predict_people_narrow_the_interval() -> None:
    sample, _ = drawn(np.random.default_rng(1), 120)
    blind = PartlyLabelled(np.full((ANSWERS, 1), 0.5), sample.people, sample.weight, sample.label_weight, sample.units)
    widths = []
    for each in (sample, blind):
        mean = linear_mean(each, np.zeros(ANSWERS), np.ones(ANSWERS))
        assert mean is not None
        low, high = mean.interval(each.clusters, 0.02) or (-math.inf, math.inf)
        widths.append(high - low)
    assert widths[0] < 0.8 * widths[1]


def test_a_label_predicts_no_answer_of_its_conversation() -> None:
    sample, _ = drawn(np.random.default_rng(2), 300)
    changed = np.where(np.array(sample.units) == sample.units[np.flatnonzero(sample.labelled)[0]], 0.0, sample.people)
    changed = np.where(sample.labelled, changed, np.nan)
    other = PartlyLabelled(sample.scores, changed, sample.weight, sample.label_weight, sample.units)
    first = np.flatnonzero(sample.labelled)[0]
    assert other.predicted[0][first] == sample.predicted[0][first]
    assert other.predicted[1][first] != sample.predicted[1][first] or np.array_equal(changed, sample.people)


def test_a_contrast_counts_what_both_sides_share() -> None:
    """Two sides of one conversation move together, so that their difference has a smaller error than their sum."""
    rng = np.random.default_rng(3)
    common = np.repeat(rng.normal(0.0, 1.0, ANSWERS // 2), 2)
    units = [f"u{i // 2}" for i in range(ANSWERS)]
    sample = PartlyLabelled(np.zeros((ANSWERS, 1)), np.full(ANSWERS, np.nan), np.ones(ANSWERS), np.ones(ANSWERS), units)
    side = np.arange(ANSWERS) % 2 == 0
    a, b = (linear_mean(sample, common, None, among) for among in (side, ~side))
    assert a is not None
    assert b is not None
    low, high = (a - b).interval(sample.clusters, 0.02) or (0.0, 0.0)
    assert high - low < 0.05
    alone = a.interval(sample.clusters, 0.02) or (0.0, 0.0)
    assert alone[1] - alone[0] > 0.2


@pytest.mark.parametrize("labels", [0, int(LEAST) - 10])
def test_too_few_labels_give_no_interval(labels: int) -> None:
    people = np.full(ANSWERS, np.nan)
    people[:labels] = 1.0
    units = [str(i) for i in range(ANSWERS)]
    sample = PartlyLabelled(np.full((ANSWERS, 1), 0.5), people, np.ones(ANSWERS), np.ones(ANSWERS), units)
    mean = linear_mean(sample, np.zeros(ANSWERS), np.ones(ANSWERS))
    assert mean is None or mean.interval(sample.clusters, 0.02) is None


def test_weights_that_are_not_positive_are_refused() -> None:
    with pytest.raises(ValueError, match="smallest weight"):
        PartlyLabelled(np.zeros((1, 1)), np.zeros(1), np.zeros(1), np.ones(1), ["a"])
