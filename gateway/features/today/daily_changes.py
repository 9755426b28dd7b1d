"""Tests whether a day differs from the usual level: one look a day at many figures, one entry for each change. Pure.

Calls depend on each other: failures come in bursts, users call often, days differ. So the error of a day's mean is the
largest of three: that of independent calls, that of hours (the blocks within which calls may depend on each other), and
that of days (how much the same weekday differs from week to week). A difference too small to matter is not reported,
however certain it is. Over all figures of a look, the share of false changes is bounded (Benjamini-Hochberg).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from gateway.features.today.rows import WeightedSums
from gateway.statistics.domains import Floats
from gateway.statistics.false_discovery import benjamini_hochberg
from gateway.statistics.special import student_quantile, student_tail

Q = 0.02
HISTORY_DAYS = 28
LASTING_DAYS = 7
"""A change that lasts longer is the new usual level: the same weekday has it."""
FLOOR_SD = 0.1
"""The smallest difference that matters, in standard deviations of one call."""
LEAST = 20.0
"""Effective calls on both sides of a comparison."""
_WEEK = 7
_TWO_WEEKS = 10  # days with calls of the last 14, so that a closed weekend does not count against it
_SAME_WEEKDAYS = 2
_DAYS_KNOWN = 7  # degrees of freedom from which on days have an error of their own
_LEAST_SEGMENT = 2  # hours on each side of a step: a single burst is not a step
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class DailySeries:
    """A figure by day and hour, the newest day first. A day is 24 hours that end at the hour of the look."""

    weights: Floats
    """Shape (days, 24): sum of the calls' weights in each hour, the earliest hour first."""
    values: Floats
    """Shape (days, 24): sum of weight × value."""
    days: Sequence[WeightedSums]
    """The calls of each day."""
    share: bool = False
    """The values are 0 or 1: their error is compared on the scale of square roots too, as few events are skewed."""
    floor: float | None = None
    """The smallest difference that matters; None: a tenth of the standard deviation of one call."""


@dataclass(frozen=True, slots=True)
class DayComparison:
    """The comparison of a day with the usual days before it."""

    now: float | None = None
    usual: float | None = None
    """Mean of the same weekday in the last four weeks; before two weeks of history, of the available days."""
    se: float = math.inf
    """Standard error of the difference: the largest of the three; infinite where p is 1.0."""
    p: float = 1.0
    """Two-sided p-value; 1.0 also where the difference does not matter or there are too few calls."""
    floor: float = 0.0
    weekly: bool = False
    """Whether there were two weeks of history."""

    @property
    def difference(self) -> float | None:
        return None if self.now is None or self.usual is None else self.now - self.usual


@dataclass(slots=True)
class ChangeEntry:
    """A change, from the look that found it until it ends."""

    opened: int
    """Days before the newest day."""
    found: DayComparison
    """Comparison at the look that found the change."""
    ended: int | None = None
    """The first day that was as usual again, or on which the change was LASTING_DAYS old; None if it has not ended."""

    @property
    def lasted(self) -> bool:
        """Tells whether it became the new usual level."""
        return self.ended is not None and self.opened - self.ended >= LASTING_DAYS

    @property
    def rises(self) -> bool:
        return (self.found.difference or 0.0) > 0

    def days(self) -> set[int]:
        return set(range(0 if self.ended is None else self.ended + 1, self.opened + 1))


@dataclass(slots=True)
class ChangeHistory:
    """The entries of one figure, the oldest first."""

    entries: list[ChangeEntry] = field(default_factory=list)

    @property
    def open(self) -> ChangeEntry | None:
        last = self.entries[-1] if self.entries else None
        return last if last is not None and last.ended is None else None

    def unusual(self) -> set[int]:
        """Days that do not count as usual."""
        return {day for entry in self.entries if not entry.lasted for day in entry.days()}


def changes(series: Mapping[Key, DailySeries], looks: int, q: float = Q) -> dict[Key, ChangeHistory]:
    """The changes that one look on each of the last `looks` days finds, the oldest look first."""
    found: dict[Key, ChangeHistory] = {key: ChangeHistory() for key in series}
    for day in reversed(range(looks)):
        for entry in filter(None, (history.open for history in found.values())):
            if entry.opened - day >= LASTING_DAYS:  # it is the new usual level
                entry.ended = day
        compared = {key: compare(of, day, found[key].unusual()) for key, of in series.items()}
        sure = dict(zip(compared, benjamini_hochberg([c.p for c in compared.values()], q), strict=True))
        for key, comparison in compared.items():
            _update(found[key], day, comparison, sure[key])
    return found


