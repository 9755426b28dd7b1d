"""The chart of cost against quality, with the Pareto front: shapes for a page, characters for a terminal.

A model is on the front if no other one is cheaper and at least as good, or as cheap and better, by the numbers so far.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.reports import number_format as say
from gateway.reports.charts import WIDE, Axes, Chart, Scale, Shape, line, path, shape, ticks, variants_of
from gateway.reports.model import Estimate

_HEIGHT = 340
_LABEL_HEIGHT, _LABEL_WIDTH = 15, 110
_COLUMNS, _ROWS = 60, 11
_WIDEST = 4.0  # times the range of the values, to which intervals stretch a scale at most
_NARROWEST = 1e-9  # a scale: narrower ones have no ticks that differ


@dataclass(frozen=True, slots=True)
class PricedModel:
    """A model on the chart."""

    name: str
    cost: Estimate
    """USD per thousand requests; with a value."""
    quality: Estimate
    """Difference from the control, positive is better; with a value."""
    look: str
    """The CSS class of its colour."""
    on_front: bool = False


@dataclass(frozen=True, slots=True)
class CostChart:
    """Cost and quality of several models, to be drawn."""

    id: str
    title: str
    quality_title: str
    models: tuple[PricedModel, ...]


def front_of(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Whether each of the points (cost, quality) is on the front. Of points that are alike, all are."""

    def worse(one: tuple[float, float], other: tuple[float, float]) -> bool:
        return other[0] <= one[0] and other[1] >= one[1] and other != one

    return [not any(worse(one, other) for other in points) for one in points]


def cost_chart(of: CostChart) -> Chart | None:
    """The chart for a page. None if fewer than two models have a price and a value."""
    if len(of.models) < 2:
        return None
    on_front = [each.name for each in _by_cost(of) if each.on_front]
    described = (
        f"{each.name}: {say.dollars(each.cost.value)}, {say.number(each.quality.value, _places(of), signed=True)}"
        for each in _by_cost(of)
    )
    description = f"USD per thousand requests and difference from the control. {'; '.join(described)}. "
    description += f"On the front: {', '.join(on_front)}."
    return Chart(of.id, of.title, description, _HEIGHT, variants_of(lambda width: _shapes(of, width)))


def _by_cost(of: CostChart) -> list[PricedModel]:
    return sorted(of.models, key=lambda each: (each.cost.value or 0.0, -(each.quality.value or 0.0)))


def _places(of: CostChart) -> int:
    low, high = _range([each.quality for each in of.models])
    return say.digits((high - low) / 2)


