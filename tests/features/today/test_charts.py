"""The charts of Today: what changed is shaded, and what happened is a line."""

from __future__ import annotations

from gateway.features.today.changes import Change, Figure
from gateway.features.today.charts import clock, series_charts
from gateway.features.today.rows import HOUR_S, HourSums
from gateway.features.today.series import series_report
from gateway.store.events import config_event

NOW = 1_764_001_800.0
CHAT, FAST = ("chat", "local/small"), ("fast", "local/large")


def say(measure: str, value: float | None) -> str:
    return f"{measure} {value:g}" if value is not None else "none"


def hour(calls: int) -> HourSums:
    made = HourSums()
    for _ in range(calls):
        made.errors.add(0.0, 1.0)
    return made


def test_changes_and_events_stand_in_the_chart_of_their_measure() -> None:
    hours = {NOW // HOUR_S * HOUR_S - HOUR_S * i: {CHAT: hour(5)} for i in range(30)}
    figure = Figure("errors", "", 0.2, 0.0, 0.0, (0.1, 0.3), 9.0, "rose")
    since = NOW - 5 * HOUR_S
    events = [config_event("aa11bb22", NOW - 3 * HOUR_S), config_event("cc33dd44", NOW - 90 * HOUR_S)]
    found = series_charts(series_report(hours, NOW), [Change(CHAT, figure, since, ())], events, say)
    by = {each.series.measure: each.chart for each in found}
    looks = {name: [s.attributes.get("class", "") for s in c.variants[0].shapes] for name, c in by.items()}
    assert [looks[name].count("event") for name in ("calls", "errors")] == [1, 1], "an older one is outside"
    assert "changed bad" in looks["errors"]
    assert "changed bad" not in looks["calls"]
    assert f"Since {clock(since)}: rose from errors 0 to errors 0.2." in by["errors"].description
    alone = series_charts(series_report(hours, NOW, FAST), [Change(CHAT, figure, since, ())], events, say, FAST)
    assert alone == []
