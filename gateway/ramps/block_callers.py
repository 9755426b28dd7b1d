"""The alarms of a ramp by quarter-hours, where one caller can neither raise nor silence them alone: rules 3. Pure.

The same looks as in callers.py: everybody, without the caller who hides most, and with callers thinned; each rings only
if it also does without the caller who speaks most against the candidate. All metrics and looks share one run length: a
false alarm is expected once in RUN_LENGTH times the hours of the ramp and its holdout, at most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gateway.core.plan import Plan
from gateway.core.ramp import DAY_S
from gateway.ramps.alarms import FAILURES, AlarmTerms
from gateway.ramps.block_alarm import (
    BY_QUARTERS,
    QUARTERS_AN_HOUR,
    AlarmPace,
    BlockSums,
    BlockTerms,
    Excursion,
    excursion,
)
from gateway.ramps.blocks import BLOCK_S
from gateway.ramps.callers import WeightedCaller, looks_at, speaker_of, without_hiders
from gateway.ramps.evidence import ServedFinding
from gateway.ramps.periods import WATCHED_S
from gateway.ramps.step_values import CallerSums, ServedSums
from gateway.reports.model import Estimate
from gateway.statistics.domains import Floats
from gateway.statistics.e_detector import log_limit
from gateway.verdict.price.terms import ERRORS, error_margin
from gateway.verdict.sequences.latency import P95

BLOCK_RULES = 3  # the first rules of a plan whose ramp has these alarms
RUN_LENGTH = 50.0  # times the hours of a ramp and its holdout, until a false alarm
_SUMS = ("n", "total", "squares")


@dataclass(frozen=True, slots=True)
class QuarterHour:
    """One metric of one step within one block of time."""

    step: int
    at: float  # its start, Unix seconds
    callers: tuple[CallerSums, ...]


@dataclass(frozen=True, slots=True)
class QuarterHours:
    """One metric by blocks of time, in order."""

    metric: str
    sign: float  # 1: more is better; -1 means that less is better
    bounded: bool  # values are in [0, 1]
    blocks: tuple[QuarterHour, ...]
    before: ServedSums = field(default_factory=ServedSums)
    """The control's units before the first block. Its rate over few bursts of failures could be low by chance."""
    pace: AlarmPace = BY_QUARTERS
    history_s: float = 0.0
    """Seconds at the beginning that are no evidence, as BlockSums has them."""

    @property
    def history(self) -> int:
        """The number of blocks in these seconds."""
        return sum(block.at < self.blocks[0].at + self.history_s for block in self.blocks)


@dataclass(frozen=True, slots=True)
class BlockAlarmTerms:
    """The margins of the alarms, and their common run length."""

    alarms: AlarmTerms
    quarter_s: float
    run_length: float  # hours, of four quarters each

    @classmethod
    def of(cls, plan: Plan) -> BlockAlarmTerms:
        quarter_s = block_seconds(plan)
        hour_s = QUARTERS_AN_HOUR * quarter_s
        return cls(AlarmTerms.of(plan), quarter_s, max(RUN_LENGTH * watched_hours_s(plan) / hour_s, RUN_LENGTH))

    def of_metric(self, v: QuarterHours) -> BlockTerms:
        if v.metric == P95:
            return BlockTerms(v.sign, 0.0, v.bounded, pace=v.pace)  # its values contain the margin
        plan = self.alarms.plan
        if v.metric in FAILURES and plan is not None:
            least, share = error_margin(plan, 0.0), error_margin(plan, 1.0)
            return BlockTerms(v.sign, least, v.bounded, True, share, v.pace)
        return BlockTerms(v.sign, self.alarms.margins[v.metric], v.bounded, v.metric in FAILURES, pace=v.pace)

    def limit(self, pace: AlarmPace, error: float) -> float:
        """The evidence from which on an alarm rings. error: its share of the metric's."""
        metrics = len(self.alarms.margins) if pace is BY_QUARTERS else 1
        return log_limit(self.run_length * pace.starts_an_hour, metrics / (pace.share * error))


