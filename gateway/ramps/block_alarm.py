"""The alarm on one metric over all steps of a ramp and its holdout, by quarter-hours: rules 3. Pure.

Each quarter-hour is one value: how much worse the candidate was than its margin, in standard errors. So an incident of
a few minutes is one value, and does not ring. The standard error is known before the quarter-hour: from the values of
units before it, and from the distances between earlier quarter-hours that units do not explain. An e-detector
(statistics/e_detector.py) starts again each hour. Failures alone have a second one, on thirds of quarter-hours, with a
fifth of the error: it finds a candidate that fails often sooner, and needs five bad thirds in a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gateway.statistics.domains import Floats
from gateway.statistics.e_detector import BETS, capped_log_gains, log_mean, restarted_log_evidence

_RECENT = 8  # quarter-hours: two hours, for what a variance is now, and after which the candidate's own counts
QUARTERS_AN_HOUR = 4
_GUARD, _GUARD_UNITS = 2.0, 8.0  # squared deviations and units of a bounded metric before any value: variance 1/4
_PRIOR_UNITS = 10.0  # of the control's variance in the candidate's
_FEWEST = 30.0  # units from which an arm's own figures are used


@dataclass(frozen=True, slots=True)
class AlarmPace:
    """The blocks of one e-detector."""

    in_a_quarter: int
    """Blocks in a quarter-hour."""
    between_starts: int
    """Blocks until a further e-value begins."""
    bets: tuple[tuple[float, float], ...]
    """Sizes and caps, as in statistics/e_detector.py."""
    share: float
    """Share of the error of all alarms of a ramp."""

    @property
    def starts_an_hour(self) -> float:
        return QUARTERS_AN_HOUR * self.in_a_quarter / self.between_starts

    @property
    def recent(self) -> int:
        return _RECENT * self.in_a_quarter


BY_QUARTERS = AlarmPace(1, QUARTERS_AN_HOUR, tuple((float(size), float(cap)) for size, cap in BETS), 0.8)
WITHIN_QUARTERS = AlarmPace(3, 3, ((1.0, 4.0),), 0.2)
"""A larger cap, or smaller blocks, would ring in incidents of ten minutes, and so more often than promised."""


@dataclass(frozen=True, slots=True)
class BlockSums:
    """Sums of the units' values of k blocks in order of time, each of shape (k, 2): control and candidate."""

    n: Floats
    total: Floats
    squares: Floats
    starts: NDArray[np.int64]
    """Shape (k,): the number of the latest start of the alarm before each block, from any beginning."""
    before: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """The control's units before these blocks: how many, their sum and that of their squares."""
    history: int = 0
    """The number of blocks at the beginning that are no evidence: where earlier ones were dropped, they show how much
    blocks differ, without which a few incidents would look like an outage."""

    def kept(self) -> BlockSums:
        """The blocks in which both arms have at least one whole unit."""
        known = self.with_both()
        n, total, squares = (x[known] for x in (self.n, self.total, self.squares))
        history = int((known < self.history).sum())
        return replace(self, n=n, total=total, squares=squares, starts=self.starts[known], history=history)

    def with_both(self) -> NDArray[np.intp]:
        """The indices of these blocks."""
        return np.flatnonzero(self.n.min(axis=1) >= 1.0)


@dataclass(frozen=True, slots=True)
class BlockTerms:
    """Terms of one metric's alarm."""

    sign: float  # 1: more is better; -1 means that less is better
    margin: float
    bounded: bool  # values are in [0, 1]
    failures: bool = False  # the control's rate is at least its average: where it is low by chance, nothing rings
    of_control: float = 0.0  # share of the control's average that the margin is at least
    pace: AlarmPace = BY_QUARTERS


@dataclass(frozen=True, slots=True)
class Excursion:
    """The blocks from which an alarm rests: first to last, as indices of those with both arms."""

    log_evidence: float
    first: int
    last: int


def excursion(sums: BlockSums, terms: BlockTerms) -> Excursion | None:
    """The strongest evidence so far that the candidate is worse; None without a block of both arms."""
    known = sums.kept()
    if not len(known.n):
        return None
    z, usable = standardised(known, terms)
    usable[: known.history] = False
    gains = capped_log_gains(np.where(usable, z, 0.0), np.array(terms.pace.bets)) * usable[:, None]
    starts = np.append(True, known.starts[1:] != known.starts[:-1])
    by_bet = restarted_log_evidence(gains, starts)
    found = log_mean(by_bet)
    last = int(found.argmax())
    of_bet = np.cumsum(gains[: last + 1, int(by_bet[last].argmax())])
    begun = np.where(starts[: last + 1], np.append(0.0, of_bet[:-1]), np.inf)
    return Excursion(float(found[last]), int(begun.argmin()), last)


