"""Small drawings that stand in table rows: an interval against its margin, a part of a whole, an amount. Pure.

They repeat what the row says in numbers, so they are hidden from who listens to the page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from gateway.evals.experiments.report import Estimate, State
from gateway.evals.reports.experiment.html.markup import Child, Markup, tag
from gateway.evals.reports.experiment.html.plot import Scale, line, path

NARROW, WIDE = 140, 480
_HEIGHT, _MIDDLE = 26, 13
_LARGEST = 1e300  # what is larger, or no number, sets no scale
_TONES: dict[State, str] = {1: "good", 0: "open", -1: "bad"}


def reach(estimates: Sequence[Estimate], margin: float | None) -> float:
    """A |value| that a row of intervals is drawn to: all of them, or three margins where they go further."""
    sizes = [abs(v) for e in estimates for v in (e.value, e.low, e.high) if v is not None and abs(v) < _LARGEST]
    largest = 1.1 * max(sizes, default=0) or 1.0
    return min(largest, 3.2 * margin) if margin and largest > 3.2 * margin else max(largest, 1.6 * (margin or 0))


def interval_bar(e: Estimate, margin: float | None, to: float, mood: State, width: int) -> Markup | None:
    """Around zero; the margin shaded; an arrow where it goes on. None: there is no value yet."""
    if e.value is None or math.isnan(e.value):
        return None
    x = Scale(-to, to, 6, width - 6)
    low, high = (v if v is not None and not math.isnan(v) else e.value for v in (e.low, e.high))
    zone = margin and tag("rect", x=x(-margin), y=0, width=x(margin) - x(-margin), height=_HEIGHT, class_="zone")
    return _svg(
        width,
        zone if zone else None,
        line(x(-margin), 0, x(-margin), _HEIGHT, "margin") if margin else None,
        line(x(0), 0, x(0), _HEIGHT, "zero"),
        line(x(low), _MIDDLE, x(high), _MIDDLE, f"whisker {_TONES[mood]}"),
        _arrow(x(-to), -1, mood) if low < -to else None,
        _arrow(x(to), 1, mood) if high > to else None,
        tag("circle", cx=x(e.value), cy=_MIDDLE, r=4.5, class_=f"dot {_TONES[mood]}") if abs(e.value) <= to else None,
    )


def _arrow(x: float, towards: int, mood: State) -> Markup:
    points = ((x + 5 * towards, _MIDDLE), (x - 3 * towards, _MIDDLE - 5), (x - 3 * towards, _MIDDLE + 5))
    return tag("path", d=path(points, closed=True), class_=f"arrow {_TONES[mood]}")


def amount_bar(e: Estimate, most: float, look: str) -> Markup | None:
    """From zero; with its interval where there is one."""
    if e.value is None or not math.isfinite(e.value) or most <= 0:
        return None
    x = Scale(0, most, 2, NARROW - 6)
    whisker = None
    if e.low is not None and e.high is not None and e.low < e.high:
        whisker = line(x(e.low), _MIDDLE, x(e.high), _MIDDLE, "whisker")
    return _svg(NARROW, tag("rect", x=2, y=6, width=x(e.value) - 2, height=14, rx=2, class_=f"amount {look}"), whisker)


def parts_bar(parts: Sequence[tuple[int, str]]) -> Markup:
    """Numbers side by side, as wide as the page. parts: how many, and its look."""
    total, at, drawn = sum(n for n, _ in parts) or 1, 0.0, []
    for n, look in parts:
        width = 1000 * n / total
        drawn.append(tag("rect", x=at, y=0.5, width=width, height=33, class_=look) if n else None)
        at += width
    return tag("svg", drawn, class_="parts", viewBox="0 0 1000 34", preserveAspectRatio="none", aria_hidden="true")


def _svg(width: int, *children: Child) -> Markup:
    return tag("svg", *children, class_="bar", viewBox=f"0 0 {width} {_HEIGHT}", aria_hidden="true")
