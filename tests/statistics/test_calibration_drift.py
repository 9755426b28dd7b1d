"""The drift alarm of a calibrated probability: false alarms over 10 000 labels, and how soon a change is found.

The short form has 300 runs, `make test-long` 2 000.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.statistics.calibration_drift import ALPHA, MARGIN, calibration_drift
from gateway.statistics.domains import Floats
from gateway.statistics.recalibration import expit, logit

RUNS = [300, pytest.param(2_000, marks=(pytest.mark.long, pytest.mark.timeout(1200)))]


def judged(random: np.random.Generator, n: int, shift: float = 0.0) -> tuple[Floats, Floats]:
    """(p, y) with the true logit that of p plus the shift."""
    p = random.beta(0.7, 0.5, n).clip(0.001, 0.999)
    return p, (random.random(n) < expit(logit(p) + shift)).astype(float)


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize("margin", [0.0, MARGIN])
def test_false_alarms_keep_to_alpha_over_10_000_labels(margin: float, runs: int) -> None:
    random, alarms = np.random.default_rng(51), 0
    for _ in range(runs):
        p, y = judged(random, 10_000)
        if margin:  # at the edge of the null: every probability is the margin too high
            y = (random.random(p.size) < np.maximum(p - margin, 0)).astype(float)
        alarms += calibration_drift(p, y, margin=margin).alarm
    assert alarms / runs <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / runs)


def test_weighted_draws_raise_no_false_alarm() -> None:
    """Answers that are drawn ten times as often have another bias than the rest, and the traffic has none."""
    random, alarms = np.random.default_rng(52), [0, 0]
    for _ in range(300):
        often = random.random(2_000) < 10 / 11
        p = np.full(2_000, 0.7)
        y = (random.random(2_000) < np.where(often, 0.8, 0.6)).astype(float)
        for at, weights in enumerate((np.where(often, 0.1, 1.0), np.ones(2_000))):
            alarms[at] += calibration_drift(p, y, weights).alarm
    assert alarms[0] / 300 <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / 300)
    assert alarms[1] == 300


@pytest.mark.parametrize(("shift", "labels"), [(0.6, 500), (1.0, 160), (-1.0, 160)])
def test_a_change_is_found_after_few_labels(shift: float, labels: int) -> None:
    random, found = np.random.default_rng(53), []
    for _ in range(200):
        first = calibration_drift(*judged(random, 3_000, shift)).first_alarm
        found.append(first or 3_001)
    assert np.median(found) < labels


def test_a_quiet_past_hides_no_change() -> None:
    random, found = np.random.default_rng(54), []
    for _ in range(100):
        past, after = judged(random, 5_000), judged(random, 2_000, 1.0)
        p, y = (np.concatenate(parts) for parts in zip(past, after, strict=True))
        found.append((calibration_drift(p, y).first_alarm or 7_001) - 5_000)
    assert np.median(found) < 350


def test_overconfidence_that_cancels_in_the_mean_is_found() -> None:
    random, p = np.random.default_rng(55), np.tile([0.1, 0.9], 500)
    y = (random.random(1_000) < np.tile([0.3, 0.7], 500)).astype(float)
    assert abs(float((y - p).mean())) < 0.05
    assert calibration_drift(p, y).alarm


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), max_size=150), st.integers(0, 150))
def test_later_labels_never_change_an_earlier_alarm(labels: list[tuple[float, int]], cut: int) -> None:
    p, y = np.array(labels).T if labels else (np.array([]), np.array([]))
    whole, part = calibration_drift(p, y), calibration_drift(p[:cut], y[:cut])
    assert whole.log_peak >= part.log_peak - 1e-9
    if part.alarm:
        assert whole.first_alarm == part.first_alarm


def test_no_label_is_no_evidence() -> None:
    found = calibration_drift([], [])
    assert (found.log_e, found.alarm, found.labels) == (0.0, False, 0)


@pytest.mark.parametrize(
    "arguments", [([1.2], [1.0]), ([0.5], [1.2]), ([0.5], [1.0], 2.0), ([0.5], [1.0], 1.0, 0.5), ([0.5], [])]
)
def test_arguments_outside_the_domain_are_refused(arguments: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ValueError, match=r"outside|differ"):
        calibration_drift(*arguments)
