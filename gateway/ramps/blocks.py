"""The values of both arms by blocks of time, within which both are drawn from the same traffic. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gateway.core.plan import CONTROL
from gateway.core.served_answer import ServedAnswer
from gateway.ramps.periods import StepPeriod
from gateway.ramps.step_values import ServedSums
from gateway.statistics.domains import Floats
from gateway.verdict.split.outcomes import ArmOutcomes, cut_scores, without_score

SETTLED_S = 60.0  # until the answers of a block of time have been read and scored
BLOCK_S = 900.0  # of time, within which answers are compared


@dataclass(frozen=True, slots=True)
class ServedBlock:
    """Values of one metric in both arms, within one step and block of time."""

    step: int
    a: ServedSums  # of the control
    b: ServedSums  # of the candidate
    complete: bool = True  # no answer of this block is still to come
    at: float = 0.0  # its start, Unix seconds; its hour tells only where blocks follow the clock

    @property
    def hour(self) -> int:
        """The hour of the day, UTC."""
        return int(self.at // 3600.0) % 24


@dataclass(frozen=True, slots=True)
class MissingScores:
    """Answers that did not fail and have no score: their record was cut, so that a scorer has not read them to their
    end; or it does not apply to them, or failed."""

    cut: tuple[int, int]  # (control, candidate)
    unscored: tuple[int, int]
    share: float  # the sum of both arms' shares: the most by which they can change a difference
    worst: ServedBlocks  # the blocks with what was cut as the worst for the candidate, and the rest as 0 on both arms


@dataclass(frozen=True, slots=True)
class ServedBlocks:
    """One metric of both arms by blocks of time, at the steps at which both arms served."""

    metric: str
    sign: float
    bounded: bool
    blocks: tuple[ServedBlock, ...]  # in order of time
    inflation: float = 1.0  # as in ProofTerms
    friend: str = ""  # the caller who speaks most for the candidate; "" means that nobody may be left out
    without: ServedBlocks | None = None  # the same without that caller
    foe: str = ""  # the caller who speaks most against the candidate; "" means that nobody may be left out
    without_foe: ServedBlocks | None = None  # the same without that caller
    majority: str = ""  # the caller with half of the calls or more, by rules 3; "" where there is none, or nobody else
    others: ServedBlocks | None = None  # the same without that caller
    missing: MissingScores | None = None  # whose answers are in none of these blocks; None if every answer has a score


@dataclass(frozen=True, slots=True, order=True)
class _Place:
    step: int
    start: float
    block: int
    complete: bool
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class BlockClock:
    """Finds the block of time of each answer."""

    block_s: float
    now: float
    by_clock: bool = False
    """Blocks begin at multiples of block_s, and not with their step."""

    def places(self, period: StepPeriod, rows: Sequence[ServedAnswer], late_s: float = 0.0) -> list[_Place]:
        """late_s: time after an answer in which its value may still come, as that of a run does once it has ended."""
        start = 0.0 if self.by_clock else period.start
        blocks = [int((row.received - start) // self.block_s) for row in rows]
        over, now = period.end + late_s <= self.now, self.now - late_s
        ends = (start + (b + 1) * self.block_s for b in blocks)
        return [
            _Place(period.step, start, b, over or end + SETTLED_S < now, end - self.block_s)
            for b, end in zip(blocks, ends, strict=True)
        ]


_Units = dict[tuple[str, str], list[float]]  # values by caller and unit


class BlockRows:
    """The values of one metric, by block, arm and unit."""

    def __init__(self, metric: str, sign: float, bounded: bool) -> None:
        self._metric, self._sign, self._bounded = metric, sign, bounded
        self._values: dict[_Place, tuple[_Units, _Units]] = {}
        self._cut, self._unscored, self._seen = [0, 0], [0, 0], [0, 0]  # answers of control and candidate

    def count_missing(self, rows: Sequence[ServedAnswer], of: ArmOutcomes) -> Floats:
        """The values with what was cut as the worst for the candidate, and what else has no score as 0 on both arms.

        A scorer that does not apply to an answer says as little of the other arm's answers, so 0 on both sides takes
        nothing from arms that are alike, and leaves a bad answer as bad as it is. Shape (n,). of: without what was cut.
        """
        cut = cut_scores(rows, of)
        if cut is None:
            return of.values
        control, unscored = np.array([row.arm == CONTROL for row in rows]), without_score(rows, of) & ~cut
        looked = ~np.isnan(of.values) | cut | unscored
        for i, arm in enumerate((control, ~control)):
            self._cut[i] += int((cut & arm).sum())
            self._unscored[i] += int((unscored & arm).sum())
            self._seen[i] += int((looked & arm).sum())
        return np.where(cut, control, np.where(unscored, 0.0, of.values))

    @property
    def missing(self) -> MissingScores | None:
        """Answers without a score; None if every one has one."""
        if not any(self._cut) and not any(self._unscored):
            return None
        cut, unscored = (self._cut[0], self._cut[1]), (self._unscored[0], self._unscored[1])
        shares = ((cut[i] + unscored[i]) / max(self._seen[i], 1) for i in (0, 1))
        return MissingScores(cut, unscored, sum(shares), self._blocks(None))

    def add(self, places: Sequence[_Place], rows: Sequence[ServedAnswer], values: Floats) -> None:
        for place, row, value in zip(places, rows, values.tolist(), strict=True):
            if not math.isnan(value):
                arms = self._values.setdefault(place, ({}, {}))
                arms[row.arm != CONTROL].setdefault((row.caller, row.unit), []).append(value)

    def of(self, friend: str | None, foe: str | None, majority: str | None = None) -> ServedBlocks:
        """friend, foe: the callers who speak most for and against the candidate; None means that nobody may be left
        out. majority: the caller with half of the calls or more.
        """
        everybody = self._blocks(None)
        if friend is not None:
            everybody = replace(everybody, friend=friend, without=self._blocks(friend))
        if majority is not None:
            everybody = replace(everybody, majority=majority, others=self._blocks(majority))
        return everybody if foe is None else replace(everybody, foe=foe, without_foe=self._blocks(foe))

    def _blocks(self, left_out: str | None) -> ServedBlocks:
        made: list[ServedBlock] = []
        terms: dict[tuple[str, str], float] = {}  # of each unit in the pooled difference
        apart = 0.0  # the sum of its squares, if units never came back
        for place in sorted(self._values, key=lambda p: (p.start, p.block, p.step)):
            means = [
                {u: math.fsum(v) / len(v) for u, v in arm.items() if u[0] != left_out} for arm in self._values[place]
            ]
            a, b = (ServedSums.of(np.array(list(arm.values()))) for arm in means)
            made.append(ServedBlock(place.step, a, b, place.complete, place.at))
            if not a.n or not b.n:
                continue
            weight = a.n * b.n / (a.n + b.n)
            for arm, sums in zip(means, (a, b), strict=True):
                for unit, mean in arm.items():
                    term = weight * (mean - sums.mean) / sums.n
                    terms[unit] = terms.get(unit, 0.0) + term
                    apart += term**2
        together = math.fsum(term**2 for term in terms.values())
        inflation = max(1.0, together / apart) if apart else 1.0
        return ServedBlocks(self._metric, self._sign, self._bounded, tuple(made), inflation)
