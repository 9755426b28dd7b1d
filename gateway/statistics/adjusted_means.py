"""Hourly means of several series, adjusted for a mix of strata, against a baseline of some weeks.

Each value is compared with the baseline's mean of its own stratum, so that a mix that moves does not deviate (indirect
standardisation). How much an hour's mean varies while nothing changes is fitted to the hours of the baseline: a part
that falls with the number of units, such as users, a part that does not, a wave of the week, and the memory from hour
to hour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.statistics.domains import Floats
from gateway.statistics.special import two_sided_z
from gateway.statistics.stored_state import State

WEEK_H, DAY_H = 168, 24
_SLOT_H = 3  # hours of a part of a day
SUMS = 5
SLOTS = 2 * DAY_H // _SLOT_H
"""Parts of days, of the days of work and of the weekend."""
_MEMORIES_H = (4, 24)  # lengths of the blocks whose sums show a memory
_PRIOR_CALLS = 30.0  # of the variance of all strata in that of one
_ROUNDS = 5  # of fitting variances and the wave in turn
_FARTHEST_SD = 4.0  # of a value without bounds
_TINY = 1e-12


def slot_of(hour: NDArray[np.int64]) -> NDArray[np.int64]:
    """The part of the week of hours since 1970 (UTC), from 0 to SLOTS - 1. The first of January 1970 was a Thursday."""
    weekend = (hour // DAY_H + 3) % 7 >= 5
    return np.asarray(hour % DAY_H // _SLOT_H + weekend * (DAY_H // _SLOT_H), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class HourlySums:
    """Sums over the weighted values of h hours, in c strata and k series. Weights are inverse probabilities."""

    hours: NDArray[np.int64]
    """Shape (h,), since 1970, in order."""
    strata: Floats
    """Shape (h, c, k, SUMS): Σ weight, Σ weight · value, Σ weight · value², Σ weight², and Σ over units of (Σ weight)²,
    where the calls of a unit, such as a user, depend on each other."""

    def __getitem__(self, part: slice) -> HourlySums:
        return HourlySums(self.hours[part], self.strata[part])


@dataclass(frozen=True, slots=True)
class SeriesTerms:
    """Terms of k series, each of shape (k,)."""

    floor: Floats
    """Deviations smaller than this are none; 0 where only `floor_sd` counts."""
    floor_sd: Floats
    """The same, as a multiple of the values' standard deviation."""
    least_sd: Floats
    """Standard deviation of a value at least."""
    bounded: NDArray[np.bool_]
    """Values are in [0, 1]."""
    rate: NDArray[np.bool_]
    """Values are 0 or 1, and the variance follows from the mean."""


@dataclass(frozen=True, slots=True)
class Deviations:
    """Hourly deviations from a baseline, each of shape (h, k)."""

    mean: Floats
    """0 where the hour has no value in a known stratum."""
    allowed: Floats
    """The floor and the error of the baseline: smaller deviations are none."""
    error: Floats
    """Standard error of the hour, with the memory of hours in it."""
    error_up: Floats
    """The same if the mean is as high as the floor allows."""
    shares: Floats
    """Shape (h, k, 3): of calls, of units and of the hour itself in the variance; their sum is 1."""
    reach: Floats
    """Shape (h, k, 2, 2): how far one call and one unit (last axis) can take the hour down and up (axis 2), in standard
    errors of an hour without memory: in a sum over hours that depend on each other, a term comes back. Of the calls or
    units that weigh differently, it is the mean one, by weight. Where values have no bounds, neither has this: four
    standard deviations of a call, or of a unit's own level, are assumed."""
    seen: NDArray[np.bool_]

    @property
    def z(self) -> Floats:
        """Shape (h, k, 2): deviations beyond the allowed ones in standard errors, down and up."""
        down = (-self.mean - self.allowed) / self.error
        up = (self.mean - self.allowed) / self.error_up
        return np.stack([down, up], axis=2)


