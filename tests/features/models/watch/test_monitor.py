"""The evidence of a monitor: quiet where nothing changes, soon where the answers do."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from gateway.features.models.watch.cells import BASELINE_H
from gateway.features.models.watch.hourly_calls import HourOfTarget, cell_hours
from gateway.features.models.watch.monitor import BETS, Monitor, WatchErrors
from gateway.features.models.watch.series import CALL_SERIES
from tests.features.models.watch.watched_calls import hours, shifted, together

DEPLOYMENT = WatchErrors(20, 160)


@pytest.fixture(scope="module")
def baseline() -> list[HourOfTarget]:
    """The hours of two weeks."""
    return hours(1, 14)


def begun(baseline: list[HourOfTarget]) -> Monitor:
    made = Monitor.begun(cell_hours(baseline), DEPLOYMENT)
    assert made is not None
    return made


def log_mean(monitor: Monitor, total: float) -> float:
    return float(total - np.log(2 * len(monitor.series) * len(BETS)))


def test_two_weeks_without_a_change_are_quiet(baseline: list[HourOfTarget]) -> None:
    monitor = begun(baseline)
    later = cell_hours([*baseline, *shifted(hours(2, 14), BASELINE_H)], monitor.series)
    evidence = monitor.add(later, BASELINE_H)
    assert log_mean(monitor, float(evidence.max())) < DEPLOYMENT.limit - 4


def test_longer_answers_are_noticed_and_named(baseline: list[HourOfTarget]) -> None:
    monitor = begun(baseline)
    later = [*shifted(hours(3, 2), BASELINE_H), *shifted(hours(4, 3, longer=1.34), BASELINE_H + 48)]
    found = cell_hours([*baseline, *later], monitor.series)
    evidence = monitor.add(found, BASELINE_H)
    rung = int(np.argmax(evidence - np.log(2 * len(monitor.series) * len(BETS)) >= DEPLOYMENT.limit))
    calls = float(found.calls[BASELINE_H + 48 : BASELINE_H + rung + 1].sum())
    assert 0 < calls < 1_500
    first, second = monitor.moved(found, 5.0)
    assert {first.series, second.series} == {"length", "tokens"}
    assert {first.direction, second.direction} == {"up"}
    assert abs(first.since - (baseline[0].hour + BASELINE_H + 48)) <= 4
    assert abs(np.exp(first.now - first.before) - 1.34) < 0.08


def test_hour_by_hour_is_the_same_as_at_once(baseline: list[HourOfTarget]) -> None:
    at_once, by_hour = begun(baseline), begun(baseline)
    later = [*baseline, *shifted(hours(3, 1, longer=1.2), BASELINE_H)]
    evidence = at_once.add(cell_hours(later, at_once.series), BASELINE_H)
    for n in range(BASELINE_H + 1, len(later) + 1):
        mine = later[max(0, n - BASELINE_H) : n]
        total = by_hour.add(cell_hours(mine, by_hour.series), len(mine) - 1)
        by_hour = Monitor.from_state(orjson.loads(orjson.dumps(by_hour.state())))
    assert abs(float(total[-1]) - float(evidence[-1])) < 0.05


def test_a_new_customer_counts_once_it_is_known(baseline: list[HourOfTarget]) -> None:
    """Answers of a new customer are three times as long, and half of all."""
    monitor = begun(baseline)
    old, new = hours(5, 15, n=20), hours(6, 15, n=20, caller="other", user=None, longer=3.0)
    both = together([shifted(old, BASELINE_H), shifted(new, BASELINE_H)])
    found = cell_hours([*baseline, *both], monitor.series)
    evidence = monitor.add(found, BASELINE_H)
    assert log_mean(monitor, float(evidence.max())) < DEPLOYMENT.limit - 4
    assert monitor.grouped(found, BASELINE_H).left_out[-1] > 0.4
    monitor.admit(cell_hours(both[-BASELINE_H:], monitor.series))
    assert "other" in monitor.named
    assert monitor.grouped(found, BASELINE_H).left_out[-1] < 0.05


def test_a_baseline_follows_by_two_weeks(baseline: list[HourOfTarget]) -> None:
    monitor = begun(baseline)
    later = [*baseline, *shifted(hours(7, 15, n=12, longer=1.5), BASELINE_H)]
    k, before = monitor.series.index("length"), monitor.baseline.mean.copy()
    monitor.renew(cell_hours(later[:BASELINE_H], monitor.series))
    monitor.renew(cell_hours(later[24 : BASELINE_H + 24], monitor.series))
    assert monitor.baseline.mean[k] == before[k], "hours of the baseline are in it once"
    monitor.renew(cell_hours(later[BASELINE_H : 2 * BASELINE_H], monitor.series))
    assert before[k] < monitor.baseline.mean[k] < before[k] + 0.1


def test_too_few_hours_are_no_baseline(baseline: list[HourOfTarget]) -> None:
    assert Monitor.begun(cell_hours(baseline[:100]), DEPLOYMENT) is None
    assert set(CALL_SERIES) < set(begun(baseline).series)


def test_more_watches_and_series_ask_for_more() -> None:
    assert WatchErrors(40, 320).limit > DEPLOYMENT.limit > WatchErrors(1, 8).limit
    assert WatchErrors(40, 320).series_error < DEPLOYMENT.series_error
