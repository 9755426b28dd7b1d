"""What every chart is drawn with: scales, ticks, paths, and one figure in two widths. Pure; SVG as Markup.

An SVG's text shrinks with it. So a chart is drawn twice, for wide and for narrow screens; the style sheet shows one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gateway.evals.reports.experiment.html.markup import Child, Markup, joined, tag

WIDE, NARROW = 960, 360
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to pixels, in a straight line. What lies outside [low, high] is drawn at its edge."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        return self.start + (inside - self.low) / (self.high - self.low) * (self.end - self.start)


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) within [low, high], about so many. Needs low < high."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next((m for m in (1, 2, 5) if m * power >= rough * 0.9), 10)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, math.floor(high / step + 1e-9) + 1)]


def path(points: Iterable[Point], *, closed: bool = False) -> str:
    """The d of a line through the points."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + ("Z" if closed else "")


def label(x: float, y: float, text: str, anchor: str = "middle", class_: str | None = None) -> Markup:
    return tag("text", text, x=x, y=y, text_anchor=anchor, class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


@dataclass(frozen=True, slots=True)
class Chart:
    """id: of the page, once. title, says: for who cannot see it. draw: the content at a width. small: always narrow."""

    id: str
    title: str
    says: str
    height: int
    draw: Callable[[int], Child]
    small: bool = False

    def figure(self, *caption: Child) -> Markup:
        wanted = [(NARROW, "small")] if self.small else [(WIDE, "wide"), (NARROW, "narrow")]
        return tag("figure", (self._svg(*each) for each in wanted), tag("figcaption", *caption) if caption else None)

    def _svg(self, width: int, name: str) -> Markup:
        title, says = f"{self.id}-{name}-title", f"{self.id}-{name}-desc"
        return tag(
            "svg", tag("title", self.title, id=title), tag("desc", self.says, id=says), self.draw(width),
            class_=name, role="img", viewBox=f"0 0 {width} {self.height}", aria_labelledby=f"{title} {says}",
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Frame:
    """The axes of a chart: x below, y to the left, with a light line at each tick of y."""

    x: Scale
    y: Scale
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    x_title: str

    def drawn(self) -> Markup:
        x, y = self.x, self.y
        across = (line(x.start, y(v), x.end, y(v), "grid") for v, _ in self.y_ticks)
        names = (label(x.start - 8, y(v) + 4, text, "end") for v, text in self.y_ticks)
        below = (label(x(v), y.start + 20, text) for v, text in self.x_ticks)
        title = label((x.start + x.end) / 2, y.start + 40, self.x_title, class_="axis-title")
        return joined(across, names, line(x.start, y.start, x.end, y.start, "axis"), below, title)
