"""The charts of Today: 48 hours of each figure, with the usual level, the changes, and the events. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.features.today.changes import Change
from gateway.features.today.rows import GroupKey
from gateway.features.today.series import HourSeries, SeriesReport
from gateway.reports.charts import Chart
from gateway.reports.time_charts import TimeMark, TimeSeries, TimeSpan, time_chart
from gateway.store.events import DeploymentEvent

SayFigure = Callable[[str, float | None], str]
"""Says a value of a measure in its unit."""
TITLES = {"calls": "Calls an hour", "errors": "Failed", "p95": "p95 of the time", "cost": "Cost an hour"}


@dataclass(frozen=True, slots=True)
class SeriesChart:
    chart: Chart
    series: HourSeries
    title: str


def series_charts(
    found: SeriesReport,
    changes: Sequence[Change],
    events: Sequence[DeploymentEvent],
    say: SayFigure,
    group: GroupKey | None = None,
) -> list[SeriesChart]:
    """changes: of all groups; those of another group than `group` are left out."""
    shown = [change for change in changes if group is None or change.group == group]
    drawn = [(series, _chart(f"series-{i}", series, (shown, events), say)) for i, series in enumerate(found.series)]
    return [SeriesChart(chart, series, chart.title) for series, chart in drawn if chart is not None]


def _chart(
    id: str, series: HourSeries, happened: tuple[Sequence[Change], Sequence[DeploymentEvent]], say: SayFigure
) -> Chart | None:
    """happened: the changes, and the events."""
    changes, events = happened
    ours = [c for c in changes if (c.figure.measure, c.figure.scorer) == (series.measure, series.scorer)]
    alone = len({change.group for change in changes}) <= 1
    first = series.points[0].at
    return time_chart(
        TimeSeries(
            id=id,
            title=TITLES.get(series.measure, series.scorer),
            points=series.points,
            say=lambda value: say(series.measure, value),
            clock=clock,
            marks=[TimeMark(e.at, number, e.text) for number, e in enumerate(events, 1) if e.at >= first],
            spans=[_span(change, say, interval=alone) for change in ours],
            from_zero=series.measure != "score",
        )
    )


def _span(change: Change, say: SayFigure, *, interval: bool) -> TimeSpan:
    figure = change.figure
    text = (
        f"{figure.changed or 'changed'} from {say(figure.measure, figure.usual)} to {say(figure.measure, figure.now)}"
    )
    return TimeSpan(change.since, figure.tone, text, figure.interval if interval else None)


def clock(at: float) -> str:
    """A time on the axis: the day at midnight, else the hour, in UTC."""
    of = datetime.fromtimestamp(at, UTC)
    return f"{of:%a %d}" if of.hour == 0 and of.minute == 0 else f"{of:%H:%M}"
