"""The drawing of a guard's share of hits: its parts of time, its round times, and what it says without a picture."""

from __future__ import annotations

import pytest

from gateway.features.guards.hourly.charts import RateChart, rate_chart, rate_points
from gateway.features.guards.hourly.hours import DAY_S, HOUR_S, DecisionRow, Hours, summed

START = 1_795_824_000.0  # a midnight


def hours(days: float) -> Hours:
    """Ten calls an hour, of which one has a hit; the first hour has none."""
    rows = []
    for hour in range(int(days * 24)):
        for i in range(10):
            hit = i == 0 and hour > 0
            decided = ("observe", "hit" if hit else "pass", None, float(hit), False, 0.001, 1.0, "default")
            rows.append(DecisionRow("web", f"{hour}-{i}", "answer", "c", *decided, START + hour * HOUR_S + 60 * i))  # type: ignore[arg-type]
    return summed(rows)


@pytest.mark.parametrize(("days", "parts", "labels"), [(1, 24, ["00:00", "04:00"]), (7, 24, ["28 Nov", "29 Nov"])])
def test_a_span_has_two_dozen_parts_and_round_times(days: int, parts: int, labels: list[str]) -> None:
    now = START + days * DAY_S - 1
    points = rate_points(hours(days), ("answer", "c"), START, now)
    assert len(points) == parts
    assert sum(point.calls for point in points) == days * 240
    chart = rate_chart(RateChart("rate", "Share", points, START, now))
    assert chart is not None
    texts = [shape.text for shape in chart.variants[0].shapes if shape.name == "text"]
    assert set(labels) <= set(texts), texts
    assert "last 10.0\u202f%, 95\u202f% interval" in chart.description.replace("95 %", "95\u202f%")
    assert all(point.share.low <= point.share.share <= point.share.high for point in points)
    assert len(chart.variants[0].hover) == parts


def test_decisions_of_another_config_are_not_drawn() -> None:
    assert rate_points(hours(1), ("answer", "other"), START, START + DAY_S) == []
    assert rate_chart(RateChart("rate", "Share", [], START, START + DAY_S)) is None


def test_a_change_is_marked_and_nothing_leaves_the_drawing() -> None:
    now = START + DAY_S
    points = rate_points(hours(1), ("answer", "c"), START, now)
    chart = rate_chart(RateChart("rate", "Share", points, START, now, small=True, marks=[START + HOUR_S]))
    assert chart is not None
    [variant] = chart.variants
    assert [shape.attributes.get("class") for shape in variant.shapes].count("event") == 1
    heights = [float(s.attributes[y]) for s in variant.shapes if s.name == "line" for y in ("y1", "y2")]
    assert all(0 <= y <= chart.height for y in heights)
