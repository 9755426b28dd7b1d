"""A difference and its interval as pairs came, against the margin. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gateway.evals.experiments import wording as say
from gateway.evals.experiments.report import Estimate, IntervalTrail
from gateway.evals.reports.experiment.html.markup import Markup, joined, tag
from gateway.evals.reports.experiment.html.plot import WIDE, Chart, Frame, Scale, label, line, path, ticks

MOST_POINTS = 240
_SETTLED = 0.1  # before this share of the pairs the interval may leave the drawing
_BETWEEN_LABELS = 15
Point = tuple[int, float, float, float]
KEY = (
    "Line: the difference so far; above zero the candidate is better. Band: its interval, which holds at every look. "
    "Shaded: smaller than the margin."
)


@dataclass(frozen=True, slots=True)
class Course:
    """A trail to draw. id: of the page, once. margin: None, there is none. small: beside others."""

    id: str
    trail: IntervalTrail
    title: str
    margin: float | None
    small: bool = False

    def figure(self, *caption: Markup | str) -> Markup | None:
        """None: nothing to draw yet."""
        points = tuple(p for p in self.trail.points if not any(math.isnan(v) for v in p))
        if not points:
            return None
        height = 230 if self.small else 320
        drawing = _Drawing(tuple(say.thinned(points, MOST_POINTS)), self.margin, height)
        says = _says(points[-1], self)
        return Chart(self.id, self.title, says, height, drawing.drawn, self.small).figure(*caption)


def _says(last: Point, course: Course) -> str:
    n, value, low, high = last
    places = _places(last)
    now = say.interval(Estimate(value, low, high), places)
    against = f"; the margin is {course.margin:g}" if course.margin else ""
    return f"After {say.count(n)} pairs: {say.number(value, places, signed=True)}, interval {now}{against}."


def _places(point: Point) -> int:
    _, value, low, high = point
    return say.digits((high - low) / 2 if math.isfinite(high - low) else value)


@dataclass(frozen=True, slots=True)
class _Drawing:
    points: tuple[Point, ...]
    margin: float | None
    height: int

    def drawn(self, width: int) -> Markup:
        reach, most = self._reach, max(1, self.points[-1][0])
        x = Scale(0, most, 58, width - (82 if width == WIDE else 70))
        y = Scale(-reach, reach, self.height - 52, 14)
        places = say.digits(self.margin or reach / 2)
        of_y = tuple((v, say.number(v, places, signed=True)) for v in ticks(-reach, reach, 5))
        of_x = tuple((v, say.count(v)) for v in ticks(0, most, 6 if width == WIDE else 3) if v == int(v))
        axes = Frame(x, y, of_x, of_y, "pairs").drawn()
        return joined(self._zone(x, y), axes, line(x.start, y(0), x.end, y(0), "zero"), self._line(x, y))

    @property
    def _reach(self) -> float:
        """The largest |y| that is drawn: all that is settled, the margin, and some air."""
        settled = [p for p in self.points if p[0] >= _SETTLED * self.points[-1][0]]
        sizes = [abs(v) for p in settled for v in p[1:] if math.isfinite(v)]
        return 1.12 * max([*sizes, 1.5 * (self.margin or 0)], default=0) or 1.0

    def _zone(self, x: Scale, y: Scale) -> Markup | None:
        """From −margin to +margin: differences too small to matter."""
        if not self.margin:
            return None
        top, bottom = y(self.margin), y(-self.margin)
        return joined(
            tag("rect", x=x.start, y=top, width=x.end - x.start, height=bottom - top, class_="zone"),
            line(x.start, top, x.end, top, "edge"),
            line(x.start, bottom, x.end, bottom, "margin"),
        )

    def _line(self, x: Scale, y: Scale) -> Markup:
        above = [(x(n), y(high)) for n, _, _, high in self.points]
        below = [(x(n), y(low)) for n, _, low, _ in reversed(self.points)]
        n, value, low, high = self.points[-1]
        return joined(
            tag("path", d=path([*above, *below], closed=True), class_="band"),
            tag("path", d=path((x(n), y(value)) for n, value, _, _ in self.points), class_="trail"),
            line(x(n), y(low), x(n), y(high), "whisker"),
            tag("circle", cx=x(n), cy=y(value), r=4, class_="dot"),
            self._ends(x.end + 9, y),
        )

    def _ends(self, x: float, y: Scale) -> Markup:
        """Where the line and its band stand now, in numbers that do not touch."""
        _, value, low, high = self.points[-1]
        places = _places(self.points[-1])
        at = y(value)
        rows = (
            (min(y(high), at - _BETWEEN_LABELS), high, "bound"),
            (at, value, "value"),
            (max(y(low), at + _BETWEEN_LABELS), low, "bound"),
        )
        return joined(label(x, row + 4, say.number(v, places, signed=True), "start", name) for row, v, name in rows)
