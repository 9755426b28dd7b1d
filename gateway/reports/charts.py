"""The drawings of the HTML reports, as shapes with their coordinates. `templates/chart.html.jinja` turns them into SVG.

Pure: nothing here builds markup, and every attribute and text is escaped by the template. An SVG's text shrinks with
the drawing, so a chart exists in a wide and a narrow variant, and the style sheet shows one of them.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway.reports import number_format as say
from gateway.reports.model import ArmLatency, Estimate, IntervalTrail, LikelihoodBin

WIDE, NARROW = 960, 360
CELL_WIDTH, FOREST_WIDTH = 140, 480  # of a bar in a column of its own, and of one that fills half of the page
CURVE_POINTS = 200
TRAIL_POINTS = 240
_BAR_HEIGHT, _BAR_MIDDLE = 26, 13
_LARGEST = 1e300  # larger values and NaN do not set a scale
_SETTLED = 0.1  # an interval from before this share of the pairs may leave the drawing
_LABEL_SPACING = 15
_SLOWEST_SHOWN = 0.99  # the slowest 1 % of the answers would compress the rest of the curve
_CURVE_HEIGHT = 300

Point = tuple[float, float]
TrailPoint = tuple[int, float, float, float]


@dataclass(frozen=True, slots=True)
class Shape:
    """An SVG element."""

    name: str
    attributes: Mapping[str, str]
    text: str = ""


@dataclass(frozen=True, slots=True)
class Drawing:
    """An SVG inside a table cell or a line. It repeats the numbers next to it, so screen readers skip it."""

    look: str
    """The CSS class."""
    width: int
    height: int
    shapes: tuple[Shape, ...]
    stretched: bool = False
    """The drawing fills the width of the page and keeps its height."""


@dataclass(frozen=True, slots=True)
class HoverPoint:
    """A text that is shown while a pointer is near a place of a chart, where a script may run."""

    x: float
    text: str


@dataclass(frozen=True, slots=True)
class Variant:
    """A chart at one width. look: the CSS class; "wide" and "narrow" are shown in turn, "small" always."""

    look: str
    width: int
    shapes: tuple[Shape, ...]
    hover: tuple[HoverPoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    id: str
    """Unique on the page."""
    title: str
    description: str
    """Description of the chart for readers who cannot see it."""
    height: int
    variants: tuple[Variant, ...]


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear map from values to pixels. A value outside [low, high] is drawn at the edge."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        return self.start + (inside - self.low) / (self.high - self.low) * (self.end - self.start)


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) within [low, high], `about` as many as asked for; low alone where
    they lie closer together than floats can tell. Requires low < high.
    """
    rough = (high - low) / about
    if rough < sys.float_info.min:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next((m for m in (1, 2, 5) if m * power >= rough * 0.9), 10)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, math.floor(high / step + 1e-9) + 1)]


def shape(name: str, text: str = "", /, **attributes: str | float) -> Shape:
    """Attribute names are written with underscores for hyphens and `look` for `class`; numbers keep two decimals."""
    names = {key: "class" if key == "look" else key.replace("_", "-") for key in attributes}
    return Shape(name, {names[key]: _value(value) for key, value in attributes.items()}, text)