def _update(history: ChangeHistory, day: int, comparison: DayComparison, sure: bool) -> None:
    entry = history.open
    if entry is not None and _is_back(entry, comparison):
        entry.ended = day
        entry = None
    if entry is None and sure:
        history.entries.append(ChangeEntry(day, comparison))


def _is_back(entry: ChangeEntry, today: DayComparison) -> bool:
    """Tells whether the figure is where it was before the change."""
    usual = entry.found.usual
    if today.now is None or usual is None:
        return True
    return (today.now - usual) * (1 if entry.rises else -1) < entry.found.floor


def compare(series: DailySeries, day: int, unusual: Collection[int] = ()) -> DayComparison:
    """Compares a day with the usual ones before it. unusual: days that do not count as usual."""
    known = [k for k in range(day + 1, min(day + 1 + HISTORY_DAYS, len(series.days))) if series.days[k].w > 0]
    usual = [k for k in known if k not in unusual]
    reference, weekly = _reference(usual, known, day)
    today, before = series.days[day], _sum(series.days[k] for k in reference)
    if today.mean is None or before.mean is None:
        return DayComparison(today.mean, before.mean, weekly=weekly)
    both = _sum((today, before))
    floor = FLOOR_SD * math.sqrt(both.variance) if series.floor is None else series.floor
    difference = today.mean - before.mean
    if abs(difference) < floor or min(today.effective, before.effective) < LEAST:
        return DayComparison(today.mean, before.mean, floor=floor, weekly=weekly)
    errors = [_of_calls(today, before), _of_hours(series, day, reference)]
    if (of_days := _of_days(series, day, reference, usual, weekly)) is not None:
        errors.append(of_days)
    counts = _Counts(today, before) if series.share else None
    p = max(error.p(difference, counts) for error in errors)
    return DayComparison(today.mean, before.mean, max(error.se for error in errors), p, floor, weekly)


def _reference(usual: Sequence[int], known: Sequence[int], day: int) -> tuple[list[int], bool]:
    """The days to compare with, and whether they are the same weekday of several weeks."""
    same = [k for k in usual if (k - day) % _WEEK == 0]
    if sum(k <= day + 2 * _WEEK for k in known) >= _TWO_WEEKS and len(same) >= _SAME_WEEKDAYS:
        return same, True
    return [k for k in usual if k <= day + 2 * _WEEK], False


def _sum(parts: Iterable[WeightedSums]) -> WeightedSums:
    total = WeightedSums()
    for part in parts:
        total.plus(part)
    return total


@dataclass(frozen=True, slots=True)
class _Counts:
    """A pair of shares, as numbers of effective calls and events."""

    today: WeightedSums
    before: WeightedSums

    def root_z(self, se: float) -> float:
        """The difference of the shares' square roots in standard errors, where events come in groups as large as
        se says (Anscombe, Biometrika 35, 1948)."""
        a, b = self.today, self.before
        pooled = min(max((a.wv + b.wv) / (a.w + b.w), 1e-12), 0.5)
        alone = pooled * (1 - pooled) * (1 / a.effective + 1 / b.effective)
        group = max(1.0, se * se / alone)
        n, m = a.effective / group, b.effective / group
        roots = math.sqrt((a.mean or 0.0) + 0.375 / n) - math.sqrt((b.mean or 0.0) + 0.375 / m)
        return 2.0 * roots / math.sqrt(1 / n + 1 / m)


@dataclass(frozen=True, slots=True)
class _Error:
    """A standard error of the difference, with its degrees of freedom."""

    se: float
    df: float

    def p(self, difference: float, counts: _Counts | None) -> float:
        t = abs(difference) / self.se if self.se > 0 else math.inf
        if counts is not None:
            t = min(t, abs(counts.root_z(self.se)))
        return 2.0 * student_tail(t, self.df) if math.isfinite(t) else 0.0


def _of_calls(today: WeightedSums, before: WeightedSums) -> _Error:
    """The error of independent calls. Each side gets the variance of one more call, so that equal values are not
    certain."""
    pooled = _sum((today, before))
    floor = 1e-12 + pooled.variance / (today.effective + before.effective)
    return _Error(math.sqrt(max(today.squared_error + before.squared_error, floor)), 1e6)


