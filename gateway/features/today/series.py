"""The last 48 hours by the hour, against the usual level at that hour. Pure.

Values are sums of sampled records, weighted by 1/π. A band spans the values of the same hour, and of the hours next to
it, on the same weekday in the last four weeks; with less than two weeks of history, their values on the available days.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.features.today.changes import Hours
from gateway.features.today.rows import HOUR_S, GroupKey, HourSums, WeightedSums
from gateway.reports.time_charts import TimePoint

SHOWN_H = 48
_DAY_S, _WEEKS, _DAYS = 24 * HOUR_S, 4, 13
_FEWEST = 3
"""Values of a band, below which there is none."""
SeriesMeasure = Literal["calls", "errors", "p95", "cost", "score"]


@dataclass(frozen=True, slots=True)
class HourSeries:
    measure: SeriesMeasure
    scorer: str
    points: tuple[TimePoint, ...]

    @property
    def known(self) -> bool:
        return any(point.value for point in self.points) or (self.measure != "calls" and self._some)

    @property
    def _some(self) -> bool:
        return any(point.value is not None for point in self.points)


@dataclass(frozen=True, slots=True)
class SeriesReport:
    series: tuple[HourSeries, ...] = ()
    band: Literal["", "weekday", "days"] = ""
    """Source of the bands; "" if there are none yet."""


def series_report(hours: Hours, now: float, group: GroupKey | None = None) -> SeriesReport:
    """The series of all calls, or of one group. hours: as the report of changes takes them."""
    last = now // HOUR_S * HOUR_S
    begins = [last - HOUR_S * i for i in reversed(range(SHOWN_H))]
    totals: dict[float, HourSums | None] = {}

    def total(begin: float) -> HourSums | None:
        if begin not in totals:
            totals[begin] = _total(hours.get(begin, {}), group)
        return totals[begin]

    weekly = any(total(begin - 14 * _DAY_S) is not None for begin in begins)
    offsets = [7 * _DAY_S * k for k in range(1, _WEEKS + 1)] if weekly else [_DAY_S * d for d in range(1, _DAYS + 1)]
    past = {begin: _beside(total, begin, offsets) for begin in begins}
    scorers = sorted({name for begin in begins if (sums := total(begin)) for name in sums.scores})
    wanted: list[tuple[SeriesMeasure, str]] = [("calls", ""), ("errors", ""), ("p95", ""), ("cost", "")]
    wanted += [("score", name) for name in scorers]
    found = [_series(measure, scorer, begins, total, past) for measure, scorer in wanted]
    known = tuple(each for each in found if each.known)
    banded = any(point.low is not None for each in known for point in each.points)
    return SeriesReport(known, ("weekday" if weekly else "days") if banded else "")


def _total(groups: Mapping[GroupKey, HourSums], group: GroupKey | None) -> HourSums | None:
    """The sums of an hour; None if it has no call."""
    chosen = [sums for key, sums in groups.items() if group is None or key == group]
    if len(chosen) == 1:
        return chosen[0]
    made = HourSums()
    for sums in chosen:
        made.plus(sums)
    return made if chosen else None


def _beside(total: Callable[[float], HourSums | None], begin: float, offsets: Sequence[float]) -> list[HourSums]:
    """The sums of the same hour and of those next to it, on earlier days."""
    at = (begin - offset + HOUR_S * step for offset in offsets for step in (-1, 0, 1))
    return [sums for each in at if (sums := total(each)) is not None]


def _series(
    measure: SeriesMeasure,
    scorer: str,
    begins: Sequence[float],
    total: Callable[[float], HourSums | None],
    past: Mapping[float, Sequence[HourSums]],
) -> HourSeries:
    value = value_of(measure, scorer)
    points = []
    for begin in begins:
        earlier = [v for sums in past[begin] if (v := value(sums)) is not None]
        ends = (min(earlier), max(earlier)) if len(earlier) >= _FEWEST else (None, None)
        sums = total(begin)
        nothing = 0.0 if measure == "calls" else None
        points.append(TimePoint(begin, nothing if sums is None else value(sums), *ends))
    return HourSeries(measure, scorer, tuple(points))


def value_of(measure: SeriesMeasure, scorer: str) -> Callable[[HourSums], float | None]:
    """Reads a measure from the sums of an hour. None if the hour has no value of it."""

    def value(sums: HourSums) -> float | None:
        if measure == "calls":
            return sums.errors.w
        if measure == "errors":
            return sums.errors.mean
        if measure == "p95":
            return sums.quantile(0.95)
        if measure == "cost":
            return sums.cost.wv if sums.cost.n else None
        return sums.scores.get(scorer, WeightedSums()).mean

    return value
