"""Hours of traffic and days, in Unix time."""

from __future__ import annotations

import json

import pytest

from gateway.verdict.sequences.traffic_time import FEWEST_A_DAY, LONGEST_GAP_S, DayEffects, TrafficTime

HOUR_S, DAY_S = 3600.0, 86_400.0


def test_a_night_counts_and_an_outage_does_not() -> None:
    time = TrafficTime()
    for at in (0.0, 9 * HOUR_S, 9 * HOUR_S + DAY_S, 8 * HOUR_S, 10 * HOUR_S + DAY_S):
        time.add(at)
    assert time.covered_s == 10 * HOUR_S + LONGEST_GAP_S


def test_a_clock_change_changes_no_day_and_no_hour() -> None:
    """Berlin sets its clocks back on 2026-10-25 at 01:00 UTC."""
    fall = 1_792_890_000.0
    time, days = TrafficTime(), DayEffects()
    for i in range(49):
        time.add(fall - DAY_S + i * HOUR_S)
        days.add(0.1, fall - DAY_S + i * HOUR_S)
    assert time.covered_s == 48 * HOUR_S
    assert [m.n for m in days.days.values()] == [23, 24, 2]


def test_a_slope_needs_three_days_with_enough_pairs() -> None:
    days = DayEffects()
    for day in range(3):
        assert days.slope() is None
        for i in range(FEWEST_A_DAY):
            days.add(0.1 * day + 0.01 * (i % 2), day * DAY_S)
    slope = days.slope()
    assert slope is not None
    assert slope.per_day == pytest.approx(0.1)
    assert slope.p < 1e-6
    wider = days.slope(10_000.0)
    assert wider is not None
    assert wider.p > 0.05, "pairs that depend on each other say less"
    assert DayEffects.from_state(json.loads(json.dumps(days.state()))) == days
