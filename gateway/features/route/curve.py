"""The curve that a route was chosen from, as a chart: share moved against quality lost, with its band. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.reports.charts import WIDE, Axes, Chart, Scale, Shape, line, path, shape, ticks, variants_of
from gateway.reports.number_format import MINUS, number

_HEIGHT = 320
_AIR = 1.12  # of the y axis beyond the largest value


def curve_chart(evidence: Mapping[str, Any]) -> Chart | None:
    """evidence: of a learned route. None if it has no point."""
    points = evidence["curve"]
    if not points:
        return None
    margin, primary = float(evidence["margin"]), str(evidence["primary"])
    highs = [margin, *(each["loss"]["high"] for each in points)]
    lows = [0.0, *(each["loss"]["low"] for each in points)]
    top, bottom = _AIR * max(highs), _AIR * min(lows)

    def draw(width: int) -> list[Shape]:
        x, y = Scale(0.0, 1.0, 70, width - 30), Scale(bottom, top, _HEIGHT - 52, 14)
        x_ticks = tuple((v, f"{v:.0%}") for v in ticks(0.0, 1.0, 10 if width == WIDE else 4))
        y_ticks = tuple((v, f"{v:+.2g}".replace("-", MINUS)) for v in ticks(bottom, top, 5))
        axes = Axes(x, y, x_ticks, y_ticks, f"share of the traffic moved; up: {primary} lost").shapes()
        limit = [line(x.start, y(margin), x.end, y(margin), "margin"), line(x.start, y(0), x.end, y(0), "zero")]
        return [*axes, *limit, *_course(points, x, y), *_dots(points, evidence["chosen"], x, y)]

    return Chart("route-curve", "Share moved against quality lost", described(evidence), _HEIGHT, variants_of(draw))


def described(evidence: Mapping[str, Any]) -> str:
    """The curve in words."""
    points, chosen = evidence["curve"], evidence["chosen"]
    if chosen is None:
        return f"None of {len(points)} shares is shown to lose at most {evidence['margin']:g} of {evidence['primary']}."
    of = points[chosen]
    value, low, high = (number(of["loss"][part], 3, signed=True) for part in ("value", "low", "high"))
    return (
        f"{of['share']:.0%} of the traffic can move: the loss of {evidence['primary']} is {value}, from {low} to "
        f"{high}; the margin is {evidence['margin']:g}."
    )


def _course(points: Sequence[Mapping[str, Any]], x: Scale, y: Scale) -> list[Shape]:
    """The band and the line, from nothing moved, where nothing is lost."""
    upper = [(x(0.0), y(0.0)), *((x(p["share"]), y(p["loss"]["high"])) for p in points)]
    lower = [(x(p["share"]), y(p["loss"]["low"])) for p in reversed(points)]
    middle = [(x(0.0), y(0.0)), *((x(p["share"]), y(p["loss"]["value"])) for p in points)]
    return [path([*upper, *lower], "band", closed=True), path(middle, "trail")]


def _dots(points: Sequence[Mapping[str, Any]], chosen: int | None, x: Scale, y: Scale) -> list[Shape]:
    """A dot for each route; the chosen one has its interval."""
    found = [shape("circle", cx=x(p["share"]), cy=y(p["loss"]["value"]), r=4.0, look="dot") for p in points]
    if chosen is not None:
        of = points[chosen]
        at, loss = x(of["share"]), of["loss"]
        found.append(line(at, y(loss["low"]), at, y(loss["high"]), "whisker"))
        found.append(shape("circle", cx=at, cy=y(loss["value"]), r=6.0, look="dot good"))
    return found
