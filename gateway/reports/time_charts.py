"""Charts over time: a line with a band and marks, and the share of a ramp in steps. Pure, like charts.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.reports.charts import (
    WIDE,
    Axes,
    Chart,
    HoverPoint,
    Point,
    Scale,
    Shape,
    line,
    path,
    shape,
    ticks,
    variants_of,
)
from gateway.reports.model import Estimate

_HEIGHT, _RAMP_HEIGHT = 190, 230
_FLAG_ROWS = 3  # flags of marks that are close to each other stand in as many rows
_FLAG_WIDTH = 16
HALF_DAY_S = 43_200.0

Say = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class TimePoint:
    """A value at a time, in Unix seconds, with the band of usual values. None if not known."""

    at: float
    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class TimeMark:
    """A vertical line, such as a deploy. number: on its flag, and in the list of marks below the charts."""

    at: float
    number: int
    text: str


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """A change that lasts. tone: good or bad. now: the value now with its interval; None: of another series."""

    since: float
    tone: str
    text: str
    now: Estimate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSeries:
    """A line over time, to be drawn. The last point is of a time that is not over, and is set apart."""

    id: str
    title: str
    points: Sequence[TimePoint]
    say: Say
    """A value in its unit."""
    clock: Say
    """A time on the axis."""
    marks: Sequence[TimeMark] = ()
    spans: Sequence[TimeSpan] = ()
    from_zero: bool = True
    small: bool = True


def time_chart(of: TimeSeries) -> Chart | None:
    """A line with its band, marks and changes. None if it has no value."""
    known = [point for point in of.points if point.value is not None]
    if not known:
        return None
    drawing = _SeriesDrawing(of)
    variants = variants_of(drawing.shapes, small=of.small, hover=drawing.hover)
    return Chart(of.id, of.title, _described(of, known), _HEIGHT, variants)


def _described(of: TimeSeries, known: Sequence[TimePoint]) -> str:
    values = [point.value for point in known if point.value is not None]
    spans = "".join(f" Since {of.clock(span.since)}: {span.text}." for span in of.spans)
    return (
        f"From {of.say(min(values))} to {of.say(max(values))}, last {of.say(values[-1])}, "
        f"{len(known)} of {len(of.points)} hours known.{spans}"
    )


@dataclass(frozen=True, slots=True)
class _SeriesDrawing:
    of: TimeSeries

    def _x(self, width: int) -> Scale:
        points = self.of.points
        step = points[1].at - points[0].at if len(points) > 1 else 1.0
        return Scale(points[0].at, points[-1].at + step / 2, 62, width - 14)

    def _y(self) -> Scale:
        ends = [v for p in self.of.points for v in (p.value, p.low, p.high) if v is not None and math.isfinite(v)]
        low, high = min(ends), max(ends)
        low = min(0.0, low) if self.of.from_zero else low
        pad = (high - low) * 0.08 or abs(high) * 0.1 or 0.1
        return Scale(low if self.of.from_zero else low - pad, high + pad, _HEIGHT - 30, 14)

    def shapes(self, width: int) -> Iterator[Shape]:
        x, y, of = self._x(width), self._y(), self.of
        y_ticks = tuple((v, of.say(v)) for v in ticks(y.low, y.high, 3))
        yield from _spans(of, x, y)
        yield from Axes(x, y, tuple(_days(of, x, width)), y_ticks, "").shapes()[:-1]
        yield from _bands(of.points, x, y)
        yield from _marks(of.marks, x, y)
        yield from _lines(of.points, x, y)

    def hover(self, width: int) -> tuple[HoverPoint, ...]:
        x, of = self._x(width), self.of
        return tuple(
            HoverPoint(x(point.at), f"{of.clock(point.at)}: {of.say(point.value)}")
            for point in of.points
            if point.value is not None
        )


def _days(of: TimeSeries, x: Scale, width: int) -> Iterator[tuple[float, str]]:
    """The ticks at noon and midnight; a narrow chart has every second one."""
    first = math.ceil(x.low / HALF_DAY_S)
    for i in range(first, math.floor(x.high / HALF_DAY_S) + 1):
        if i % 2 == 0 or width == WIDE:
            yield i * HALF_DAY_S, of.clock(i * HALF_DAY_S)


def _spans(of: TimeSeries, x: Scale, y: Scale) -> Iterator[Shape]:
    for span in of.spans:
        start = x(span.since)
        yield shape("rect", x=start, y=y.end, width=x.end - start, height=y.start - y.end, look=f"changed {span.tone}")
        if span.now is not None:
            yield from _value_now(span.now, span.tone, x, y)


def _value_now(now: Estimate, tone: str, x: Scale, y: Scale) -> Iterator[Shape]:
    if now.value is not None and now.low is not None and now.high is not None:
        yield line(x.end, y(now.low), x.end, y(now.high), f"whisker {tone}")
        yield shape("circle", cx=x.end, cy=y(now.value), r=3.5, look=f"dot {tone}")


def _bands(points: Sequence[TimePoint], x: Scale, y: Scale) -> Iterator[Shape]:
    for run in _runs([p if p.low is not None and p.high is not None else None for p in points]):
        upper = [(x(p.at), y(p.high or 0.0)) for p in run]
        lower = [(x(p.at), y(p.low or 0.0)) for p in reversed(run)]
        if len(run) > 1:
            yield path([*upper, *lower], "usual", closed=True)


def _lines(points: Sequence[TimePoint], x: Scale, y: Scale) -> Iterator[Shape]:
    for run in _runs([p if p.value is not None else None for p in points[:-1]]):
        drawn: list[Point] = [(x(p.at), y(p.value or 0.0)) for p in run]
        if len(drawn) == 1:
            yield shape("circle", cx=drawn[0][0], cy=drawn[0][1], r=2.5, look="dot")
        else:
            yield path(drawn, "trail")
    last = points[-1]
    if last.value is not None:
        yield shape("circle", cx=x(last.at), cy=y(last.value), r=3.5, look="so-far")


def _runs(points: Sequence[TimePoint | None]) -> Iterator[list[TimePoint]]:
    """The runs of points without a gap."""
    run: list[TimePoint] = []
    for point in (*points, None):
        if point is not None:
            run.append(point)
        elif run:
            yield run
            run = []


def _marks(marks: Sequence[TimeMark], x: Scale, y: Scale) -> Iterator[Shape]:
    """Vertical lines with a numbered flag; flags that would cover each other are placed below each other."""
    ends = [-math.inf] * _FLAG_ROWS
    for mark in marks:
        at = x(mark.at)
        row = next((i for i, end in enumerate(ends) if at - end > _FLAG_WIDTH), _FLAG_ROWS - 1)
        ends[row] = at
        yield line(at, y.end, at, y.start, "event")
        yield shape("text", str(mark.number), x=at + 3, y=y.end + 10 + 12 * row, text_anchor="start", look="flag")


@dataclass(frozen=True, slots=True)
class DayBars:
    """An amount by day, to be drawn."""

    id: str
    title: str
    days: Sequence[tuple[str, float]]
    """Pairs of a day as YYYY-MM-DD and its amount."""
    say: Say


def day_chart(of: DayBars) -> Chart | None:
    """Bars from zero. None if every amount is zero."""
    most = max((amount for _, amount in of.days), default=0.0)
    if most <= 0:
        return None
    costliest = next(day for day, amount in of.days if amount == most)
    description = f"{len(of.days)} days; the most on {costliest}: {of.say(most)}."
    variants = variants_of(lambda width: _bars(of, most, width), hover=_bar_values(of))
    return Chart(of.id, of.title, description, _HEIGHT, variants)


def _bars(of: DayBars, most: float, width: int) -> Iterator[Shape]:
    x = Scale(0.0, float(len(of.days)), 62, width - 14)
    y = Scale(0.0, most * 1.08, _HEIGHT - 30, 14)
    step = 7 if width != WIDE or len(of.days) > 14 else 1
    x_ticks = tuple((i + 0.5, day[5:]) for i, (day, _) in enumerate(of.days) if i % step == 0)
    yield from Axes(x, y, x_ticks, tuple((v, of.say(v)) for v in ticks(0.0, y.high, 4)), "").shapes()[:-1]
    for i, (_, amount) in enumerate(of.days):
        begin, end = x(i + 0.15), x(i + 0.85)
        yield shape("rect", x=begin, y=y(amount), width=end - begin, height=y.start - y(amount), look="amount")


def _bar_values(of: DayBars) -> Callable[[int], tuple[HoverPoint, ...]]:
    def hover(width: int) -> tuple[HoverPoint, ...]:
        x = Scale(0.0, float(len(of.days)), 62, width - 14)
        return tuple(HoverPoint(x(i + 0.5), f"{day}: {of.say(amount)}") for i, (day, amount) in enumerate(of.days))

    return hover


def short_time(at: float) -> str:
    """A time on the axis of weeks, in UTC: "26 Nov 09:31"."""
    return f"{datetime.fromtimestamp(at, UTC):%d %b %H:%M}"


@dataclass(frozen=True, slots=True)
class RampStep:
    """A change of the share that the candidate serves. tone: good, open or bad; "": an ordinary step."""

    at: float
    share: float
    tone: str
    text: str


_RAMP_TONES = {"rolled_back": "bad", "overridden": "open", "paused": "open", "promoted": "good"}


def ramp_tone(kind: str) -> str:
    return _RAMP_TONES.get(kind, "")


def ramp_step(at: float, share: float, kind: str) -> RampStep:
    """kind: of the change, as the audit names it."""
    return RampStep(at, share, ramp_tone(kind), kind.replace("_", " "))


@dataclass(frozen=True, slots=True)
class RampTimeline:
    """The share of traffic over time, to be drawn. until: when it is looked at, in Unix seconds."""

    id: str
    title: str
    steps: Sequence[RampStep]
    planned: Sequence[float]
    """The shares of the design's steps, drawn as lines."""
    until: float
    clock: Say


