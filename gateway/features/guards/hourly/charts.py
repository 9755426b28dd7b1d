"""The share of calls with a guard's hit over time, as a drawing. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.features.guards.evidence import hit_share
from gateway.features.guards.hourly.hours import DAY_S, HOUR_S, Hours
from gateway.reports import number_format as say
from gateway.reports.charts import (
    WIDE,
    Axes,
    Chart,
    HoverPoint,
    Scale,
    Shape,
    line,
    path,
    shape,
    ticks,
    variants_of,
)
from gateway.reports.time_charts import short_time
from gateway.statistics.detection import ShareEstimate

_HEIGHT = 200
_PARTS = 24
"""Points of a chart, at most a few more."""
_STEPS_S = (
    HOUR_S,
    2 * HOUR_S,
    4 * HOUR_S,
    6 * HOUR_S,
    12 * HOUR_S,
    DAY_S,
    3 * DAY_S,
    5 * DAY_S,
    15 * DAY_S,
    60 * DAY_S,
)
_HIGHEST = 4.0  # times the largest share: wider intervals of hours with few calls leave the drawing


@dataclass(frozen=True, slots=True)
class RatePoint:
    """The share of hits within a time. begin, end: Unix seconds. calls: judged, recorded or not."""

    begin: float
    end: float
    share: ShareEstimate
    calls: float


def rate_points(hours: Hours, config: tuple[str, str], since: float, now: float) -> list[RatePoint]:
    """The share in about two dozen parts of the time, of those with calls. config: side and hash. since, now: Unix
    seconds."""
    first = since // HOUR_S * HOUR_S
    step = max(1, round((now - first) / HOUR_S / _PARTS)) * HOUR_S
    found = []
    begin = first
    while begin <= now:
        mine = {at: of for at, of in hours.items() if begin <= at < begin + step}
        share, calls = hit_share(mine, config)
        if share is not None:
            found.append(RatePoint(begin, min(begin + step, now), share, calls))
        begin += step
    return found


@dataclass(frozen=True, slots=True)
class RateChart:
    """Data of a chart. marks: Unix seconds of changes of the guard."""

    id: str
    title: str
    points: Sequence[RatePoint]
    since: float
    until: float
    small: bool = False
    marks: Sequence[float] = ()


def rate_chart(of: RateChart) -> Chart | None:
    """The share with its interval of 95 % over time. None if there were no calls."""
    if not of.points:
        return None
    shares = [point.share.share for point in of.points]
    last = of.points[-1].share
    description = (
        f"From {say.share(min(shares))} to {say.share(max(shares))} of calls; last {say.share(last.share)}, "
        f"95 % interval {say.share(last.low)} to {say.share(last.high)}."
    )
    return Chart(of.id, of.title, description, _HEIGHT, variants_of(_drawn(of), small=of.small, hover=_hover(of)))


def _scales(of: RateChart, width: int) -> tuple[Scale, Scale]:
    x = Scale(of.since, max(of.until, of.since + HOUR_S), 62, width - 18)
    largest = max(point.share.share for point in of.points)
    highest = max(point.share.high for point in of.points)
    top = min(highest, _HIGHEST * largest) if largest > 0 else highest
    return x, Scale(0.0, 1.08 * top or 0.01, _HEIGHT - 30, 12)


def _drawn(of: RateChart) -> Callable[[int], Iterator[Shape]]:
    def draw(width: int) -> Iterator[Shape]:
        x, y = _scales(of, width)
        y_ticks = tuple((v, say.share(v)) for v in ticks(0.0, y.high, 3))
        yield from Axes(x, y, tuple(_times(x, 7 if width == WIDE else 3)), y_ticks, "").shapes()[:-1]
        for at in of.marks:
            yield line(x(at), y.end, x(at), y.start, "event")
        middle = [(x((point.begin + point.end) / 2), point.share) for point in of.points]
        if len(middle) > 1:
            upper = [(at, y(share.high)) for at, share in middle]
            lower = [(at, y(share.low)) for at, share in reversed(middle)]
            yield path([*upper, *lower], "band", closed=True)
            yield path(((at, y(share.share)) for at, share in middle), "trail")
        at, share = middle[-1]
        yield line(at, y(share.low), at, y(share.high), "whisker")
        yield shape("circle", cx=at, cy=y(share.share), r=4, look="dot")

    return draw


def _times(x: Scale, most: int) -> Iterator[tuple[float, str]]:
    """Round times on the axis, at most that number: days, or hours of one."""
    step = next(s for s in _STEPS_S if (x.high - x.low) / s <= most)
    for i in range(math.ceil(x.low / step), math.floor(x.high / step) + 1):
        at = datetime.fromtimestamp(i * step, UTC)
        yield i * step, f"{at:%d %b}" if step >= DAY_S else f"{at:%H:%M}"


def _hover(of: RateChart) -> Callable[[int], tuple[HoverPoint, ...]]:
    def points(width: int) -> tuple[HoverPoint, ...]:
        x, _ = _scales(of, width)
        return tuple(
            HoverPoint(x((p.begin + p.end) / 2), f"{short_time(p.begin)}: {say.share(p.share.share)}")
            for p in of.points
        )

    return points
