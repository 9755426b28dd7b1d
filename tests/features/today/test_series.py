"""48 hours by the hour, against what is usual at that hour of the weekday."""

from __future__ import annotations

import pytest

from gateway.features.today.rows import HOUR_S, HourSums
from gateway.features.today.series import SHOWN_H, series_report

NOW = 1_764_001_800.0
LAST = NOW // HOUR_S * HOUR_S
CHAT, FAST = ("chat", "local/small"), ("fast", "local/large")


def hour(calls: int, failed: int = 0, score: float | None = None, seconds: float = 1.0) -> HourSums:
    made = HourSums()
    for i in range(calls):
        made.errors.add(float(i < failed), 1.0)
        made.cost.add(0.01, 1.0)
        made.latency[0] = made.latency.get(0, 0.0) + seconds
    if score is not None:
        for _ in range(calls):
            made.scores.setdefault("right", type(made.errors)()).add(score, 1.0)
    return made


def weeks(number: int, calls: int = 10) -> dict[float, dict[tuple[str, str], HourSums]]:
    """Hours of the last weeks with the same calls, and twice as many at the same hour a week ago."""
    begins = [LAST - HOUR_S * i for i in range(24 * 7 * number + SHOWN_H)]
    return {begin: {CHAT: hour(calls, score=0.9)} for begin in begins}


def test_each_measure_has_its_hours() -> None:
    hours = {LAST: {CHAT: hour(4, failed=1, score=0.5), FAST: hour(6)}, LAST - HOUR_S: {CHAT: hour(2)}}
    found = series_report(hours, NOW)
    by = {(each.measure, each.scorer): each.points for each in found.series}
    assert [len(points) for points in by.values()] == [SHOWN_H] * 5
    assert (by["calls", ""][-1].value, by["calls", ""][-2].value, by["calls", ""][0].value) == (10.0, 2.0, 0.0)
    assert by["errors", ""][-1].value == pytest.approx(0.1)
    assert by["errors", ""][0].value is None
    assert by["cost", ""][-1].value == pytest.approx(0.1)
    assert by["score", "right"][-1].value == pytest.approx(0.5)
    assert found.band == ""
    assert series_report({}, NOW).series == ()


def test_one_group_alone() -> None:
    hours = {LAST: {CHAT: hour(4), FAST: hour(6)}}
    found = series_report(hours, NOW, FAST)
    assert found.series[0].points[-1].value == 6.0


def test_a_band_spans_the_same_weekday() -> None:
    hours = weeks(4)
    hours[LAST - 7 * 24 * HOUR_S] = {CHAT: hour(20, score=0.9)}
    hours[LAST - 24 * HOUR_S] = {CHAT: hour(90, score=0.9)}
    found = series_report(hours, NOW)
    last = found.series[0].points[-1]
    assert found.band == "weekday"
    assert (last.low, last.high) == (10.0, 20.0), "yesterday, another weekday, is not in it"


def test_a_young_store_has_a_band_of_its_days() -> None:
    hours = {LAST - HOUR_S * i: {CHAT: hour(5 + i // 24)} for i in range(24 * 4)}
    found = series_report(hours, NOW)
    assert found.band == "days"
    last = found.series[0].points[-1]
    assert last.low is not None
    assert last.low >= 5.0