def _of_hours(series: DailySeries, day: int, reference: Sequence[int]) -> _Error:
    """Error for hours that are independent of each other, around the usual course of a day."""
    w, v = series.weights[list(reference)], series.values[list(reference)]
    w0, v0 = series.weights[day], series.values[day]
    n, total, total0 = len(reference), w.sum(), w0.sum()
    profile = _profile(w, v)
    hours = np.count_nonzero(w) if n == 1 else np.count_nonzero(w) * (n - 1) / n
    freedom = 24 / 23 if n == 1 else n / (n - 1)
    a_day = float(((v - profile * w) ** 2).sum()) * freedom / n  # variance of a day's sum
    usual = a_day / (total / n)
    own = _own_variance(w0, v0 - profile * w0)
    variance = max(usual / total0, own / (total0 * total0)) + usual / total
    return _Error(math.sqrt(variance), max(8.0, float(hours) - 2.0))


def _profile(w: Floats, v: Floats) -> Floats:
    """The usual mean of each hour of the day. One day alone has none: its own mean."""
    mean = v.sum() / w.sum()
    if len(w) == 1:
        return np.full(w.shape[1], mean)
    at, of = w.sum(axis=0), v.sum(axis=0)
    profile: Floats = np.where(at > 0, of / np.where(at > 0, at, 1.0), mean)
    return profile


def _own_variance(w: Floats, d: Floats) -> float:
    """Variance of the day's sum of deviations from the usual course, around its mean or the step that fits best: a
    change within the day must not inflate the variance that it is tested against, and a single burst must not look like
    a change.

    w: weight of each hour. d: its sum of weight × (value − usual)."""
    there = w > 0
    w, d = w[there], d[there]
    if len(w) < 2:
        return float((d * d).sum())
    cw, cd, cdd = np.cumsum(w), np.cumsum(d), np.cumsum(d * w)
    cww, squares = np.cumsum(w * w), float((d * d).sum())
    cuts = np.arange(_LEAST_SEGMENT, len(w) - _LEAST_SEGMENT + 1)

    def left(mean: Floats | float, dw: Floats | float, ww: Floats | float) -> Floats | float:
        return mean * mean * ww - 2.0 * mean * dw  # Σ (d − mean w)² less Σ d²

    one = squares + float(left(cd[-1] / cw[-1], cdd[-1], cww[-1]))
    least = one * len(w) / (len(w) - 1)
    if len(cuts):
        i = cuts - 1
        first = left(cd[i] / cw[i], cdd[i], cww[i])
        second = left((cd[-1] - cd[i]) / (cw[-1] - cw[i]), cdd[-1] - cdd[i], cww[-1] - cww[i])
        least = min(least, (squares + float(np.min(first + second))) * len(w) / max(1, len(w) - 2))
    return max(0.0, least)


def _of_days(
    series: DailySeries, day: int, reference: Sequence[int], usual: Sequence[int], weekly: bool
) -> _Error | None:
    """The error of days: how much the same weekday differs from week to week, or days among each other while there are
    fewer than two weeks. None if there are too few days."""
    groups: dict[int, list[float]] = {}
    for k in usual if weekly else reference:
        mean = series.days[k].mean
        if mean is not None:
            groups.setdefault((k - day) % _WEEK if weekly else 0, []).append(mean)
    df = sum(len(means) - 1 for means in groups.values())
    if df < _DAYS_KNOWN:
        return None
    spread = sum(float(np.var(means)) * len(means) for means in groups.values()) / df
    return _Error(math.sqrt(spread * (1 + 1 / len(reference))), float(df))


def day_interval(series: DailySeries, day: int) -> tuple[float, float] | None:
    """95 % interval of a day's mean over hours that are independent of each other. None if there are fewer than LEAST
    calls.
    """
    today = series.days[day]
    if today.mean is None or today.effective < LEAST:
        return None
    w, v = series.weights[day], series.values[day]
    hours = int(np.count_nonzero(w))
    blocks = float(((v - today.mean * w) ** 2).sum()) * hours / max(1, hours - 1) / (today.w * today.w)
    se = math.sqrt(max(blocks, today.squared_error, today.variance / (today.effective + 1)))
    half = student_quantile(0.975, max(1, hours - 1)) * se
    low, high = today.mean - half, today.mean + half
    return (max(0.0, low), min(1.0, high)) if series.share else (low, high)
