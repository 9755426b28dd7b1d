"""The last 24 hours, by model name and target: the changes, their beginnings, and their certainty. Pure.

Figures are shown next to those of the previous 24 hours. A change is one from the usual level (daily_changes.py): one
look a day, one entry for each change until it ends. It says where to look; verdicts with an error guarantee are those
of experiments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np

from gateway.features.today.daily_changes import (
    HISTORY_DAYS,
    LASTING_DAYS,
    ChangeHistory,
    DailySeries,
    changes,
    compare,
    day_interval,
)
from gateway.features.today.rows import HOUR_S, GroupKey, HourSums, WeightedSums
from gateway.reports.charts import WIDE, Axes, Chart, Scale, Shape, path, shape, ticks, variants_of
from gateway.statistics.domains import Floats

HOURS = 24
DAYS = HISTORY_DAYS + LASTING_DAYS + 1
"""Days of history that a report uses; older hours change nothing."""
Measure = Literal["score", "errors", "cost", "p95"]
Hours = Mapping[float, Mapping[GroupKey, HourSums]]
"""Sums by the hour's beginning, in Unix seconds."""
ALARMS: Mapping[Measure, str] = {
    "errors": "GatewayErrorBurnFast",
    "p95": "GatewayFirstTokenSlow",
    "cost": "GatewayLimitNearlyUsed",
}
"""The alert of grafana/alerts that watches a measure. A drop of a score outside of experiments has none."""


class FigureKey(NamedTuple):
    """A measure of a group. scorer: "" but for scores."""

    group: GroupKey
    measure: Measure
    scorer: str = ""


@dataclass(frozen=True, slots=True)
class SlowerCalls:
    """The share of the calls that take longer than `seconds`, on the usual days and within the last 24 hours."""

    seconds: float
    usual: float
    now: float


@dataclass(frozen=True, slots=True)
class Figure:
    """The values of a measure of a group. None if there are no data."""

    measure: Measure
    scorer: str
    now: float | None
    """The last 24 hours."""
    before: float | None
    """The 24 hours before."""
    usual: float | None = None
    """The value that the last 24 hours are compared with: the same weekday in the last four weeks, or the days there
    are."""
    interval: tuple[float, float] | None = None
    """95 % interval of `now`, over hours; None if there are too few calls."""
    z: float | None = None
    """The difference of `now` and `usual` in standard errors; none for too few calls or too small a difference."""
    changed: Literal["", "rose", "fell"] = ""
    """Direction of the change; "" if it is as usual, or unknown."""
    higher_is_better: bool = False
    slower: SlowerCalls | None = None
    """Comparison of the p95 with the usual days, by slower calls; None for other measures."""

    @property
    def agrees(self) -> bool:
        """Tells whether `now` lies on the side of `usual` that the change names. The p95 may not: its change is one of
        the share of slower calls, on the same weekday."""
        if not self.changed or self.now is None or self.usual is None:
            return True
        return self.now > self.usual if self.changed == "rose" else self.now < self.usual

    @property
    def tone(self) -> Literal["", "good", "bad"]:
        if not self.changed:
            return ""
        return "good" if (self.changed == "rose") == self.higher_is_better else "bad"


@dataclass(frozen=True, slots=True)
class Change:
    """A figure whose change is more than chance."""

    group: GroupKey
    figure: Figure
    since: float
    """The beginning of the hour in which it most likely began."""
    course: Sequence[tuple[float, float | None, float | None]]
    """The beginning of each hour, its value, and the value 24 hours before."""


@dataclass(frozen=True, slots=True)
class GroupFigures:
    group: GroupKey
    calls: float
    calls_before: float
    cost: float | None
    """USD of all calls; None if no cost is known."""
    cost_before: float | None
    unpriced: float
    """Calls whose cost is unknown."""
    figures: Sequence[Figure]

    def figure(self, measure: Measure, scorer: str = "") -> Figure | None:
        return next((f for f in self.figures if (f.measure, f.scorer) == (measure, scorer)), None)


