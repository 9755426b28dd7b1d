"""The charts of Today: 48 hours of each figure, with the usual level, the changes, and the events. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.features.today.changes import Change, Figure, SlowerCalls
from gateway.features.today.rows import GroupKey
from gateway.features.today.series import HourSeries, SeriesReport
from gateway.reports.charts import Chart
from gateway.reports.model import Estimate
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
    shown = _Happened([change for change in changes if group in (None, change.group)], events, group is not None)
    drawn = [(series, _chart(f"series-{i}", series, shown, say)) for i, series in enumerate(found.series)]
    return [SeriesChart(chart, series, chart.title) for series, chart in drawn if chart is not None]


@dataclass(frozen=True, slots=True)
class _Happened:
    changes: Sequence[Change]
    events: Sequence[DeploymentEvent]
    alone: bool
    """The series are those of one group, whose changes these are."""


def _chart(id: str, series: HourSeries, happened: _Happened, say: SayFigure) -> Chart | None:
    ours = [c for c in happened.changes if (c.figure.measure, c.figure.scorer) == (series.measure, series.scorer)]
    first = series.points[0].at
    return time_chart(
        TimeSeries(
            id=id,
            title=TITLES.get(series.measure, series.scorer),
            points=series.points,
            say=lambda value: say(series.measure, value),
            clock=clock,
            marks=[TimeMark(e.at, number, e.text) for number, e in enumerate(happened.events, 1) if e.at >= first],
            spans=[_span(change, say, drawn=happened.alone and series.measure != "cost") for change in ours],
            from_zero=series.measure != "score",
        )
    )


def _span(change: Change, say: SayFigure, *, drawn: bool) -> TimeSpan:
    """drawn: the series is that of the change's group, so that its value of 24 hours fits the drawing."""
    figure = change.figure
    if not drawn or figure.interval is None or figure.now is None:
        return TimeSpan(change.since, figure.tone, _in_words(figure, say))
    return TimeSpan(change.since, figure.tone, _in_words(figure, say), Estimate(figure.now, *figure.interval))


def _in_words(figure: Figure, say: SayFigure) -> str:
    if figure.slower is not None and not figure.agrees:
        return slower_calls(figure.slower, say)
    usual, now = figure.usual, figure.now
    if figure.measure == "cost":  # the chart is of the cost of an hour
        usual, now = (None if cost is None else 1_000 * cost for cost in (usual, now))
    of = "the cost of 1 000 calls " if figure.measure == "cost" else ""
    return f"{of}{figure.changed or 'changed'} from {say(figure.measure, usual)} to {say(figure.measure, now)}"


def slower_calls(of: SlowerCalls, say: SayFigure) -> str:
    """The change of a p95 that lies on the other side of its usual value than the change: its weekday is a faster
    one."""
    return f"has {say('errors', of.now)} of the calls above {say('p95', of.seconds)}, {say('errors', of.usual)} usually"


def clock(at: float) -> str:
    """A time on the axis: the day at midnight, else the hour, in UTC."""
    of = datetime.fromtimestamp(at, UTC)
    return f"{of:%a %d}" if of.hour == 0 and of.minute == 0 else f"{of:%H:%M}"