@dataclass(slots=True)
class AdjustedBaseline:
    """The baseline of k series in c strata."""

    strata: Floats
    """Shape (c, k, SUMS): see HourlySums."""
    wave: Floats
    """Shape (SLOTS, k): usual deviation of a part of the week."""
    by_call: Floats
    """Shape (k,), as the others: variance of a value within its stratum, on average."""
    by_unit: Floats
    """Variance between units that calls do not explain."""
    between: Floats
    """Variance between hours that units do not explain."""
    memory: Floats
    """Variance of a long time's mean, as a multiple of that of independent hours."""
    hours: Floats
    """Effective number of hours."""
    allowed: Floats
    """The floor."""
    rate: Floats
    """1 where values are 0 or 1, else 0."""
    mean: Floats
    reach: Floats
    """How far a value is from the mean at most; NaN where it is in [0, 1]."""
    z: float
    """Standard errors of the baseline that a deviation may have."""

    @classmethod
    def fitted(cls, sums: HourlySums, terms: SeriesTerms, error: float) -> AdjustedBaseline:
        """Fits a baseline. error: of the allowed deviations of a series, such as alpha / K of K series.

        Sources: indirect standardisation: Breslow & Day 1987, "Statistical Methods in Cancer Research II", section 2.3.
        Two components of variance by weighted least squares: Rao & Kleffe 1988, section 1.3; the shrunken wave: Efron &
        Morris 1975, JASA 70(350).
        """
        strata = sums.strata.sum(axis=0)
        hourly, design, effective = _residuals(sums, strata)
        sd, mean = _spread(strata, terms)
        known = _variance_of_calls(sums.strata, strata, sd**2, terms.bounded)
        wave, by_unit, between = _fitted_variances(hourly, design, slot_of(sums.hours), known)
        left = hourly - wave[slot_of(sums.hours)]
        return cls(
            strata=strata,
            wave=wave,
            by_call=sd**2,
            by_unit=by_unit,
            between=between,
            memory=_memory(left, known + by_unit * design.units + between, design.seen, sums.hours),
            hours=effective,
            allowed=np.maximum(terms.floor, terms.floor_sd * sd),
            rate=terms.rate.astype(np.float64),
            mean=mean,
            reach=np.where(terms.bounded, np.nan, _FARTHEST_SD * sd),
            z=two_sided_z(error),
        )

    def add_strata(self, strata: Floats) -> None:
        """Adds strata, an array of shape (more, k, SUMS)."""
        self.strata = np.concatenate([self.strata, strata])

    def renew(self, strata: Floats, kept: float) -> None:
        """Adds sums of the same strata, shape (c, k, SUMS). kept: weight of what is known already, in [0, 1]."""
        self.strata = kept * self.strata + strata
        weights, totals, _, _, _ = _parts(self.strata.sum(axis=0))
        self.mean = np.where(weights > 0, totals / np.maximum(weights, _TINY), self.mean)

    def deviations(self, sums: HourlySums, mix: Floats) -> Deviations:
        """The deviations of hours whose strata are in the order of the baseline's.

        mix: shape (h, c), the calls of each stratum in the time up to each hour: the more the mix rests on strata that
        the baseline hardly knows, the more is allowed.
        """
        mean, design, _ = _residuals(sums, self.strata)
        mean = mean - self.wave[slot_of(sums.hours)]
        share = mix[..., None] * (self.strata[..., 0] > 0)
        share = share / np.maximum(share.sum(axis=1, keepdims=True), _TINY)
        allowed = self.allowed + self.z * np.sqrt(self.memory * self._variance_of_baseline(share))
        by_call = _variance_of_calls(sums.strata, self.strata, self.by_call, np.isnan(self.reach))
        parts = np.stack(np.broadcast_arrays(by_call, self.by_unit * design.units, self.between + _TINY), axis=2)
        total = parts.sum(axis=2)
        level = self._level(share)
        more = self._more_variance(level, allowed)
        sd = np.sqrt(np.stack([total, total * more], axis=2))
        reach = np.stack([self._reach(level), self._reach(1.0 - level)], axis=2)
        own = np.where(np.isnan(self.reach), np.inf, _FARTHEST_SD * np.sqrt(self.by_unit))[:, None]
        of_call, of_unit = reach * design.calls[..., None], np.minimum(reach, own) * design.units[..., None]
        return Deviations(
            mean=np.where(design.seen, mean, 0.0),
            allowed=allowed,
            error=np.sqrt(self.memory * total),
            error_up=np.sqrt(self.memory * total * more),
            shares=parts / total[..., None],
            reach=np.stack([of_call, of_unit], axis=3) / sd[..., None],
            seen=design.seen,
        )

    def strata_since(self, sums: HourlySums) -> tuple[Floats, Floats, Floats]:
        """(Σ of the deviations times the weights, their standard error, Σ weight) over all hours: shape (c, k) each."""
        weights, totals, _, _, _ = _parts(self.strata)
        w, t, _, calls, units = _parts(sums.strata * (weights > 0)[..., None])
        usual = totals / np.maximum(weights, _TINY) + self.wave[slot_of(sums.hours)][:, None]
        by_call = _by_call(self.strata, self.by_call, np.isnan(self.reach))
        own = (by_call * calls + self.by_unit * units + self.between * w**2).sum(axis=0)
        total = w.sum(axis=0)
        of_baseline = by_call * self.strata[..., 3] / np.maximum(weights, _TINY) ** 2
        return (t - w * usual).sum(axis=0), np.sqrt(self.memory * own + total**2 * of_baseline), total

    def _variance_of_baseline(self, share: Floats) -> Floats:
        weights, _, _, calls, units = _parts(self.strata)
        of_calls = _by_call(self.strata, self.by_call, np.isnan(self.reach)) * calls
        of_strata = (of_calls + self.by_unit * units) / np.maximum(weights, _TINY) ** 2
        return np.asarray((share**2 * of_strata).sum(axis=1) + self.between / self.hours)

    def _level(self, share: Floats) -> Floats:
        """The mean that the baseline has for a mix, inside (0, 1) for a rate: shape (h, k)."""
        weights, totals, _, calls, _ = _parts(self.strata)
        level = (share * (totals / np.maximum(weights, _TINY))).sum(axis=1)
        least = 1.0 / (weights.sum(axis=0) ** 2 / np.maximum(calls.sum(axis=0), _TINY) + 2.0)
        return np.asarray(np.where(self.rate > 0, np.clip(level, np.minimum(least, 0.5), 1.0), level))

    def _more_variance(self, level: Floats, allowed: Floats) -> Floats:
        """The variance of a rate that is as high as allowed, as a multiple of the usual one."""
        low = np.minimum(level, 0.5)
        high = np.minimum(low + allowed, 0.5)
        return np.where(self.rate > 0, high * (1.0 - high) / np.maximum(low * (1.0 - low), _TINY), 1.0)

    def _reach(self, bounded: Floats) -> Floats:
        return np.where(np.isnan(self.reach), np.clip(bounded, 0.01, 1.0), self.reach)

    def state(self) -> State:
        """A JSON-able dict from which from_state continues."""
        arrays = {name: getattr(self, name) for name in self.__slots__ if name != "z"}
        return {**{name: _plain(array) for name, array in arrays.items()}, "z": self.z}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> AdjustedBaseline:
        """Raises ValueError if a field is missing, unknown or no array of numbers."""
        try:
            arrays = {name: np.array(state[name], dtype=np.float64) for name in cls.__slots__ if name != "z"}
            return cls(**arrays, z=float(state["z"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"not the state of an AdjustedBaseline: {error}") from error


def _plain(array: Floats) -> list[Any]:
    rounded = np.vectorize(lambda x: float(f"{x:.6g}"), otypes=[np.float64])(array) if array.size else array
    return [_none(row) for row in rounded.tolist()]


def _none(x: Any) -> Any:
    return [_none(item) for item in x] if isinstance(x, list) else None if x != x else x


@dataclass(frozen=True, slots=True)
class _Design:
    """Sums of squared shares of the weight of an hour, each of shape (h, k)."""

    calls: Floats
    units: Floats
    seen: NDArray[np.bool_]


def _parts(strata: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    weights, totals, squares, calls, units = np.moveaxis(strata, -1, 0)
    return weights, totals, squares, calls, units


def _by_call(strata: Floats, average: Floats, bounded: NDArray[np.bool_]) -> Floats:
    """The variance of a value in each stratum, shape (c, k), drawn towards the average where there are few calls.

    A stratum without any event has one more.
    """
    weights, totals, squares, calls, _ = _parts(strata)
    safe = np.maximum(weights, _TINY)
    own = np.maximum(squares / safe - (totals / safe) ** 2, 0.0)
    count = weights**2 / np.maximum(calls, _TINY)
    own = own + np.where(bounded, 1.0 / (count + 2.0), 0.0)
    return np.asarray((count * own + _PRIOR_CALLS * average) / (count + _PRIOR_CALLS))


def _variance_of_calls(hourly: Floats, strata: Floats, average: Floats, bounded: NDArray[np.bool_]) -> Floats:
    """The variance of each hour's mean if all calls were independent: shape (h, k)."""
    known = strata[..., 0] > 0
    weights, calls = hourly[..., 0] * known, hourly[..., 3] * known
    total = np.maximum(weights.sum(axis=1), _TINY)
    return np.asarray((calls * _by_call(strata, average, bounded)).sum(axis=1) / total**2)


def _residuals(sums: HourlySums, strata: Floats) -> tuple[Floats, _Design, Floats]:
    """The hourly deviations from the strata's means, the design, and the effective number of hours."""
    of_baseline, totals, _, _, _ = _parts(strata)
    known = of_baseline > 0
    w, t, _, calls, units = _parts(sums.strata * known[..., None])
    hourly = w.sum(axis=1)
    seen = hourly > 0
    safe = np.where(seen, hourly, 1.0)
    mean = (t - w * totals / np.where(known, of_baseline, 1.0)).sum(axis=1) / safe
    effective = hourly.sum(axis=0) ** 2 / np.maximum((hourly**2).sum(axis=0), _TINY)
    design = _Design(calls.sum(axis=1) / safe**2, units.sum(axis=1) / safe**2, seen)
    return mean, design, np.maximum(effective, 1.0)


def _spread(strata: Floats, terms: SeriesTerms) -> tuple[Floats, Floats]:
    """Standard deviation of a value within strata, and the mean of rates with two more values."""
    w, t, squares, calls, _ = _parts(strata)
    total = np.maximum(w.sum(axis=0), _TINY)
    within = squares.sum(axis=0) - (t**2 / np.maximum(w, _TINY)).sum(axis=0)
    count = total**2 / np.maximum(calls.sum(axis=0), _TINY)
    mean = t.sum(axis=0) / total
    mean = np.where(terms.rate, (mean * count + 1.0) / (count + 2.0), mean)
    sd = np.sqrt(np.maximum(within, 0.0) / total)
    sd = np.where(terms.rate, np.maximum(sd, np.sqrt(np.clip(mean * (1.0 - mean), 0.0, None))), sd)
    return np.maximum(sd, terms.least_sd), mean


def _fitted_variances(
    hourly: Floats, design: _Design, slots: NDArray[np.int64], of_calls: Floats
) -> tuple[Floats, Floats, Floats]:
    """(wave, variance between units, variance between hours) of each series."""
    k = hourly.shape[1]
    wave, by_unit, between = np.zeros((SLOTS, k)), np.zeros(k), np.zeros(k)
    for i in range(k):
        seen = design.seen[:, i]
        x, slot = hourly[seen, i], slots[seen]
        if len(x) < 2:
            continue
        known, units = of_calls[seen, i] + _TINY, design.units[seen, i]
        left = x
        for _ in range(_ROUNDS):
            by_unit[i], between[i] = _components(left**2, known, units)
            wave[:, i] = _shrunken(x, 1.0 / (known + by_unit[i] * units + between[i]), slot)
            left = x - wave[slot, i]
    return wave, by_unit, between


def _components(square: Floats, known: Floats, q: Floats) -> tuple[float, float]:
    """The coefficients a, b >= 0 of E[square] = known + a q + b."""
    a = b = 0.0
    for _ in range(4):
        w = 1.0 / (known + a * q + b) ** 2
        left = square - known
        qq, q1, one = float((w * q * q).sum()), float((w * q).sum()), float(w.sum())
        xq, x1 = float((w * q * left).sum()), float((w * left).sum())
        determinant = qq * one - q1 * q1
        a, b = max(xq / qq, 0.0), max(x1 / one, 0.0)
        if determinant > 1e-6 * qq * one:
            both = (one * xq - q1 * x1) / determinant, (qq * x1 - q1 * xq) / determinant
            a, b = both if min(both) >= 0 else (a, 0.0) if both[1] < 0 else (0.0, b)
        else:
            a = 0.0
    return a, b


def _shrunken(x: Floats, w: Floats, slot: NDArray[np.int64]) -> Floats:
    """The weighted means of slots, shrunken towards their own mean as much as their errors ask for."""
    total = np.bincount(slot, w, SLOTS)
    mean = np.bincount(slot, w * x, SLOTS) / np.maximum(total, _TINY)
    mean = np.where(total > 0, mean - (w * x).sum() / w.sum(), 0.0)
    between = max(float((total * mean**2).sum() - (total > 0).sum()) / float(total.sum()), 0.0)
    return np.asarray(mean * between / (between + 1.0 / np.maximum(total, _TINY)))


def _memory(left: Floats, variance: Floats, seen: NDArray[np.bool_], hours: NDArray[np.int64]) -> Floats:
    """The variance of sums over blocks of hours, as a multiple of that of independent hours; at least 1."""
    z = np.where(seen, left / np.sqrt(variance + _TINY), 0.0)
    factor = np.ones(left.shape[1])
    for length in _MEMORIES_H:
        block = (hours - hours[0]) // length
        sums = np.zeros((int(block[-1]) + 1, left.shape[1]))
        np.add.at(sums, block, z)
        factor = np.maximum(factor, (sums**2).sum(axis=0) / np.maximum(seen.sum(axis=0), 1))
    return factor
