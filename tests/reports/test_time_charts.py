"""Charts over time: every value that may come, and nothing outside of the drawing."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.reports.charts import Chart
from gateway.reports.model import Estimate
from gateway.reports.time_charts import (
    DayBars,
    RampStep,
    RampTimeline,
    TimeMark,
    TimePoint,
    TimeSeries,
    TimeSpan,
    day_chart,
    ramp_chart,
    short_time,
    time_chart,
)

HOUR = 3_600.0
AT = 1_764_000_000.0


def drawn(values: list[float | None], **more: object) -> Chart | None:
    points = [
        TimePoint(AT + HOUR * i, v, None if v is None else v - 1, None if v is None else v + 1)
        for i, v in enumerate(values)
    ]
    plain: dict[str, object] = {
        "id": "c",
        "title": "t",
        "points": points,
        "say": lambda v: f"{v:g}",
        "clock": short_time,
    }
    return time_chart(TimeSeries(**{**plain, **more}))  # type: ignore[arg-type]


def looks(chart: Chart) -> list[str]:
    return [each.attributes.get("class", "") for each in chart.variants[0].shapes]


def test_a_gap_splits_the_line_and_the_last_hour_is_set_apart() -> None:
    chart = drawn([1.0, 2.0, None, 4.0, 5.0])
    assert chart is not None
    assert looks(chart).count("trail") == 1
    assert looks(chart).count("dot") == 1, "a value without a neighbour"
    assert looks(chart).count("so-far") == 1
    assert looks(chart).count("usual") == 2
    assert [point.text for point in chart.variants[0].hover][-1].endswith(": 5")
    assert "4 of 5 hours known" in chart.description


def test_marks_and_changes_are_drawn_and_told() -> None:
    marks = [TimeMark(AT + HOUR, 1, "deploy"), TimeMark(AT + HOUR + 60, 2, "config")]
    span = TimeSpan(AT + 2 * HOUR, "bad", "fell from 4 to 1", Estimate(1.0, 0.5, 1.5))
    chart = drawn([4.0, 4.0, 1.0, 1.0], marks=marks, spans=[span])
    assert chart is not None
    assert looks(chart).count("event") == 2
    flags = [each for each in chart.variants[0].shapes if each.attributes.get("class") == "flag"]
    assert [flag.text for flag in flags] == ["1", "2"]
    assert flags[0].attributes["y"] != flags[1].attributes["y"], "they would cover each other"
    assert {"changed bad", "whisker bad"} <= set(looks(chart))
    assert "fell from 4 to 1" in chart.description


def test_no_value_is_not_a_chart() -> None:
    assert drawn([None, None]) is None
    assert ramp_chart(RampTimeline("r", "t", (), (1.0,), AT, short_time)) is None


values = st.lists(st.none() | st.floats(-1e9, 1e9, allow_nan=False), min_size=1, max_size=60)


@given(values, st.booleans(), st.booleans())
def test_every_coordinate_is_inside(numbers: list[float | None], small: bool, from_zero: bool) -> None:
    chart = drawn(numbers, small=small, from_zero=from_zero)
    if chart is None:
        assert all(value is None for value in numbers)
        return
    for variant in chart.variants:
        for each in variant.shapes:
            for name, value in each.attributes.items():
                if name in ("x", "x1", "x2", "cx"):
                    assert -1 <= float(value) <= variant.width + 1, (name, value)
                if name in ("y", "y1", "y2", "cy"):
                    assert -1 <= float(value) <= chart.height + 1, (name, value)
                if name == "d":
                    assert all(abs(float(n)) < 2_000 for n in re.findall(r"-?[\d.]+", value))


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1)), min_size=1, max_size=30), st.floats(0, 2e6))
def test_a_ramp_is_a_stair_from_its_first_change(steps: list[tuple[float, float]], later: float) -> None:
    made = [RampStep(AT + at, share, "", "advanced") for at, share in sorted(steps)]
    chart = ramp_chart(RampTimeline("r", "Share", made, (0.1, 1.0), AT + later, short_time))
    assert chart is not None
    for variant in chart.variants:
        dots = [each for each in variant.shapes if each.name == "circle"]
        assert len(dots) == len(made)
        assert all(0 <= float(dot.attributes["cx"]) <= variant.width for dot in dots)


amounts = st.lists(st.floats(0, 1e9), min_size=1, max_size=31)


@example([5e-324])
@given(amounts)
def test_bars_by_day_stay_within_the_drawing_and_name_the_costliest(values: list[float]) -> None:
    days = [(f"2026-10-{i + 1:02}", value) for i, value in enumerate(values)]
    chart = day_chart(DayBars("cost", "Cost by day", days, lambda value: f"${value:.2f}"))
    if max(values) <= 0:
        assert chart is None
        return
    assert chart is not None
    assert f"the most on {max(days, key=lambda day: day[1])[0]}" in chart.description
    for variant in chart.variants:
        bars = [s.attributes for s in variant.shapes if s.attributes.get("class") == "amount"]
        assert len(bars) == len(variant.hover) == len(values)
        for bar in bars:
            assert 0 <= float(bar["x"]) <= float(bar["x"]) + float(bar["width"]) <= variant.width
            assert 0 <= float(bar["y"]) <= float(bar["y"]) + float(bar["height"]) <= chart.height
