"""Whether a candidate is shown to be not worse on the answers that it served, before the step to all traffic. Pure.

The difference is taken within each step and block of time, where both arms are drawn from the same traffic, and then
averaged with the units as weights: pooled over steps, a candidate that began in a good hour would look better than it
is (Simpson's paradox). One look is planned, at the first complete block that has the units for it, with 0.8 of the
error; since that look is chosen by the spread and not by the difference, it costs no more error than a fixed test
(Friede & Kieser 2006). The other 0.2 is for a confidence sequence, which may prove it earlier, and later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gateway.core.horizon import EARLY
from gateway.ramps.blocks import ServedBlock
from gateway.reports.model import Estimate, Margin
from gateway.statistics.asymptotic import Tuning, half_width
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


@dataclass(frozen=True, slots=True)
class ServedProof:
    """The proof so far. needed: units an arm in total, of the arm with fewer; None if unknown, or no number helps."""

    found: Margin
    difference: Estimate  # positive is better for the candidate
    units: tuple[int, int]  # (control, candidate)
    needed: int | None


@dataclass(frozen=True, slots=True)
class PooledDifference:
    """The difference over some blocks. value: positive is better for the candidate."""

    value: float
    error: float
    effective: float
    units: tuple[int, int]


def prove(blocks: Sequence[ServedBlock], terms: ProofTerms) -> ServedProof:
    """The proof from the blocks so far, in order of time."""
    pooled = _Pooling([each for each in blocks if each.a.n and each.b.n], terms)
    if not len(pooled):
        return ServedProof("unclear", Estimate(None), (0, 0), None)
    now, look = pooled.after(len(pooled)), pooled.planned_look()
    half = _sequence_half(now, terms)
    low, high = now.value - half, now.value + half
    if look is not None:
        low = max(low, look.value - look_z(terms.alpha) * look.error)
    proven = low > -terms.margin or low == terms.margin == 0
    found: Margin = "inferior" if high < -terms.margin else "non_inferior" if proven else "unclear"
    shown = now if look is None or now.value >= low else look  # a bound of the planned look is shown with its own value
    estimate = Estimate(shown.value, low if math.isfinite(low) else None, high if math.isfinite(high) else None)
    return ServedProof(found, estimate, now.units, _needed(now, look, terms))


def planned_look(blocks: Sequence[ServedBlock], terms: ProofTerms) -> PooledDifference | None:
    """The planned look; None if it has not come yet. blocks: in order of time.

    The same blocks give the same look whenever they are read, so it needs no memory.
    """
    return _Pooling([each for each in blocks if each.a.n and each.b.n], terms).planned_look()


class _Pooling:
    """The blocks' differences, each weighted by its effective units, over the first k blocks for every k.

    The spread of each arm is that within its blocks, pooled; an arm that never failed gains GUARD.
    """

    def __init__(self, blocks: Sequence[ServedBlock], terms: ProofTerms) -> None:
        self._blocks, self._terms = blocks, terms
        sums = [(s.n, s.total, s.squares) for each in blocks for s in (each.a, each.b)]
        n, total, squares = np.array(sums, dtype=np.float64).reshape(-1, 2, 3).transpose(2, 0, 1)
        arms = total / n
        means = arms[:, 1] - arms[:, 0]
        spread = np.maximum(squares - n * arms**2, 0.0).cumsum(axis=0)
        weights = n.prod(axis=1) / n.sum(axis=1)
        self._units, self._effective = n.cumsum(axis=0), weights.cumsum()
        self._values = terms.sign * (weights * means).cumsum() / self._effective
        guard = GUARD if terms.bounded else 0.0
        own = (spread + guard) / np.maximum(self._units - (n > 1).cumsum(axis=0), 1.0)
        parts = (weights[:, None] ** 2 / n).cumsum(axis=0) / self._effective[:, None] ** 2
        self._errors = np.sqrt(terms.inflation * (own * parts).sum(axis=1))

    def __len__(self) -> int:
        return len(self._blocks)

    def after(self, k: int) -> PooledDifference:
        """k: in 1 to len(self)."""
        units = (int(self._units[k - 1, 0]), int(self._units[k - 1, 1]))
        value, error = float(self._values[k - 1]), float(self._errors[k - 1])
        return PooledDifference(value, error, float(self._effective[k - 1]), units)

    def planned_look(self) -> PooledDifference | None:
        enough = self._errors <= wanted_error(self._terms.margin, self._terms.alpha)
        ready = np.flatnonzero(enough & (self._units.min(axis=1) >= BURN_IN))
        if self._terms.margin <= 0 or not ready.size:
            return None
        k = int(ready[0]) + 1
        return self.after(k) if all(block.complete for block in self._blocks[:k]) else None


def _sequence_half(now: PooledDifference, terms: ProofTerms) -> float:
    """Half-width of the sequence that has the rest of the error, one-sided at each end."""
    if min(now.units) < BURN_IN:
        return math.inf
    tuning = Tuning(min(terms.alpha * EARLY, 0.5), _N_STAR, burn_in=0.0)
    return half_width(now.error * math.sqrt(now.effective), now.effective, tuning)


def _needed(now: PooledDifference, look: PooledDifference | None, terms: ProofTerms) -> int | None:
    if terms.margin <= 0:
        return None
    if look is not None:
        return math.ceil(_LATER * min(look.units))
    share = reached(now.error, terms.margin, terms.alpha)
    return math.ceil(min(now.units) / share) if share else None