def block_seconds(plan: Plan) -> float:
    """A quarter of an hour, or of the soak time if that is less."""
    return BLOCK_S if plan.ramp is None else min(BLOCK_S, max(plan.ramp.soak_s / 4, 1.0))


def watched_hours_s(plan: Plan) -> float:
    """Seconds of a ramp and its holdout: the steps take their soak time, or `min_hours` if that is more."""
    if plan.ramp is None:
        return WATCHED_S
    steps_s = max(len(plan.ramp.steps) * plan.ramp.soak_s, 3600.0 * plan.min_hours)
    return steps_s + (plan.ramp.holdout_days * DAY_S if plan.ramp.holdout else WATCHED_S)


def block_alarms(values: Sequence[QuarterHours], terms: BlockAlarmTerms) -> tuple[ServedFinding, ...]:
    """The finding of each metric that has an alarm and a block of both arms. Of two for one metric it is the first that
    is raised, or that rests on one caller."""
    watched = [v for v in values if v.metric in terms.alarms.margins]
    found: dict[str, ServedFinding] = {}
    for v in watched:
        finding, known = block_finding(v, terms), found.get(v.metric)
        if finding is not None and (known is None or _says_more(finding, known)):
            found[v.metric] = finding
    return tuple(found.values())


def _says_more(finding: ServedFinding, known: ServedFinding) -> bool:
    return (finding.raised, bool(finding.rests_on)) > (known.raised, bool(known.rests_on))


def blind_by_blocks(values: Sequence[QuarterHours], terms: BlockAlarmTerms, step: int) -> bool:
    """Whether no alarm on errors would have rung even if the candidate had failed with every unit of this step."""
    for v in values:
        if v.metric == ERRORS and any(block.step == step for block in v.blocks):
            dead = tuple(_failed(block) if block.step == step else block for block in v.blocks)
            found = block_finding(replace(v, blocks=dead), terms)
            if found is not None and found.raised:
                return False
    return True


def _failed(block: QuarterHour) -> QuarterHour:
    callers = (replace(c, b=ServedSums(c.b.n, float(c.b.n), float(c.b.n))) for c in block.callers)
    return replace(block, callers=tuple(callers))


def block_finding(v: QuarterHours, terms: BlockAlarmTerms) -> ServedFinding | None:
    """The finding of one metric; None without a block of both arms."""
    table, rests_on = _CallerTable.of(v, terms), ""
    plain = table.excursion(table.everybody())
    if plain is None:
        return None
    looks = list(looks_at(table.callers))
    for look in looks:
        for kept, error in without_hiders(look, 1.0 / len(looks)):
            rung = table.rings(kept, error)
            if rung is None:
                continue
            speaker = speaker_of(v.sign, table.within(kept, rung))
            left = [caller for caller in kept if caller.sums.caller != speaker]
            again = rung if speaker is None else table.rings(left, error)
            if again is not None:
                return table.finding(left, again, "inferior")
            rests_on = rests_on or str(speaker)
    return replace(table.finding(table.everybody(), plain, "unclear"), rests_on=rests_on)


