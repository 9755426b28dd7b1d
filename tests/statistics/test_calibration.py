"""Calibration on labels: coverage with weights, parts without bias, bins, and the domains.

The short form has 300 runs a size, `make test-long` 2 000.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from fixtures.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.statistics.calibration import (
    CalibrationError,
    LabelledProbabilities,
    brier_parts,
    calibration_error,
    mean_bias,
    reliability_bins,
)
from gateway.statistics.domains import Floats

RUNS = [300, pytest.param(2_000, marks=(pytest.mark.long, pytest.mark.timeout(1200)))]
UNIT = st.floats(0, 1, width=32)
SAMPLES = st.lists(st.tuples(UNIT, st.integers(0, 1), st.floats(0.1, 10)), min_size=10, max_size=80)


@dataclass(frozen=True)
class World:
    """Probabilities of Beta(0.7, 0.5), whose truth has a logit of intercept + slope logit p."""

    intercept: float = -0.3
    slope: float = 0.6

    def traffic(self, random: np.random.Generator, n: int) -> tuple[Floats, Floats]:
        p = random.beta(0.7, 0.5, n).clip(1e-6, 1 - 1e-6)
        return p, 1 / (1 + np.exp(-self.intercept - self.slope * np.log(p / (1 - p))))

    def labels(self, random: np.random.Generator, n: int) -> LabelledProbabilities:
        """Labels with weights from 1 to 10: what the scorer calls good is drawn less often."""
        p, q = self.traffic(random, 8 * n)
        weight = 1 + 9 * random.random(p.size) * (p > 0.5)
        [drawn] = np.nonzero(random.random(p.size) < 1 / weight)
        drawn = drawn[:n]
        y = (random.random(drawn.size) < q[drawn]).astype(float)
        return LabelledProbabilities.of(p[drawn], y, weight[drawn])


OVERCONFIDENT, CALIBRATED = World(), World(0.0, 1.0)


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize("n", [50, 100, 200, 500])
def test_intervals_cover_at_their_level_with_weights(n: int, runs: int) -> None:
    p, q = OVERCONFIDENT.traffic(np.random.default_rng(0), 1_000_000)
    bias, brier = float((p - q).mean()), float(((p - q) ** 2 + q * (1 - q)).mean())
    random, covered = np.random.default_rng(n), np.zeros(2)
    for _ in range(runs):
        sample = OVERCONFIDENT.labels(random, n)
        in_the_large, parts = mean_bias(sample), brier_parts(sample)
        covered += in_the_large.low <= bias <= in_the_large.high, parts.low <= brier <= parts.high
    assert covered.min() / runs >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / runs)


@pytest.mark.parametrize("runs", RUNS)
def test_the_mean_bias_is_rarely_missed_at_any_look(runs: int) -> None:
    """Looks after every 20 of 600 labels of a calibrated scorer."""
    random, missed = np.random.default_rng(7), 0
    for _ in range(runs):
        whole = CALIBRATED.labels(random, 600)
        looks = (LabelledProbabilities.of(whole.p[:n], whole.y[:n], whole.weight[:n]) for n in range(40, 601, 20))
        missed += any(not found.low <= 0 <= found.high for found in map(mean_bias, looks))
    assert missed / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize("n", [100, 500])
def test_bins_cover_their_rates_one_by_one_and_at_once(n: int, runs: int) -> None:
    random, single, at_once = np.random.default_rng(n), [], []
    for _ in range(runs):
        p, q = OVERCONFIDENT.traffic(random, n)
        y = (random.random(n) < q).astype(float)
        found = reliability_bins(LabelledProbabilities.of(p, y))
        order, end = np.argsort(p, kind="stable"), np.cumsum([b.n for b in found])
        rates = [float(q[order][stop - b.n : stop].mean()) for stop, b in zip(end, found, strict=True)]
        single += [b.low <= rate <= b.high for rate, b in zip(rates, found, strict=True)]
        at_once.append(all(b.band_low <= rate <= b.band_high for rate, b in zip(rates, found, strict=True)))
    slack = 3 * math.sqrt(0.95 * 0.05 / runs)
    assert min(np.mean(single), np.mean(at_once)) >= 0.95 - slack


@pytest.mark.parametrize("runs", RUNS)
def test_the_debiased_error_covers_and_the_plug_in_does_not(runs: int) -> None:
    """Against the error within the bins of a million calls; the plug-in ECE of a calibrated scorer is never near 0."""
    random, found = np.random.default_rng(3), []
    for _ in range(runs):
        p, q = OVERCONFIDENT.traffic(random, 200)
        sample = LabelledProbabilities.of(p, (random.random(200) < q).astype(float))
        found.append(calibration_error(sample))
    assert np.mean([e.square for e in found]) == pytest.approx(0.0113, abs=0.0012)
    assert np.mean([e.low**2 <= 0.0113 <= e.high**2 for e in found]) >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / runs)
    calm: list[CalibrationError] = []
    for _ in range(runs):
        p, q = CALIBRATED.traffic(random, 200)
        calm.append(calibration_error(LabelledProbabilities.of(p, (random.random(200) < q).astype(float))))
    assert np.mean([e.square for e in calm]) == pytest.approx(0.0, abs=0.001)
    assert np.mean([e.plug_in for e in calm]) > 0.04
    assert np.mean([e.low == 0 for e in calm]) >= 0.95


def test_brier_is_the_sum_of_its_parts_where_bins_are_pure() -> None:
    """Five probabilities, one a bin: nothing is spread within bins."""
    random, p = np.random.default_rng(5), np.repeat([0.1, 0.3, 0.5, 0.7, 0.9], 30)
    parts = brier_parts(LabelledProbabilities.of(p, (random.random(150) < p).astype(float)))
    assert parts.brier == pytest.approx(parts.reliability - parts.resolution + parts.uncertainty, abs=1e-9)


@settings(max_examples=examples(40), deadline=None)
@given(SAMPLES, st.floats(0.1, 10))
def test_a_common_factor_of_the_weights_changes_nothing(labels: list[tuple[float, int, float]], factor: float) -> None:
    p, y, w = np.array(labels).T
    plain, scaled = LabelledProbabilities.of(p, y, w), LabelledProbabilities.of(p, y, factor * w)
    for of in (mean_bias, brier_parts, calibration_error):
        a, b = of(plain), of(scaled)
        assert [getattr(a, name) for name in a.__slots__] == pytest.approx([getattr(b, name) for name in b.__slots__])


@settings(max_examples=examples(40), deadline=None)
@given(SAMPLES)
def test_bins_hold_every_label_and_their_own_rate(labels: list[tuple[float, int, float]]) -> None:
    p, y, w = np.array(labels).T
    found = reliability_bins(LabelledProbabilities.of(p, y, w))
    assert sum(b.n for b in found) == len(labels)
    assert sum(b.traffic for b in found) == pytest.approx(1.0)
    assert [b.probability for b in found] == sorted(b.probability for b in found)
    for b in found:
        assert b.band_low - 1e-9 <= b.low <= b.rate + 1e-9
        assert b.rate <= b.high + 1e-9 <= b.band_high + 2e-9


def test_labels_of_one_conversation_say_less() -> None:
    random = np.random.default_rng(9)
    p = np.repeat(random.random(60), 3)
    y = np.repeat((random.random(60) < p[::3]).astype(float), 3)
    alone, together = (LabelledProbabilities.of(p, y, clusters=c) for c in (None, np.repeat(range(60), 3).tolist()))
    assert (together.effective, alone.effective) == (60, 180)
    assert mean_bias(together).high - mean_bias(together).low > 1.5 * (mean_bias(alone).high - mean_bias(alone).low)


def test_few_labels_say_nothing_at_any_look() -> None:
    found = mean_bias(LabelledProbabilities.of([0.5] * 29, [1.0] * 29))
    assert (found.low, found.high) == (-1.0, 1.0)


@pytest.mark.parametrize(
    "arguments",
    [([1.2], [1]), ([0.5], [2]), ([0.5], [1], [0.0]), ([0.5, 0.5], [1]), ([0.5], [1], None, [1, 2]), ([], [])],
)
def test_samples_outside_the_domain_are_refused(arguments: tuple[list[float], ...]) -> None:
    with pytest.raises(ValueError, match=r"outside|differ|expected"):
        LabelledProbabilities.of(*arguments)
