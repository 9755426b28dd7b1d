"""The charts and tables of the pages with sample values, for the page of components in docs/contributing/design.md."""

from __future__ import annotations

from gateway.reports import number_format as say
from gateway.reports.charts import Chart, IntervalScale, Trail, amount_bar, interval_bar, share_bar, trail_chart
from gateway.reports.model import Estimate, IntervalTrail
from gateway.reports.pareto import CostChart, PricedModel, cost_chart
from gateway.reports.section import Cell, Column, ReportSection, Row, table
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

HOUR_S = 3_600.0
BEGIN = 1_764_000_000.0
COLOURS = ("paper", "panel", "ink", "soft", "link", "good", "open", "bad", "control", "candidate", "repeat")


def line_with_band() -> Chart | None:
    """48 hours that fall at the end, with the usual range and an event."""
    points = []
    for i in range(48):
        usual = 0.9 - 0.02 * (i % 24 in range(8))
        value = None if i == 11 else usual - (0.25 if i > 36 else 0.0) + 0.01 * ((i * 7) % 5 - 2)
        points.append(TimePoint(BEGIN + HOUR_S * i, value, usual - 0.05, usual + 0.05))
    mark = TimeMark(BEGIN + 36.5 * HOUR_S, 1, "gateway 0.5.0")
    span = TimeSpan(BEGIN + 37 * HOUR_S, "bad", "fell from 90 % to 65 %", Estimate(0.65, 0.6, 0.7))
    return time_chart(
        TimeSeries(
            id="design-line",
            title="right, by the hour",
            points=points,
            say=say.share,
            clock=short_time,
            marks=[mark],
            spans=[span],
            from_zero=False,
            small=False,
        )
    )


def course() -> Chart | None:
    points = tuple((n, -0.06, -0.06 - 2 / n**0.5, -0.06 + 2 / n**0.5) for n in range(10, 1_000, 10))
    return trail_chart(Trail("design-course", IntervalTrail("right", points), "right", 0.1))


def timeline() -> Chart | None:
    steps = [
        RampStep(BEGIN, 0.0, "", "shadowing"),
        RampStep(BEGIN + 9e3, 0.1, "", "advanced"),
        RampStep(BEGIN + 2e4, 0.5, "", "advanced"),
        RampStep(BEGIN + 3e4, 0.0, "bad", "rolled back"),
    ]
    return ramp_chart(
        RampTimeline("design-ramp", "Share of the traffic", steps, (0.1, 0.5, 1.0), BEGIN + 4e4, short_time)
    )


def amounts() -> Chart | None:
    days = [(f"2026-11-{day:02}", 1.7 + 0.4 * (day % 3) - 1.2 * (day % 7 in (1, 2))) for day in range(1, 22)]
    return day_chart(DayBars("design-days", "Cost by day", days, say.dollars))


def pareto() -> Chart | None:
    models = tuple(
        PricedModel(name, Estimate(cost), Estimate(quality, quality - 0.04, quality + 0.04), look, front)
        for name, cost, quality, front, look in (
            ("gpt-x", 2.4, 0.0, True, "control"),
            ("llama-y", 0.7, -0.01, True, "candidate"),
            ("qwen", 1.1, -0.08, False, "other"),
        )
    )
    return cost_chart(CostChart("design-pareto", "Cost and quality", "right, + is better", models))


def forest() -> ReportSection:
    """Intervals against the margin, one in each state, and bars with intervals."""
    rows = []
    for name, e, tone in (
        ("holds", Estimate(0.02, -0.03, 0.07), "good"),
        ("undecided", Estimate(-0.05, -0.15, 0.05), "open"),
        ("worse", Estimate(-0.22, -0.31, -0.13), "bad"),
        ("no value yet", Estimate(None), ""),
    ):
        bar = interval_bar(e, IntervalScale(0.35, 0.1), tone)
        cost = amount_bar(Estimate(1.2, 1.0, 1.4), 2.0, "candidate")
        cells = (Cell(say.count(400)), Cell(drawing=bar), Cell("$1.20", drawing=cost), Cell(name, tone=tone))
        rows.append(Row(Cell(name), cells))
    columns = (
        Column("Metric", "text"),
        Column("Pairs"),
        Column("against its margin", "drawing"),
        Column("cost", "drawing"),
        Column("Noise floor", "text", term="noise floor"),
    )
    shares = share_bar([(40, "wins"), (25, "ties"), (35, "losses")])
    return ReportSection("forest", "Forest and bars", rows=table("Sample", columns, [("", rows)]), shares=shares)