@dataclass(frozen=True, slots=True)
class _CallerTable:
    """The sums of each caller by block: an array of shape (callers, blocks, arms, 3) for n, total and squares."""

    v: QuarterHours
    terms: BlockAlarmTerms
    of_metric: BlockTerms
    callers: tuple[CallerSums, ...]  # each over all blocks
    sums: Floats

    @classmethod
    def of(cls, v: QuarterHours, terms: BlockAlarmTerms) -> _CallerTable:
        names = sorted({c.caller for block in v.blocks for c in block.callers})
        row = {name: i for i, name in enumerate(names)}
        sums, calls = np.zeros((len(names), len(v.blocks), 2, 3)), dict.fromkeys(names, 0)
        for i, block in enumerate(v.blocks):
            for c in block.callers:
                sums[row[c.caller], i] += [[getattr(arm, name) for name in _SUMS] for arm in (c.a, c.b)]
                calls[c.caller] += c.calls
        totals = sums.sum(axis=1).tolist()
        callers = tuple(_caller(name, calls[name], total) for name, total in zip(names, totals, strict=True))
        return cls(v, terms, terms.of_metric(v), callers, sums)

    def everybody(self) -> list[WeightedCaller]:
        return [WeightedCaller(caller, 1.0) for caller in self.callers]

    def excursion(self, kept: Sequence[WeightedCaller]) -> Excursion | None:
        return excursion(self._blocks(kept), self.of_metric)

    def rings(self, kept: Sequence[WeightedCaller], error: float) -> Excursion | None:
        """The evidence of these callers, if it reaches the limit. error: its share of the metric's."""
        found = self.excursion(kept) if kept else None
        limit = self.terms.limit(self.v.pace, error)
        return found if found is not None and found.log_evidence >= limit else None

    def within(self, kept: Sequence[WeightedCaller], of: Excursion) -> list[WeightedCaller]:
        """The same callers, with their sums over the blocks of the excursion alone."""
        first, last = self._places(kept, of)
        calls = {caller.caller: caller.calls for caller in self.callers}
        row = {caller.caller: i for i, caller in enumerate(self.callers)}
        totals = {name: self.sums[i, first : last + 1].sum(axis=0).tolist() for name, i in row.items()}
        return [
            WeightedCaller(_caller(w.sums.caller, calls[w.sums.caller], totals[w.sums.caller]), w.weight) for w in kept
        ]

    def finding(self, kept: Sequence[WeightedCaller], of: Excursion, found: str) -> ServedFinding:
        first, last = self._places(kept, of)
        n, total, _ = np.moveaxis(self._weighted(kept)[first : last + 1].sum(axis=0), 1, 0)
        a, b = (float(total[arm] / n[arm]) if n[arm] else 0.0 for arm in (0, 1))
        return ServedFinding(
            metric=self.v.metric,
            step=self.v.blocks[last].step,
            difference=Estimate(self.v.sign * (b - a)),
            margin=self._margin(),
            found="inferior" if found == "inferior" else "unclear",
            units=(round(float(n[0])), round(float(n[1]))),
            callers=len(self.callers),
            since=self.v.blocks[first].at,
        )

    def _margin(self) -> float:
        """The margin as it is shown: that of failures follows the control's rate."""
        if not self.of_metric.failures:
            return self.terms.alarms.margins[self.v.metric]
        n, total = self.sums[:, :, 0, :2].sum(axis=(0, 1)).tolist()
        return max(self.of_metric.margin, self.of_metric.of_control * total / n if n else 0.0)

    def _weighted(self, kept: Sequence[WeightedCaller]) -> Floats:
        weights = {w.sums.caller: w.weight for w in kept}
        return np.tensordot(np.array([weights.get(c.caller, 0.0) for c in self.callers]), self.sums, axes=1)

    def _blocks(self, kept: Sequence[WeightedCaller]) -> BlockSums:
        sums = self._weighted(kept)
        pace = self.v.pace
        apart_s = pace.between_starts * self.terms.quarter_s / pace.in_a_quarter
        starts = np.array([math.floor(block.at / apart_s + 1e-9) for block in self.v.blocks], dtype=np.int64)
        before = (self.v.before.n, self.v.before.total, self.v.before.squares)
        return BlockSums(sums[..., 0], sums[..., 1], sums[..., 2], starts, before, self.v.history)

    def _places(self, kept: Sequence[WeightedCaller], of: Excursion) -> tuple[int, int]:
        """First and last block of an excursion, whose indices are of blocks with units in both arms."""
        known = self._blocks(kept).with_both()
        return int(known[of.first]), int(known[of.last])


def _caller(name: str, calls: int, sums: Sequence[Sequence[float]]) -> CallerSums:
    a, b = (ServedSums(*arm) for arm in sums)
    return CallerSums(name, calls, a, b)