def ramp_chart(of: RampTimeline) -> Chart | None:
    """The share of traffic in steps, with a number at each change. None if there was no change yet."""
    if not of.steps:
        return None
    told = "; ".join(f"{of.clock(step.at)} {step.text}, {step.share:.0%}" for step in of.steps[-6:])
    return Chart(of.id, of.title, f"Share of the candidate: {told}.", _RAMP_HEIGHT, variants_of(lambda w: _ramp(of, w)))


def _ramp(of: RampTimeline, width: int) -> Iterator[Shape]:
    first, last = of.steps[0].at, max(of.until, of.steps[-1].at)
    x = Scale(first, last if last > first else first + 1.0, 58, width - 18)
    y = Scale(0.0, 1.0, _RAMP_HEIGHT - 30, 26)
    count = 5 if width == WIDE else 2
    times = [first + i * (x.high - first) / count for i in range(count)]
    x_ticks = tuple((at, of.clock(at)) for at in times)
    yield from Axes(x, y, x_ticks, tuple((v, f"{v:.0%}") for v in (0.0, 0.5, 1.0)), "").shapes()[:-1]
    for share in of.planned:
        yield line(x.start, y(share), x.end, y(share), "quantile")
    yield path(_stairs(of.steps, x, y), "trail")
    taken = -math.inf
    for number, step in enumerate(of.steps, 1):
        at = x(step.at)
        yield shape("circle", cx=at, cy=y(step.share), r=4.5, look=f"dot {step.tone}")
        if at - taken > _FLAG_WIDTH:
            taken = at
            yield shape("text", str(number), x=at, y=y(step.share) - 9, text_anchor="middle", look="value")


def _stairs(steps: Sequence[RampStep], x: Scale, y: Scale) -> list[Point]:
    drawn: list[Point] = []
    for step in steps:
        if drawn:
            drawn.append((x(step.at), drawn[-1][1]))
        drawn.append((x(step.at), y(step.share)))
    return [*drawn, (x.end, drawn[-1][1])]
