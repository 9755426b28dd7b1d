"""The last 24 hours against the 24 before, by model name and target: what changed, since when, and how surely. Pure.

A change is reported where the difference is at least four of its standard errors: of 1 000 figures without a change,
0.06 are expected to show one. That is a plain comparison of two windows, which says where to look; verdicts with an
error guarantee are those of experiments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from gateway.evals.reports.charts import NARROW, WIDE, Axes, Chart, Scale, Shape, Variant, shape, ticks
from gateway.evals.store.hours import HOUR_S, GroupKey, HourSums, WeightedSums

HOURS = 24
SURE = 4.0
LEAST = 20.0  # effective calls in each window
Measure = Literal["score", "errors", "cost", "p95"]
Hours = Mapping[float, Mapping[GroupKey, HourSums]]
"""By the hour's beginning, in Unix seconds."""
ALARMS: Mapping[Measure, str] = {
    "errors": "GatewayErrorBurnFast", "p95": "GatewayFirstTokenSlow", "cost": "GatewayLimitNearlyUsed",
}  # fmt: skip
"""The alert of grafana/alerts that watches a measure. A drop of a score outside of experiments has none."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measure of one group in both windows. None: there are no data."""

    measure: Measure
    scorer: str
    now: float | None
    before: float | None
    z: float | None
    """The difference in standard errors; None: too few calls."""

    @property
    def tone(self) -> Literal["", "good", "bad"]:
        if self.z is None or abs(self.z) < SURE:
            return ""
        better = self.z > 0 if self.measure == "score" else self.z < 0
        return "good" if better else "bad"


@dataclass(frozen=True, slots=True)
class Change:
    """A figure that changed for sure."""

    group: GroupKey
    figure: Figure
    since: float
    """The beginning of the hour in which it most likely began."""
    course: Sequence[tuple[float, float | None, float | None]]
    """(beginning of the hour, value, value 24 hours before)."""


@dataclass(frozen=True, slots=True)
class GroupFigures:
    group: GroupKey
    calls: float
    calls_before: float
    cost: float | None
    """USD of all calls; None: no cost is known."""
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
    """In the order in which they began."""


def windows(now: float) -> tuple[list[float], list[float]]:
    """The beginnings of the last 24 hours, with the one that has begun, and of the 24 before."""
    last = now // HOUR_S * HOUR_S
    today = [last - HOUR_S * i for i in reversed(range(HOURS))]
    return today, [begin - HOUR_S * HOURS for begin in today]


def report(hours: Hours, now: float) -> TodayReport:
    """hours: those of both windows; one that is missing counts as empty."""
    today, yesterday = windows(now)
    groups = sorted({group for begin in (*today, *yesterday) for group in hours.get(begin, {})})
    found, changes = [], []
    for group in groups:
        ours, theirs = (_sum(hours, begins, group) for begins in (today, yesterday))
        figures = _figures(ours, theirs)
        found.append(_group(group, ours, theirs, figures))
        changes += [_change(hours, today, group, f) for f in figures if f.tone]
    scorers = sorted({f.scorer for each in found for f in each.figures if f.measure == "score"})
    return TodayReport(found, scorers, sorted(changes, key=lambda c: (c.since, -abs(c.figure.z or 0))))


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


def _figures(ours: HourSums, theirs: HourSums) -> list[Figure]:
    found = [
        Figure("score", scorer, a.mean, b.mean, difference(a, b))
        for scorer in sorted({*ours.scores, *theirs.scores})
        for a, b in [(ours.scores.get(scorer, WeightedSums()), theirs.scores.get(scorer, WeightedSums()))]
    ]
    found.append(Figure("errors", "", ours.errors.mean, theirs.errors.mean, difference(ours.errors, theirs.errors)))
    found.append(Figure("cost", "", ours.cost.mean, theirs.cost.mean, difference(ours.cost, theirs.cost)))
    found.append(Figure("p95", "", ours.quantile(0.95), theirs.quantile(0.95), _slower(ours, theirs)))
    return found


def difference(a: WeightedSums, b: WeightedSums) -> float | None:
    """a's mean less b's, in standard errors. None: too few values. Each share gets the variance of one more failure
    and one more success in both windows together, so that two windows without any difference are none."""
    if a.mean is None or b.mean is None or min(a.effective, b.effective) < LEAST:
        return None
    both = WeightedSums()
    both.plus(a)
    both.plus(b)
    floor = 1e-12 + (both.variance / (a.effective + b.effective))
    spread = a.squared_error + b.squared_error
    return (a.mean - b.mean) / math.sqrt(max(spread, floor))


def _slower(ours: HourSums, theirs: HourSums) -> float | None:
    """Whether more than the usual share of the calls takes longer than the usual p95."""
    usual = theirs.quantile(0.95)
    if usual is None or min(ours.slow.effective, theirs.slow.effective) < LEAST:
        return None
    share, was = ours.slower(usual), theirs.slower(usual)
    if share is None or was is None:
        return None
    n, m = ours.slow.effective, theirs.slow.effective
    pooled = max((share * n + was * m + 0.5) / (n + m + 1), 0.01)
    return (share - was) / math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m)) if pooled < 1 else None


def _change(hours: Hours, today: Sequence[float], group: GroupKey, figure: Figure) -> Change:
    value = _value_of(figure)
    cells = [(begin, hours.get(begin, {}).get(group)) for begin in today]
    earlier = [hours.get(begin - HOUR_S * HOURS, {}).get(group) for begin in today]
    course = [(begin, value(cell), value(old)) for (begin, cell), old in zip(cells, earlier, strict=True)]
    weights = [0.0 if cell is None else _weight(figure, cell) for _, cell in cells]
    return Change(group, figure, _since(course, weights, figure.before or 0.0), course)


def _value_of(figure: Figure) -> Callable[[HourSums | None], float | None]:
    def value(cell: HourSums | None) -> float | None:
        if cell is None:
            return None
        if figure.measure == "score":
            return cell.scores.get(figure.scorer, WeightedSums()).mean
        if figure.measure == "p95":
            return cell.quantile(0.95)
        return (cell.errors if figure.measure == "errors" else cell.cost).mean

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
    description = f"{title}: {_spoken(change.figure.before)} before, {_spoken(change.figure.now)} now."

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

    variants = (Variant("wide", WIDE, draw(WIDE)), Variant("narrow", NARROW, draw(NARROW)))
    return Chart(id, title, description, height, variants)


def _line(x: Scale, y: Scale, values: Sequence[float | None], look: str) -> list[Shape]:
    points = [(x(i), y(v)) for i, v in enumerate(values) if v is not None]
    if not points:
        return []
    if len(points) == 1:
        return [shape("circle", cx=points[0][0], cy=points[0][1], r=3.0, look="dot")]
    return [shape("path", d="M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points), look=look)]


def _spoken(value: float | None) -> str:
    return "no value" if value is None else f"{value:.3g}"