def standardised(sums: BlockSums, terms: BlockTerms) -> tuple[Floats, NDArray[np.bool_]]:
    """How much worse the candidate was than its margin in each block, in standard errors, and whether these are known.

    sums: as `kept` returns it. Everything but a block's own means comes from the blocks before it.
    """
    means = sums.total / sums.n
    past = _Past.of(sums, terms.pace.recent)
    control = means[:, 0]
    margin = np.full(len(control), terms.margin)
    if terms.failures:
        average = np.where(past.units[:, 0] >= _FEWEST, past.means[:, 0], 0.0)
        control = np.maximum(control, average)
        margin = np.maximum(margin, terms.of_control * average)
    worse = -terms.sign * (means[:, 1] - control) - margin
    variances, known = _variances(past, terms.bounded)
    own = (variances / sums.n).sum(axis=1)
    return worse / np.sqrt(own + _between(worse, own, terms.pace.recent) + 1e-12), known


@dataclass(frozen=True, slots=True)
class _Past:
    """Figures of the blocks before each one, each of shape (k, 2)."""

    units: Floats
    means: Floats
    spread: Floats  # squared deviations of the units' values
    recent: Floats  # variance of a unit's value over the last two hours; 0 where they have too few units
    early_units: Floats  # without the last two hours
    early: Floats  # squared deviations of these

    @classmethod
    def of(cls, sums: BlockSums, recent_blocks: int) -> _Past:
        parts = [_before(x) for x in (sums.n, sums.total, sums.squares)]
        late = [_lagged(x, recent_blocks) for x in parts]
        recent = [now - before for now, before in zip(parts, late, strict=True)]
        parts = [x + np.array([[earlier, 0.0]]) for x, earlier in zip(parts, sums.before, strict=True)]
        spread, early = _spread(*parts), _spread(*late)
        now = np.where(recent[0] < _FEWEST, 0.0, _spread(*recent) / np.maximum(recent[0], 1.0))
        return cls(parts[0], _mean(parts), spread, now, late[0], early)


def _before(x: Floats) -> Floats:
    """Sums over the blocks before each one."""
    return np.concatenate([np.zeros_like(x[:1]), np.cumsum(x, axis=0)[:-1]])


def _lagged(x: Floats, blocks: int) -> Floats:
    """The sums as they were this number of blocks before."""
    return np.concatenate([np.zeros_like(x[:blocks]), x[:-blocks]])[: len(x)]


def _mean(parts: Sequence[Floats]) -> Floats:
    return np.asarray(parts[1] / np.maximum(parts[0], 1.0))


def _spread(n: Floats, total: Floats, squares: Floats) -> Floats:
    """Squared deviations from the mean of all units."""
    return np.maximum(squares - total**2 / np.maximum(n, 1.0), 0.0)


def _variances(past: _Past, bounded: bool) -> tuple[Floats, NDArray[np.bool_]]:
    """The variance of a unit's value in each arm, shape (k, 2), and whether it is known."""
    recent = past.recent
    if not bounded:
        known = np.asarray((past.units >= _FEWEST).all(axis=1), dtype=np.bool_)
        return np.maximum(past.spread / np.maximum(past.units - 1.0, 1.0), recent), known
    control = np.maximum((past.spread[:, 0] + _GUARD) / (past.units[:, 0] + _GUARD_UNITS), recent[:, 0])
    own = (past.early[:, 1] + _PRIOR_UNITS * control) / (past.early_units[:, 1] + _PRIOR_UNITS)
    return np.stack([control, np.maximum(control, own)], axis=1), np.ones(len(control), dtype=np.bool_)


def _between(worse: Floats, own: Floats, recent: int) -> Floats:
    """The variance between blocks that units do not explain, by the blocks until `recent` before each one; shape (k,).

    Source: DerSimonian & Laird 1986, "Meta-analysis in clinical trials", Controlled Clinical Trials 7(3).
    """
    w = 1.0 / (own + 1e-12)
    sums = (_before(x) for x in (w, w * worse, w * worse**2, w**2, np.ones_like(w)))
    of, first, second, square, k = (_lagged(x, recent) for x in sums)
    total = np.maximum(of, 1e-12)
    excess = second - first**2 / total - (k - 1.0)
    scale = of - square / total
    return np.divide(np.maximum(excess, 0.0), scale, out=np.zeros_like(w), where=(k > 1) & (scale > 1e-9 * total))