def _range(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """The ends of a scale with some padding: the values, and their intervals unless these would compress the values."""
    values = [e.value for e in estimates if e.value is not None]
    low, high = min(values), max(values)
    width = next(each for each in (high - low, abs(high), 1.0) if each > _NARROWEST)
    ends = [v for e in estimates for v in (e.low, e.high) if v is not None and math.isfinite(v)]
    lowest, highest = min([low, *ends]), max([high, *ends])
    middle, most = (low + high) / 2, _WIDEST * width / 2
    low, high = min(low, max(lowest, middle - most)), max(high, min(highest, middle + most))
    air = 0.08 * (high - low if high - low > _NARROWEST else width)
    return low - air, high + air


def _shapes(of: CostChart, width: int) -> Iterator[Shape]:
    low, high = _range([each.quality for each in of.models])
    cheap, costly = _range([each.cost for each in of.models])
    x, y = Scale(max(0.0, cheap), costly, 64, width - 24), Scale(low, high, _HEIGHT - 52, 24)
    x_ticks = tuple((v, say.dollars(v)) for v in ticks(x.low, x.high, 6 if width == WIDE else 3))
    y_ticks = tuple((v, say.number(v, _places(of), signed=True)) for v in ticks(low, high, 5))
    yield from Axes(x, y, x_ticks, y_ticks, "USD per thousand requests").shapes()
    yield shape("text", of.quality_title, x=8, y=14, text_anchor="start", look="axis-title")
    if low <= 0 <= high:
        yield line(x.start, y(0), x.end, y(0), "zero")
    yield from _front(of, x, y)
    for each in of.models:
        yield from _mark(each, x, y)
    yield from _names(of, x, y)


def _front(of: CostChart, x: Scale, y: Scale) -> Iterator[Shape]:
    """A line in steps: what can be had at each cost."""
    points: list[tuple[float, float]] = []
    for each in _by_cost(of):
        if each.on_front:
            at = x(each.cost.value or 0.0), y(each.quality.value or 0.0)
            points += [(at[0], points[-1][1]), at] if points else [at]
    if points:
        yield path([*points, (x.end, points[-1][1])], "curve other apart")


def _mark(each: PricedModel, x: Scale, y: Scale) -> Iterator[Shape]:
    at = x(each.cost.value or 0.0), y(each.quality.value or 0.0)
    for e, scale, upright in ((each.quality, y, True), (each.cost, x, False)):
        if e.low is not None and e.high is not None:
            low, high = scale(e.low), scale(e.high)
            ends = (at[0], low, at[0], high) if upright else (low, at[1], high, at[1])
            yield line(*ends, "edge")
    yield shape("circle", cx=at[0], cy=at[1], r=6.0 if each.on_front else 4.0, look=f"mark {each.look}")


def _names(of: CostChart, x: Scale, y: Scale) -> Iterator[Shape]:
    """Places each name next to its mark, where there is no other name."""
    taken: list[tuple[float, float]] = []
    for each in sorted(of.models, key=lambda one: -(one.quality.value or 0.0)):
        at, row = x(each.cost.value or 0.0), y(each.quality.value or 0.0) - 9
        while any(abs(at - a) < _LABEL_WIDTH and abs(row - r) < _LABEL_HEIGHT for a, r in taken):
            row += _LABEL_HEIGHT
        taken.append((at, row))
        beside, anchor = (10, "start") if at < (x.start + x.end) / 2 else (-10, "end")
        look = {"look": "value"} if each.on_front else {}
        yield shape("text", each.name, x=at + beside, y=row, text_anchor=anchor, **look)


def in_characters(of: CostChart) -> list[str]:
    """The chart for a terminal: a letter for each model, with a key; [] for fewer than two models."""
    if len(of.models) < 2:
        return []
    low, high = _range([Estimate(each.quality.value) for each in of.models])
    cheap, costly = _range([Estimate(each.cost.value) for each in of.models])
    x, y = Scale(cheap, costly, 0, _COLUMNS - 1), Scale(low, high, _ROWS - 1, 0)
    rows = [[" "] * _COLUMNS for _ in range(_ROWS)]
    keys = []
    for i, each in enumerate(_by_cost(of)):
        letter = chr(ord("A" if each.on_front else "a") + i % 26)
        row, column = round(y(each.quality.value or 0.0)), round(x(each.cost.value or 0.0))
        while rows[row][column] != " " and column < _COLUMNS - 1:
            column += 1
        rows[row][column] = letter
        difference = say.number(each.quality.value, _places(of), signed=True)
        front = ", on the front" if each.on_front else ""
        keys.append(f"{letter} {each.name}: {say.dollars(each.cost.value)}, {difference}{front}")
    title = f"{of.quality_title} (up) against USD per thousand requests (right); capitals: the front"
    drawn = [f"{_tick(of, y, i, low, high)} │{''.join(cells).rstrip()}" for i, cells in enumerate(rows)]
    ends = f"{say.dollars(max(0.0, cheap))}{say.dollars(costly):>{_COLUMNS - len(say.dollars(max(0.0, cheap)))}}"
    return [title, *drawn, f"{'':>8} └{'─' * _COLUMNS}", f"{'':>10}{ends}", *keys]


def _tick(of: CostChart, y: Scale, row: int, low: float, high: float) -> str:
    """The value at every fifth row."""
    value = high - row / (_ROWS - 1) * (high - low)
    return f"{say.number(value, _places(of), signed=True):>8}" if row % 5 == 0 else f"{'':>8}"