@dataclass(frozen=True, slots=True)
class TodayReport:
    groups: Sequence[GroupFigures] = ()
    scorers: Sequence[str] = ()
    changes: Sequence[Change] = field(default=())
    """Changes in the order in which they began."""
    history_days: int = 0
    """Number of earlier days with calls, in four weeks."""
    weekly: bool = False
    """Whether two weeks of history are there, so that a day is compared with the same weekday."""
    errors: tuple[float, float] | None = None
    """95 % interval of the share of failed calls of all groups, over hours; None if there are too few calls."""


def windows(now: float) -> tuple[list[float], list[float]]:
    """The beginnings of the last 24 hours, with the one that has begun, and of the 24 before."""
    last = now // HOUR_S * HOUR_S
    today = [last - HOUR_S * i for i in reversed(range(HOURS))]
    return today, [begin - HOUR_S * HOURS for begin in today]


def report(hours: Hours, now: float, margins: Mapping[str, float] | None = None) -> TodayReport:
    """Reports changes. hours: those of up to DAYS days; one that is missing counts as empty. margins: by scorer, the
    smallest difference that matters to an experiment's plan."""
    today, yesterday = windows(now)
    groups = sorted({group for begin in (*today, *yesterday) for group in hours.get(begin, {})})
    past = daily_figures(hours, now, margins or {})
    found = changes(past.series, LASTING_DAYS)
    shown, listed = [], []
    for group in groups:
        ours, theirs = (_sum(hours, begins, group) for begins in (today, yesterday))
        figures = [_figure(key, (ours, theirs), past, found[key]) for key in past.series if key.group == group]
        listed += [_change(hours, today, group, f) for f in figures if f.changed]
        shown.append(_group(group, ours, theirs, figures))
    scorers = sorted({f.scorer for each in shown for f in each.figures if f.measure == "score"})
    listed.sort(key=lambda c: (c.since, -abs(c.figure.z or 0)))
    return TodayReport(shown, scorers, listed, *_history(past.series), errors=_errors_of_all(past.series))


def _errors_of_all(series: Mapping[FigureKey, DailySeries]) -> tuple[float, float] | None:
    """95 % interval of the share of failed calls of all groups. An hour of all groups is one block, since faults affect
    several groups at once."""
    of = [each for key, each in series.items() if key.measure == "errors"]
    day = WeightedSums()
    weights: Floats = np.zeros((1, HOURS))
    values: Floats = np.zeros((1, HOURS))
    for each in of:
        day.plus(each.days[0])
        weights += each.weights[:1]
        values += each.values[:1]
    return day_interval(DailySeries(weights, values, [day], share=True), 0)


def _history(series: Mapping[FigureKey, DailySeries]) -> tuple[int, bool]:
    of_calls = [of for key, of in series.items() if key.measure == "errors"]
    days = (sum(day.w > 0 for day in of.days[1 : HISTORY_DAYS + 1]) for of in of_calls)
    return max(days, default=0), any(compare(of, 0).weekly for of in of_calls)


@dataclass(frozen=True, slots=True)
class DailyFigures:
    """Every figure by day and hour, of the groups with calls within the two newest days, in a lasting order."""

    series: Mapping[FigureKey, DailySeries]
    usual_p95: Mapping[GroupKey, float | None]
    """Seconds, over the days before the newest; calls that take longer are the slow ones. None if there were none."""