def _value(value: str | float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def line(x1: float, y1: float, x2: float, y2: float, look: str) -> Shape:
    return shape("line", x1=x1, y1=y1, x2=x2, y2=y2, look=look)


def _label(x: float, y: float, text: str, anchor: str = "middle", look: str = "") -> Shape:
    classes = {"look": look} if look else {}
    return shape("text", text, x=x, y=y, text_anchor=anchor, **classes)


def path(points: Iterable[Point], look: str, *, closed: bool = False) -> Shape:
    """A line through points."""
    d = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + ("Z" if closed else "")
    return shape("path", d=d, look=look)


# Bars in table cells.


def extent(estimates: Sequence[Estimate], margin: float | None) -> float:
    """The |value| at the ends of a row of interval bars: the widest interval, but at most 3.2 margins."""
    sizes = [abs(v) for e in estimates for v in (e.value, e.low, e.high) if v is not None and abs(v) < _LARGEST]
    largest = 1.1 * max(sizes, default=0) or 1.0
    return min(largest, 3.2 * margin) if margin and largest > 3.2 * margin else max(largest, 1.6 * (margin or 0))


@dataclass(frozen=True, slots=True)
class IntervalScale:
    """The scale of interval bars that are to be compared with each other."""

    extent: float
    margin: float | None
    width: int = CELL_WIDTH


def interval_bar(e: Estimate, scale: IntervalScale, tone: str) -> Drawing | None:
    """An interval around zero with the margin shaded, and an arrow where it leaves the drawing. None if there is no
    value yet.
    """
    if e.value is None or math.isnan(e.value):
        return None
    to, margin = scale.extent, scale.margin
    x = Scale(-to, to, 6, scale.width - 6)
    low, high = (v if v is not None and not math.isnan(v) else e.value for v in (e.low, e.high))
    drawn = [
        *(_margin_zone(x, margin) if margin else ()),
        line(x(0), 0, x(0), _BAR_HEIGHT, "zero"),
        line(x(low), _BAR_MIDDLE, x(high), _BAR_MIDDLE, f"whisker {tone}"),
    ]
    if low < -to:
        drawn.append(_arrow(x(-to), -1, tone))
    if high > to:
        drawn.append(_arrow(x(to), 1, tone))
    if abs(e.value) <= to:
        drawn.append(shape("circle", cx=x(e.value), cy=_BAR_MIDDLE, r=4.5, look=f"dot {tone}"))
    return Drawing("bar", scale.width, _BAR_HEIGHT, tuple(drawn))


def _margin_zone(x: Scale, margin: float) -> tuple[Shape, Shape]:
    zone = shape("rect", x=x(-margin), y=0, width=x(margin) - x(-margin), height=_BAR_HEIGHT, look="zone")
    return zone, line(x(-margin), 0, x(-margin), _BAR_HEIGHT, "margin")


def _arrow(x: float, direction: int, tone: str) -> Shape:
    tip, back = x + 5 * direction, x - 3 * direction
    points = ((tip, _BAR_MIDDLE), (back, _BAR_MIDDLE - 5), (back, _BAR_MIDDLE + 5))
    return path(points, f"arrow {tone}", closed=True)


def interval_text(e: Estimate, scale: IntervalScale, cells: int = 33) -> str:
    """The bar of interval_bar in characters: ● the value, ─ its interval, ┆ the margin, │ zero; "" without a value."""
    if e.value is None or math.isnan(e.value):
        return ""
    x = Scale(-scale.extent, scale.extent, 0, cells - 1)
    low, high = (v if v is not None and not math.isnan(v) else e.value for v in (e.low, e.high))
    drawn = ["·"] * cells
    drawn[round(x(0))] = "│"
    if scale.margin:
        drawn[round(x(-scale.margin))] = "┆"
    first, last = round(x(low)), round(x(high))
    drawn[first : last + 1] = ["─"] * (last + 1 - first)
    drawn[0] = "◀" if low < -scale.extent else drawn[0]
    drawn[-1] = "▶" if high > scale.extent else drawn[-1]
    drawn[round(x(e.value))] = "●"
    return "".join(drawn)


def amount_bar(e: Estimate, most: float, look: str) -> Drawing | None:
    """A bar from zero to the value, with the interval if there is one. most: the value that fills the cell."""
    if e.value is None or not math.isfinite(e.value) or most <= 0:
        return None
    x = Scale(0, most, 2, CELL_WIDTH - 6)
    drawn = [shape("rect", x=2, y=6, width=x(e.value) - 2, height=14, rx=2, look=f"amount {look}")]
    if e.low is not None and e.high is not None and e.low < e.high:
        drawn.append(line(x(e.low), _BAR_MIDDLE, x(e.high), _BAR_MIDDLE, "whisker"))
    return Drawing("bar", CELL_WIDTH, _BAR_HEIGHT, tuple(drawn))


def price_bar(so_far: int, to_go: int | None, most: int) -> Drawing | None:
    """Pairs so far, and those still to go, in one bar. most: the pairs that fill the cell.

    to_go: None: unknown, so that nothing is drawn.
    """
    if to_go is None or most <= 0:
        return None
    x = Scale(0, most, 2, CELL_WIDTH - 6)
    paid, total = x(so_far), x(so_far + to_go)
    drawn = (
        shape("rect", x=2, y=6, width=max(0.0, paid - 2), height=14, look="paid"),
        shape("rect", x=paid, y=6, width=max(0.0, total - paid), height=14, look="to-go"),
    )
    return Drawing("bar price", CELL_WIDTH, _BAR_HEIGHT, drawn)


def share_bar(counts: Sequence[tuple[int, str]]) -> Drawing:
    """Counts side by side, as wide as the page. counts: the number, and its CSS class."""
    total, at, drawn = sum(n for n, _ in counts) or 1, 0.0, []
    for n, look in counts:
        width = 1000 * n / total
        if n:
            drawn.append(shape("rect", x=at, y=0.5, width=width, height=33, look=look))
        at += width
    return Drawing("parts", 1000, 34, tuple(drawn), stretched=True)


def line_key(look: str) -> Drawing:
    """A short piece of a curve, as the key of its arm."""
    return Drawing("key", 28, 10, (line(0, 5, 28, 5, f"key {look}"),))


# Charts with axes.


def variants_of(
    draw: Callable[[int], Iterable[Shape]],
    *,
    small: bool = False,
    hover: Callable[[int], tuple[HoverPoint, ...]] = lambda width: (),
) -> tuple[Variant, ...]:
    """Draws a chart for each width. small: at one width only. hover: returns the values at a width."""
    sizes = [("small", NARROW)] if small else [("wide", WIDE), ("narrow", NARROW)]
    return tuple(Variant(look, width, tuple(draw(width)), hover(width)) for look, width in sizes)


@dataclass(frozen=True, slots=True)
class Axes:
    """The x axis at the bottom and the y axis on the left, with a light line at each tick (value, label) of y."""

    x: Scale
    y: Scale
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    x_title: str

    def shapes(self) -> list[Shape]:
        x, y = self.x, self.y
        return [
            *(line(x.start, y(v), x.end, y(v), "grid") for v, _ in self.y_ticks),
            *(_label(x.start - 8, y(v) + 4, text, "end") for v, text in self.y_ticks),
            line(x.start, y.start, x.end, y.start, "axis"),
            *(_label(x(v), y.start + 20, text) for v, text in self.x_ticks),
            _label((x.start + x.end) / 2, y.start + 40, self.x_title, look="axis-title"),
        ]


@dataclass(frozen=True, slots=True)
class Trail:
    """The course of one metric's difference, to be drawn."""

    id: str
    trail: IntervalTrail
    title: str
    margin: float | None
    small: bool = False
    final: Estimate | None = None
    """The difference with the interval that decides, which ends the chart: that of the last look, or of one look at the
    end, is narrower than the band. None: the last point."""


def trail_chart(trail: Trail) -> Chart | None:
    """The course of a difference and its interval, against the margin. None if there is no point yet."""
    points = tuple(p for p in trail.trail.points if not any(math.isnan(v) for v in p))
    if not points:
        return None
    height = 230 if trail.small else 320
    last = _last_point(points[-1], trail.final)
    drawing = _TrailDrawing(tuple(say.thinned(points, TRAIL_POINTS)), last, trail.margin, height)
    description = _trail_description(last, trail.margin)
    return Chart(trail.id, trail.title, description, height, variants_of(drawing.shapes, small=trail.small))


def _last_point(last: TrailPoint, final: Estimate | None) -> TrailPoint:
    if final is None or final.value is None or math.isnan(final.value):
        return last
    low, high = -math.inf if final.low is None else final.low, math.inf if final.high is None else final.high
    return last if math.isnan(low) or math.isnan(high) else (last[0], final.value, low, high)


def _trail_description(last: TrailPoint, margin: float | None) -> str:
    n, value, low, high = last
    places = _trail_digits(last)
    interval = say.interval(Estimate(value, low, high), places)
    against = f"; the margin is {margin:g}" if margin else ""
    return f"After {say.count(n)} pairs: {say.number(value, places, signed=True)}, interval {interval}{against}."


def _trail_digits(point: TrailPoint) -> int:
    _, value, low, high = point
    return say.digits((high - low) / 2 if math.isfinite(high - low) else value)


@dataclass(frozen=True, slots=True)
class _TrailDrawing:
    points: tuple[TrailPoint, ...]
    last: TrailPoint
    """Last point, with the interval that decides."""
    margin: float | None
    height: int

    def shapes(self, width: int) -> list[Shape]:
        extent, most = self._extent(), max(1, self.points[-1][0])
        x = Scale(0, most, 58, width - (82 if width == WIDE else 70))
        y = Scale(-extent, extent, self.height - 52, 14)
        places = say.digits(self.margin or extent / 2)
        y_ticks = tuple((v, say.number(v, places, signed=True)) for v in ticks(-extent, extent, 5))
        x_ticks = tuple((v, say.count(v)) for v in ticks(0, most, 6 if width == WIDE else 3) if v == int(v))
        axes = Axes(x, y, x_ticks, y_ticks, "pairs").shapes()
        zero = line(x.start, y(0), x.end, y(0), "zero")
        return [*self._margin_zone(x, y), *axes, zero, *self._course(x, y), *self._last_values(x.end + 9, y)]

    def _extent(self) -> float:
        """The largest |y| of the drawing: everything after the start, the margin, and some padding."""
        settled = [p for p in self.points if p[0] >= _SETTLED * self.points[-1][0]]
        sizes = [abs(v) for p in settled for v in p[1:] if math.isfinite(v)]
        return 1.12 * max([*sizes, 1.5 * (self.margin or 0)], default=0) or 1.0

    def _margin_zone(self, x: Scale, y: Scale) -> list[Shape]:
        """The area from -margin to +margin: differences too small to matter."""
        if not self.margin:
            return []
        top, bottom = y(self.margin), y(-self.margin)
        return [
            shape("rect", x=x.start, y=top, width=x.end - x.start, height=bottom - top, look="zone"),
            line(x.start, top, x.end, top, "edge"),
            line(x.start, bottom, x.end, bottom, "margin"),
        ]

    def _course(self, x: Scale, y: Scale) -> list[Shape]:
        upper = [(x(n), y(high)) for n, _, _, high in self.points]
        lower = [(x(n), y(low)) for n, _, low, _ in reversed(self.points)]
        n, value, low, high = self.last
        return [
            path([*upper, *lower], "band", closed=True),
            path(((x(n), y(value)) for n, value, _, _ in self.points), "trail"),
            line(x(n), y(low), x(n), y(high), "whisker"),
            shape("circle", cx=x(n), cy=y(value), r=4, look="dot"),
        ]

    def _last_values(self, x: float, y: Scale) -> list[Shape]:
        """The value and its bounds as numbers at the end of the line, far enough apart to be read."""
        _, value, low, high = self.last
        places = _trail_digits(self.last)
        at = y(value)
        rows = (
            (min(y(high), at - _LABEL_SPACING), high, "bound"),
            (at, value, "value"),
            (max(y(low), at + _LABEL_SPACING), low, "bound"),
        )
        return [_label(x, row + 4, say.number(v, places, signed=True), "start", look) for row, v, look in rows]


@dataclass(frozen=True, slots=True)
class LatencyCurves:
    """The curves of one latency measure, one for each arm."""

    id: str
    title: str
    arms: Sequence[ArmLatency]
    looks: Mapping[str, str]
    """The CSS class of each arm's colour, by arm."""


def latency_chart(curves: LatencyCurves) -> Chart | None:
    """Draws the share of answers that had arrived by each second, by arm. None if no arm has a curve yet."""
    if not any(_finite_curve(arm) for arm in curves.arms):
        return None
    quantiles = (f"{a.arm}: half by {_seconds(a.p50.value)}, 95 % by {_seconds(a.p95.value)}" for a in curves.arms)
    variants = variants_of(lambda width: _latency_shapes(curves, width))
    return Chart(curves.id, curves.title, "; ".join(quantiles), _CURVE_HEIGHT, variants)


def _latency_shapes(curves: LatencyCurves, width: int) -> list[Shape]:
    longest = max(map(_longest_shown, curves.arms))
    x = Scale(0, longest, 58, width - 18)
    y = Scale(0, 1, _CURVE_HEIGHT - 52, 14)
    places = say.digits(longest / 2)
    x_ticks = tuple((v, say.number(v, places)) for v in ticks(0, longest, 8 if width == WIDE else 4))
    y_ticks = tuple((v, f"{v:.0%}") for v in (0.0, 0.25, 0.5, 0.75, 1.0))
    return [
        *Axes(x, y, x_ticks, y_ticks, "seconds").shapes(),
        *(line(x.start, y(v), x.end, y(v), "quantile") for v in (0.5, 0.95)),
        *(s for arm in curves.arms for s in _arm_curve(arm, curves.looks.get(arm.arm, "other"), x, y)),
    ]


def _arm_curve(arm: ArmLatency, look: str, x: Scale, y: Scale) -> list[Shape]:
    look = look if arm.comparable else f"{look} apart"
    curve = _finite_curve(arm)
    drawn = [path(_steps(curve, x, y), f"curve {look}")] if curve else []
    for seconds, quantile in ((arm.p50.value, 0.5), (arm.p95.value, 0.95)):
        if seconds is not None:
            drawn.append(shape("circle", cx=x(seconds), cy=y(quantile), r=3.5, look=f"mark {look}"))
    return drawn


def _finite_curve(arm: ArmLatency) -> Sequence[Point]:
    return say.thinned([p for p in arm.curve if all(map(math.isfinite, p))], CURVE_POINTS)


def _longest_shown(arm: ArmLatency) -> float:
    """The time in seconds by which 99 of 100 answers had arrived, with some air."""
    curve = _finite_curve(arm)
    until = next((s for s, share in curve if share >= _SLOWEST_SHOWN), curve[-1][0] if curve else 0)
    return 1.05 * max(until, arm.p95.value or 0) or 1.0


def _steps(curve: Sequence[Point], x: Scale, y: Scale) -> list[Point]:
    """A share stays as it is until the next answer arrives."""
    drawn, before = [(x(0), y(0))], 0.0
    for seconds, share in curve:
        drawn += [(x(seconds), y(before)), (x(seconds), y(share))]
        before = share
    return drawn


def _seconds(seconds: float | None) -> str:
    return f"{say.number(seconds, say.digits(seconds))} s"


@dataclass(frozen=True, slots=True)
class LikelihoodBars:
    """Number of calls by difference, to be drawn."""

    id: str
    title: str
    bins: Sequence[LikelihoodBin]
    margin: float | None


def likelihood_chart(bars: LikelihoodBars) -> Chart | None:
    """The distribution of calls over differences, with the control against itself as outlines. None: no call yet."""
    if not bars.bins:
        return None
    calls, noise = sum(b.calls for b in bars.bins), sum(b.noise for b in bars.bins)
    most = max(bars.bins, key=lambda b: b.calls)
    places = say.digits(most.high - most.low)
    description = (
        f"{say.counted(calls, 'call')}; most of them between {say.number(most.low, places, signed=True)} and "
        f"{say.number(most.high, places, signed=True)} nats per token. "
        f"The control against itself: {say.counted(noise, 'call')}."
    )
    variants = variants_of(lambda width: _likelihood_shapes(bars, width))
    return Chart(bars.id, bars.title, description, _CURVE_HEIGHT, variants)


def _likelihood_shapes(bars: LikelihoodBars, width: int) -> list[Shape]:
    first, last = bars.bins[0], bars.bins[-1]
    calls, noise = (sum(counts) or 1 for counts in zip(*((b.calls, b.noise) for b in bars.bins), strict=True))
    highest = max(max(b.calls / calls, b.noise / noise) for b in bars.bins) or 1.0
    x = Scale(first.low, last.high, 58, width - 18)
    y = Scale(0, 1.05 * highest, _CURVE_HEIGHT - 52, 14)
    places = say.digits((last.high - first.low) / 4)
    x_ticks = tuple(
        (v, say.number(v, places, signed=True)) for v in ticks(first.low, last.high, 8 if width == WIDE else 4)
    )
    y_ticks = tuple((v, say.share(v)) for v in ticks(0, highest, 4))
    drawn = Axes(x, y, x_ticks, y_ticks, "nats per token, candidate minus control").shapes()
    for b in bars.bins:
        left, wide = x(b.low) + 1, x(b.high) - x(b.low) - 2
        for share, look in ((b.calls / calls, "bin candidate"), (b.noise / noise, "bin repeat")):
            if share:
                drawn.append(shape("rect", x=left, y=y(share), width=wide, height=y(0) - y(share), look=look))
    edges = [(0.0, "zero"), *([(bars.margin, "margin")] if bars.margin else [])]
    drawn += [line(x(v), y.start, x(v), y.end, look) for v, look in edges if first.low <= v <= last.high]
    return drawn
