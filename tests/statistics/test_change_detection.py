"""Change alarms: false alarms are as rare as stated, under drift of anything but the mean too; delays are printed."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.statistics.change_detection import ChangeDetector, usual_range

Values = NDArray[np.float64]
ALPHA = 2e-4
LONG = (pytest.mark.long, pytest.mark.timeout(1200))


def coin(rng: np.random.Generator, p: Values | float, n: int) -> Values:
    return (rng.random(n) < p).astype(float)[:, None]


def test_values_at_once_or_one_by_one_are_the_same() -> None:
    values = np.random.default_rng(1).random((60, 3))
    at_once, singly = (ChangeDetector([0.6, 0.4, 0.5], [0.6, 0.4, 0.5], ALPHA) for _ in range(2))
    at_once.add(values)
    for row in values:
        singly.add(row[None])
    assert at_once.log_statistic == pytest.approx(singly.log_statistic)


def test_a_statistic_is_the_cusum_of_its_e_values() -> None:
    detector = ChangeDetector([0.5], [0.5], ALPHA)
    values = [0.9, 0.2, 1.0, 1.0]
    expected = np.zeros((2, 4))
    for x in values:
        e = np.array([1 + np.array([0.03, 0.1, 0.3, 0.8]) * y / 0.5 for y in (0.5 - x, x - 0.5)])
        expected = np.log(e) + np.maximum(0.0, expected)
    detector.add(np.array(values)[:, None])
    assert detector.log_statistic == pytest.approx(math.log(np.exp(expected).mean()))
    assert detector.largest() == (0, "up")


def test_the_state_continues_the_same_alarm() -> None:
    rng = np.random.default_rng(2)
    one = ChangeDetector([0.7], [0.9], ALPHA)
    one.add(coin(rng, 0.5, 40))
    other = ChangeDetector.from_state(json.loads(json.dumps(one.state())))
    for detector in (one, other):
        detector.add(coin(np.random.default_rng(3), 0.5, 40))
    assert one.state() == other.state()
    with pytest.raises(ValueError, match="not the state"):
        ChangeDetector.from_state({"lows": []})


@pytest.mark.parametrize(("low", "high", "alpha"), [([0.5], [0.4], 0.1), ([0.5], [0.5, 0.6], 0.1), ([0.5], [0.6], 1.0)])
def test_domains(low: list[float], high: list[float], alpha: float) -> None:
    with pytest.raises(ValueError, match=r"low|alpha"):
        ChangeDetector(low, high, alpha)


def test_an_alarm_ends_soon_after_the_change_has_ended() -> None:
    rng, detector = np.random.default_rng(4), ChangeDetector([0.75], [0.85], ALPHA)
    detector.add(coin(rng, 0.3, 5000))
    assert (detector.alarm, detector.largest()) == (True, (0, "down"))
    detector.add(coin(rng, 0.8, 500))
    assert not detector.alarm


def test_nothing_falls_below_a_range_that_begins_at_zero() -> None:
    detector = ChangeDetector([0.0], [0.2], ALPHA)
    detector.add(np.zeros((1000, 1)))
    assert detector.log_statistic < 1.0


def weighted(rng: np.random.Generator, h: Values, pi: Values) -> tuple[Values, Values]:
    """(values of what was drawn, smallest pi / pi)."""
    drawn = rng.random(len(h)) < pi
    return h[drawn][:, None], pi.min() / pi[drawn]


WORLDS = ("a coin", "variance", "waves inside the range", "drawn by value")


@pytest.mark.parametrize(
    ("paths", "n"), [pytest.param(60, 1000, id="quick"), pytest.param(4000, 2000, marks=LONG, id="large")]
)
@pytest.mark.parametrize("world", WORLDS)
def test_false_alarms_are_as_rare_as_stated(world: str, paths: int, n: int, request: pytest.FixtureRequest) -> None:
    """The range is exact here, so that nothing but alpha holds the alarm back; the bound is n alpha."""
    alarms = 0
    for seed in range(paths):
        rng = np.random.default_rng(seed)
        low, high, weights = 0.8, 0.8, np.ones(n)
        at = np.arange(n)
        if world == "a coin":
            values = coin(rng, 0.8, n)
        elif world == "variance":
            wide = 0.2 * np.sin(at / 30) * rng.choice([-1.0, 1.0], n)
            values = (0.8 + wide)[:, None]
        elif world == "waves inside the range":
            low, high, values = 0.7, 0.9, coin(rng, 0.8 + 0.1 * np.sin(at / 50), n)
        else:
            h = coin(rng, 0.8, 4 * n)[:, 0]
            values, weights = weighted(rng, h, np.where(h > 0.5, 0.1, 0.6))
        detector = ChangeDetector([low], [high], ALPHA)
        for begin in range(0, len(values), 50):  # a look after every 50: one after each would see at most a little more
            detector.add(values[begin : begin + 50], weights[begin : begin + 50])
            if detector.alarm:
                alarms += 1
                break
    show(request, f"| {world} | {alarms / paths:.3f} | {n * ALPHA:.1f} |")
    assert alarms / paths <= n * ALPHA


@pytest.mark.parametrize("paths", [pytest.param(8, id="quick"), pytest.param(400, marks=LONG, id="large")])
def test_delays(paths: int, request: pytest.FixtureRequest) -> None:
    """Judged answers from a change to the alarm: 500 before it set the usual range, alpha = 1e-4, mean 0.8 before."""
    medians = {}
    for mean in (0.5, 0.6, 0.65, 0.95):
        delays = []
        for seed in range(paths):
            rng = np.random.default_rng(seed)
            detector = ChangeDetector(*usual_range(coin(rng, 0.8, 500), 0.01), 1e-4)
            detector.add(coin(rng, 0.8, 1000))
            n = 0
            while not detector.alarm and n < 6000:
                detector.add(coin(rng, mean, 25))
                n += 25
            delays.append(n)
        medians[mean] = float(np.median(delays))
        show(request, f"| 0.8 to {mean} | {medians[mean]:.0f} | {np.quantile(delays, 0.9):.0f} |")
    assert medians[0.5] < 200
    assert medians[0.6] < 500


def show(request: pytest.FixtureRequest, line: str) -> None:
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        reporter.write_line("")
        reporter.write_line(line)