def daily_figures(hours: Hours, now: float, margins: Mapping[str, float], days: int = DAYS) -> DailyFigures:
    """Sums hours to days. margins: see report."""
    last = now // HOUR_S * HOUR_S
    cells: dict[GroupKey, list[tuple[int, int, HourSums]]] = {}
    for begin, groups in hours.items():
        age = round((last - begin) / HOUR_S)
        if 0 <= age < days * HOURS:
            for group, cell in groups.items():
                cells.setdefault(group, []).append((age // HOURS, HOURS - 1 - age % HOURS, cell))
    current = sorted(group for group, found in cells.items() if any(day < 2 for day, _, _ in found))
    limits = {group: _usual_p95(cells[group]) for group in current}
    parts = [_series_of(group, cells[group], days, limits[group]) for group in current]
    series = {key: of for part in parts for key, of in part.items()}
    return DailyFigures({k: replace(of, floor=margins.get(k.scorer)) for k, of in series.items()}, limits)


_Cells = Sequence[tuple[int, int, HourSums]]  # day, hour of it, sums


def _series_of(group: GroupKey, cells: _Cells, days: int, limit_s: float | None) -> dict[FigureKey, DailySeries]:
    by_scorer: dict[str, list[tuple[int, int, WeightedSums]]] = {}
    for day, hour, cell in cells:
        for scorer, sums in cell.scores.items():
            by_scorer.setdefault(scorer, []).append((day, hour, sums))
    found = {
        FigureKey(group, "score", scorer): _series(by_scorer[scorer], days)
        for scorer in sorted(by_scorer)
        if any(day < 2 for day, _, _ in by_scorer[scorer])
    }
    slow = [] if limit_s is None else [(day, hour, _slower(cell, limit_s)) for day, hour, cell in cells]
    found[FigureKey(group, "errors")] = _series([(day, hour, c.errors) for day, hour, c in cells], days, share=True)
    found[FigureKey(group, "cost")] = _series([(day, hour, c.cost) for day, hour, c in cells], days)
    found[FigureKey(group, "p95")] = _series(slow, days, share=True)
    return found


def _series(cells: Sequence[tuple[int, int, WeightedSums]], days: int, *, share: bool = False) -> DailySeries:
    weights: Floats = np.zeros((days, HOURS))
    values: Floats = np.zeros((days, HOURS))
    sums = [WeightedSums() for _ in range(days)]
    for day, hour, cell in cells:
        weights[day, hour], values[day, hour] = cell.w, cell.wv
        sums[day].plus(cell)
    return DailySeries(weights, values, sums, share)


def _usual_p95(cells: _Cells) -> float | None:
    usual = HourSums()
    for day, _, cell in cells:
        if day:
            usual.plus(HourSums(latency=cell.latency))
    return usual.quantile(0.95)


def _slower(cell: HourSums, limit_s: float) -> WeightedSums:
    of, share = cell.slow, cell.slower(limit_s) or 0.0
    return WeightedSums(of.n, of.w, of.ww, of.w * share, of.w * share, of.ww * share, of.ww * share)


def _sum(hours: Hours, begins: Sequence[float], group: GroupKey) -> HourSums:
    total = HourSums()
    for begin in begins:
        if (cell := hours.get(begin, {}).get(group)) is not None:
            total.plus(cell)
    return total


def _group(group: GroupKey, ours: HourSums, theirs: HourSums, figures: Sequence[Figure]) -> GroupFigures:
    cost, before = ((each.cost.wv if each.cost.n else None) for each in (ours, theirs))
    unpriced = max(0.0, ours.errors.w - ours.cost.w)
    return GroupFigures(group, ours.errors.w, theirs.errors.w, cost, before, unpriced, figures)


def _figure(key: FigureKey, sums: tuple[HourSums, HourSums], past: DailyFigures, history: ChangeHistory) -> Figure:
    """sums: of the last 24 hours, and of the 24 before."""
    ours, theirs = sums
    of, entry = past.series[key], history.open
    compared = compare(of, 0, history.unusual())
    interval, usual = day_interval(of, 0), compared.usual if entry is None else entry.found.usual
    slower = None
    if key.measure == "p95":  # compared by the share of slower calls
        usual, share = past.usual_p95[key.group], usual
        interval = None if interval is None else _interval_of_p95(ours, interval)
        if usual is not None and share is not None and compared.now is not None:
            slower = SlowerCalls(usual, share, compared.now)
    z = None if compared.difference is None or math.isinf(compared.se) else compared.difference / compared.se
    changed: Literal["", "rose", "fell"] = "" if entry is None else "rose" if entry.rises else "fell"
    value = _value_of(key.measure, key.scorer)
    higher = key.measure == "score" and key.scorer not in ours.minimised | theirs.minimised
    return Figure(key.measure, key.scorer, value(ours), value(theirs), usual, interval, z, changed, higher, slower)


def _interval_of_p95(of: HourSums, slower: tuple[float, float]) -> tuple[float, float] | None:
    """Quantiles as far from the p95 as the share of slower calls may be from its true value."""
    half = (slower[1] - slower[0]) / 2
    low, high = of.quantile(max(0.0, 0.95 - half)), of.quantile(min(1.0, 0.95 + half))
    return None if low is None or high is None else (low, high)


def _change(hours: Hours, today: Sequence[float], group: GroupKey, figure: Figure) -> Change:
    value = _value_of(figure.measure, figure.scorer)
    cells = [(begin, hours.get(begin, {}).get(group)) for begin in today]
    earlier = [hours.get(begin - HOUR_S * HOURS, {}).get(group) for begin in today]
    course = [(begin, value(cell), value(old)) for (begin, cell), old in zip(cells, earlier, strict=True)]
    weights = [0.0 if cell is None else _weight(figure, cell) for _, cell in cells]
    return Change(group, figure, _since(course, weights, figure.usual or 0.0), course)


def _value_of(measure: Measure, scorer: str) -> Callable[[HourSums | None], float | None]:
    def value(cell: HourSums | None) -> float | None:
        if cell is None:
            return None
        if measure == "score":
            return cell.scores.get(scorer, WeightedSums()).mean
        if measure == "p95":
            return cell.quantile(0.95)
        return (cell.errors if measure == "errors" else cell.cost).mean

    return value


def _weight(figure: Figure, cell: HourSums) -> float:
    sums = {"errors": cell.errors, "cost": cell.cost, "p95": cell.slow}.get(figure.measure)
    return (cell.scores.get(figure.scorer, WeightedSums()) if sums is None else sums).w


def _since(course: Sequence[tuple[float, float | None, float | None]], weights: Sequence[float], usual: float) -> float:
    """The hour from which on a shift of the mean explains most: the least-squares change point."""
    best, since, total, weight = -1.0, course[-1][0], 0.0, 0.0
    for (begin, value, _), w in zip(reversed(course), reversed(weights), strict=True):
        if value is None:
            continue
        total, weight = total + w * (value - usual), weight + w
        gain = total * total / weight if weight else 0.0
        if gain > best:
            best, since = gain, begin
    return since


def course_chart(change: Change, id: str, title: str, hour: Callable[[float], str]) -> Chart:
    """The last 24 hours as a line, the 24 before as a dashed one."""
    values = [v for _, now, before in change.course for v in (now, before) if v is not None]
    low, high = min(values), max(values)
    pad = (high - low) * 0.1 or abs(high) * 0.1 or 0.1
    height = 220
    figure = change.figure
    usual, now = ("no value" if value is None else f"{value:.3g}" for value in (figure.usual, figure.now))
    description = f"{title}: {usual} usually, {now} now."

    def draw(width: int) -> tuple[Shape, ...]:
        x = Scale(0, len(change.course) - 1, 58, width - 18)
        y = Scale(low - pad, high + pad, height - 52, 14)
        y_ticks = tuple((v, f"{v:g}") for v in ticks(low - pad, high + pad, 4))
        step = 4 if width == WIDE else 8
        x_ticks = tuple((float(i), hour(c[0])) for i, c in enumerate(change.course) if i % step == 0)
        return (
            *Axes(x, y, x_ticks, y_ticks, "hour (UTC)").shapes(),
            *_line(x, y, [before for _, _, before in change.course], "before"),
            *_line(x, y, [now for _, now, _ in change.course], "trail"),
        )

    return Chart(id, title, description, height, variants_of(draw))


def _line(x: Scale, y: Scale, values: Sequence[float | None], look: str) -> list[Shape]:
    points = [(x(i), y(v)) for i, v in enumerate(values) if v is not None]
    if not points:
        return []
    if len(points) == 1:
        return [shape("circle", cx=points[0][0], cy=points[0][1], r=3.0, look="dot")]
    return [path(points, look)]
