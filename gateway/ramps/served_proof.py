"""Whether a candidate is shown to be not worse on the answers that it served, before the step to all traffic. Pure.

The difference is taken within each step and block of time, where both arms are drawn from the same traffic, and then
averaged with the units as weights: pooled over steps, a candidate that began in a good hour would look better than it
is (Simpson's paradox). One look is planned, at the first complete block that has the units for it, with 0.8 of the
error; since that look is chosen by the spread and not by the difference, it costs no more error than a fixed test
(Friede & Kieser 2006). The other 0.2 is for a confidence sequence, which may prove it earlier, and later.

By rules 3 the average is over the hours of the day, each with its share of the units, and nothing is proved before
every hour with calls has been served: weighted by evidence, an hour that was served at 1 % of the units would hardly
count. The error is then the larger of that within blocks and that between them, since failures come in incidents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gateway.core.horizon import EARLY
from gateway.ramps.blocks import ServedBlock
from gateway.reports.model import Estimate, Margin
from gateway.statistics.asymptotic import Tuning, half_width
from gateway.statistics.domains import Floats
from gateway.verdict.price.terms import GUARD, look_z, reached, wanted_error
from gateway.verdict.sequences.difference import BURN_IN

_N_STAR = 4_000.0  # effective units at which the sequence is tightest
_LATER = 2.5  # times the units of the planned look, which the sequence needs about


@dataclass(frozen=True, slots=True)
class ProofTerms:
    """Terms of the proof of one metric."""

    sign: float  # 1: more is better; -1 means that less is better
    margin: float
    alpha: float  # two-sided; the proof is one-sided, with half of it
    bounded: bool  # values are in [0, 1]
    inflation: float = 1.0  # of the variance, where units come back in several blocks
    hours: tuple[int, ...] | None = None  # of the day that have to be served; None: by rules 2, pooled by evidence


@dataclass(frozen=True, slots=True)
class ServedProof:
    """The proof so far. needed: units an arm in total, of the arm with fewer; None if unknown, or no number helps."""

    found: Margin
    difference: Estimate  # positive is better for the candidate
    units: tuple[int, int]  # (control, candidate)
    needed: int | None
    hours: tuple[int, ...] = ()  # of the day that it still waits for
    so_far: bool = False  # it would be proved if no further hour were needed


@dataclass(frozen=True, slots=True)
class PooledDifference:
    """The difference over some blocks. value: positive is better for the candidate."""

    value: float
    error: float
    effective: float
    units: tuple[int, int]


def prove(blocks: Sequence[ServedBlock], terms: ProofTerms) -> ServedProof:
    """The proof from the blocks so far, in order of time."""
    pooled = _pooling(blocks, terms)
    if not len(pooled):
        return ServedProof("unclear", Estimate(None), (0, 0), None, terms.hours or ())
    now, look, hours = pooled.after(len(pooled)), pooled.planned_look(), pooled.hours_missing()
    half = _sequence_half(now, terms)
    low, high = now.value - half, now.value + half
    if look is not None:
        low = max(low, look.value - look_z(terms.alpha) * look.error)
    proven = low > -terms.margin or low == terms.margin == 0
    so_far = proven or now.value - look_z(terms.alpha) * now.error > -terms.margin
    found: Margin = "inferior" if high < -terms.margin else "non_inferior" if proven and not hours else "unclear"
    shown = now if look is None or now.value >= low else look  # a bound of the planned look is shown with its own value
    estimate = Estimate(shown.value, low if math.isfinite(low) else None, high if math.isfinite(high) else None)
    return ServedProof(found, estimate, now.units, _needed(now, look, terms), hours, so_far and bool(hours))


def planned_look(blocks: Sequence[ServedBlock], terms: ProofTerms) -> PooledDifference | None:
    """The planned look; None if it has not come yet. blocks: in order of time.

    The same blocks give the same look whenever they are read, so it needs no memory.
    """
    return _pooling(blocks, terms).planned_look()


class _Pooled(Protocol):
    """A difference over the first k blocks, for every k."""

    def __len__(self) -> int: ...

    def after(self, k: int) -> PooledDifference: ...

    def planned_look(self) -> PooledDifference | None: ...

    def hours_missing(self) -> tuple[int, ...]: ...


def _pooling(blocks: Sequence[ServedBlock], terms: ProofTerms) -> _Pooled:
    known = [block for block in blocks if block.a.n and block.b.n]
    return _Pooling(known, terms) if terms.hours is None else _HourPooling(known, terms)


@dataclass(frozen=True, slots=True)
class _BlockSums:
    """Arrays over k blocks, in order of time."""

    means: Floats  # shape (k,): candidate less control
    weights: Floats  # shape (k,): effective units
    n: Floats  # shape (k, 2)
    units: Floats  # shape (k, 2), so far
    own: Floats  # shape (k, 2): variance of one unit within its block, pooled so far

    @classmethod
    def of(cls, blocks: Sequence[ServedBlock], bounded: bool) -> _BlockSums:
        sums = [(s.n, s.total, s.squares) for block in blocks for s in (block.a, block.b)]
        n, total, squares = np.array(sums, dtype=np.float64).reshape(-1, 2, 3).transpose(2, 0, 1)
        arms = total / n
        spread = np.maximum(squares - n * arms**2, 0.0).cumsum(axis=0)
        units, guard = n.cumsum(axis=0), GUARD if bounded else 0.0
        own = (spread + guard) / np.maximum(units - (n > 1).cumsum(axis=0), 1.0)
        return cls(arms[:, 1] - arms[:, 0], n.prod(axis=1) / n.sum(axis=1), n, units, own)


class _Pooling:
    """The blocks' differences, each weighted by its effective units, over the first k blocks for every k.

    The spread of each arm is that within its blocks, pooled; an arm that never failed gains GUARD.
    """

    def __init__(self, blocks: Sequence[ServedBlock], terms: ProofTerms) -> None:
        self._blocks, self._terms = blocks, terms
        sums = _BlockSums.of(blocks, terms.bounded)
        weights = sums.weights
        self._units, self._effective = sums.units, weights.cumsum()
        self._values = terms.sign * (weights * sums.means).cumsum() / self._effective
        parts = (weights[:, None] ** 2 / sums.n).cumsum(axis=0) / self._effective[:, None] ** 2
        self._errors = np.sqrt(terms.inflation * (sums.own * parts).sum(axis=1))

    def __len__(self) -> int:
        return len(self._blocks)

    def after(self, k: int) -> PooledDifference:
        """k: in 1 to len(self)."""
        units = (int(self._units[k - 1, 0]), int(self._units[k - 1, 1]))
        value, error = float(self._values[k - 1]), float(self._errors[k - 1])
        return PooledDifference(value, error, float(self._effective[k - 1]), units)

    def planned_look(self) -> PooledDifference | None:
        if self._terms.margin <= 0:
            return None
        enough = self._errors <= wanted_error(self._terms.margin, self._terms.alpha)
        ready = np.flatnonzero(enough & (self._units.min(axis=1) >= BURN_IN) & self._covered())
        if not ready.size:
            return None
        k = int(ready[0]) + 1
        return self.after(k) if all(block.complete for block in self._blocks[:k]) else None

    def hours_missing(self) -> tuple[int, ...]:
        return ()

    def _covered(self) -> NDArray[np.bool_]:
        """Shape (k,): whether the first k blocks are of every hour that has to be served."""
        return np.ones(len(self), dtype=np.bool_)


class _HourPooling(_Pooling):
    """The mean of the hours' differences, each weighted by the units of a block in that hour.

    Within an hour blocks have their effective units as weights.
    """

    def __init__(self, blocks: Sequence[ServedBlock], terms: ProofTerms) -> None:
        self._blocks, self._terms = blocks, terms
        sums = _BlockSums.of(blocks, terms.bounded)
        self._hours = sorted({block.hour for block in blocks})
        at = np.array([[float(block.hour == hour) for hour in self._hours] for block in blocks])
        at = at.reshape(len(blocks), len(self._hours))
        self._units, self._effective = sums.units, sums.weights.cumsum()
        self._seen = at.cumsum(axis=0) > 0
        traffic = _ratio((at * sums.n.sum(axis=1)[:, None]).cumsum(axis=0), at.cumsum(axis=0))
        share = traffic / traffic.sum(axis=1, keepdims=True)  # of each hour, shape (k, hours)
        weights = at * sums.weights[:, None]
        scale = _ratio(share, weights.cumsum(axis=0))
        values = (scale * (weights * sums.means[:, None]).cumsum(axis=0)).sum(axis=1)
        parts = [(scale**2 * (weights**2 / sums.n[:, [arm]]).cumsum(axis=0)).sum(axis=1) for arm in (0, 1)]
        within = (sums.own * np.stack(parts, axis=1)).sum(axis=1)
        self._values = terms.sign * values
        self._errors = np.sqrt(
            terms.inflation * np.maximum(within, _between_blocks(sums.means, weights, scale, values))
        )

    def hours_missing(self) -> tuple[int, ...]:
        return tuple(hour for hour in self._terms.hours or () if hour not in self._hours)

    def _covered(self) -> NDArray[np.bool_]:
        places = [self._hours.index(hour) for hour in self._terms.hours or () if hour in self._hours]
        missing = np.full(len(self), bool(self.hours_missing()))
        return self._seen[:, places].all(axis=1) & ~missing


def _ratio(a: Floats, b: Floats) -> Floats:
    """a / b; 0 where b is 0."""
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)


def _between_blocks(means: Floats, weights: Floats, scale: Floats, values: Floats) -> Floats:
    """The variance of the mean of the hours by the distances of the blocks' differences from it, shape (k,)."""
    squares = [(scale**2 * (weights**2 * means[:, None] ** p).cumsum(axis=0)).sum(axis=1) for p in (0, 1, 2)]
    k = np.arange(1, means.size + 1, dtype=np.float64)
    found = squares[2] - 2.0 * values * squares[1] + values**2 * squares[0]
    return np.asarray(np.maximum(found, 0.0) * k / np.maximum(k - 1.0, 1.0))


def _sequence_half(now: PooledDifference, terms: ProofTerms) -> float:
    """Half-width of the sequence that has the rest of the error, one-sided at each end."""
    if min(now.units) < BURN_IN:
        return math.inf
    tuning = Tuning(min(terms.alpha * EARLY, 0.5), _N_STAR, burn_in=0.0)
    effective = now.effective
    if (
        terms.hours is not None and terms.margin > 0 and now.error > 0
    ):  # tightest at the planned look, whatever a unit tells
        effective = _N_STAR * reached(now.error, terms.margin, terms.alpha)
    return half_width(now.error * math.sqrt(effective), effective, tuning)


def _needed(now: PooledDifference, look: PooledDifference | None, terms: ProofTerms) -> int | None:
    if terms.margin <= 0:
        return None
    if look is not None:
        return math.ceil(_LATER * min(look.units))
    share = reached(now.error, terms.margin, terms.alpha)
    return math.ceil(min(now.units) / share) if share else None
