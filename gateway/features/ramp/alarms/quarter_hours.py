"""Reads what a ramp's arms served by quarter-hours and callers, for the alarms of rules 3.

A quarter-hour is read once it is over, again for two hours, since scores may come late, and then kept in memory as sums
by caller: two hours of answers and a week of sums, however long the holdout is. Failures are summed by thirds of
quarter-hours too, and those of the present quarter-hour are read on their own. Everything follows from the store, so
that a consumer that starts again, or reads in another order, comes to the same sums.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gateway.core.plan import CONTROL, FEEDBACK, Plan, StoredPlan
from gateway.core.served_answer import ServedAnswer
from gateway.features.ramp.served import (
    drawn_stratum,
    keyed_units,
    served_calls,
    served_failures,
    served_outcomes,
)
from gateway.ramps.alarms import AlarmTerms
from gateway.ramps.block_alarm import WITHIN_QUARTERS
from gateway.ramps.block_callers import (
    BlockAlarmTerms,
    QuarterHour,
    QuarterHours,
    blind_by_blocks,
    block_alarms,
    block_seconds,
)
from gateway.ramps.blocks import SETTLED_S
from gateway.ramps.evidence import ServedFinding
from gateway.ramps.periods import SETTLES_S, StepPeriod
from gateway.ramps.step_values import CallerSums, ServedSums, values_by_caller
from gateway.statistics.domains import Floats
from gateway.store.query import Reading
from gateway.store.served_answers import served_answers
from gateway.store.served_sums import caller_failures
from gateway.verdict.price.terms import ERRORS
from gateway.verdict.sequences.latency import P95, SLOWEST
from gateway.verdict.split.outcomes import ArmOutcomes, has_failed

MOST_BLOCKS = 7 * 96  # that an alarm reads: a week of quarter-hours
HISTORY_BLOCKS = MOST_BLOCKS // 2  # of these that are no evidence, once earlier ones have been dropped
_DAY_BLOCKS = 96
_LATE_BLOCKS = 8  # that are read again
_AT_ONCE = 24  # blocks that one look reads
_FEWEST_SECONDS = 100  # of the control's earlier answers, from which their p95 is known

_NOTHING = ServedSums()
_Place = tuple[float, int]
"""Start of a block, and the step."""


@dataclass(frozen=True, slots=True)
class _Metric:
    """One metric of a block."""

    sign: float
    bounded: bool
    callers: tuple[CallerSums, ...]


@dataclass(frozen=True, slots=True)
class _Block:
    metrics: Mapping[str, _Metric]
    seconds: Floats
    """Durations of the control's answers."""


@dataclass(frozen=True, slots=True)
class RampAlarms:
    """The alarms of a ramp at one look."""

    found: tuple[ServedFinding, ...] = ()
    blind: bool = False
    """No alarm on errors could ring at this step yet, whatever the candidate did."""

    def beside(self, other: RampAlarms) -> RampAlarms:
        """Both together: one that sees is enough."""
        return RampAlarms((*self.found, *other.found), self.blind and other.blind)


@dataclass(slots=True)
class QuarterHourSums:
    """The quarter-hours of one ramp as they have been read so far."""

    at_once: float = _AT_ONCE
    """Blocks that one look reads at most."""
    _key: tuple[str, float] | None = None
    _blocks: dict[_Place, _Block] = field(default_factory=dict)
    _thirds: dict[_Place, tuple[CallerSums, ...]] = field(default_factory=dict)
    """Failures by thirds of quarter-hours."""
    _read_to: float = 0.0
    """Unix seconds up to which every block has been read."""
    _thirds_to: float = 0.0
    """The same of thirds."""
    _before: tuple[float, ServedSums] = (0.0, _NOTHING)
    """Failures of the control before the first block, and until when: whole days, each counted once."""
    _last: tuple[tuple[float, float, int], RampAlarms] | None = None
    """The alarms by what was read, and the step."""

    def alarms(self, connection: Reading, plan: StoredPlan, periods: Sequence[StepPeriod], now: float) -> RampAlarms:
        """The alarms by the blocks so far, computed again once there is a further one. periods: as `read` has them."""
        values = self.read(connection, plan, periods, now)
        key = (self._read_to, self._thirds_to, periods[-1].step if periods else -1)
        if self._last is None or self._last[0] != key:
            terms = BlockAlarmTerms.of(plan.plan)
            self._last = key, RampAlarms(block_alarms(values, terms), blind_by_blocks(values, terms, key[2]))
        return self._last[1]

    def read(
        self, connection: Reading, plan: StoredPlan, periods: Sequence[StepPeriod], now: float
    ) -> tuple[QuarterHours, ...]:
        """The complete blocks of the last week, by metric. periods: of the present run, in order."""
        if not periods:
            return ()
        block_s, begun = block_seconds(plan.plan), periods[0].start
        if self._key != (plan.hash, begun):
            self._key, self._blocks, self._read_to, self._last = (plan.hash, begun), {}, 0.0, None
            self._thirds, self._thirds_to = {}, 0.0
            self._before = math.floor(begun / block_s) * block_s, ServedSums()
        over = math.floor((now - min(SETTLED_S, block_s)) / block_s) * block_s
        oldest = self._oldest(connection, plan, begun, over - MOST_BLOCKS * block_s)
        if over > self._read_to:
            first = max(oldest, self._read_to - _LATE_BLOCKS * block_s)
            self._read_to = min(over, max(first, self._read_to) + self.at_once * block_s)
            self._read(connection, plan, periods, (first, self._read_to))
        self._blocks = {place: block for place, block in sorted(self._blocks.items()) if place[0] >= oldest}
        if over == self._read_to:
            self._read_thirds(connection, plan, periods, now)
        self._thirds = {place: third for place, third in sorted(self._thirds.items()) if place[0] >= oldest}
        dropped = oldest > math.floor(begun / block_s) * block_s
        return tuple(self._by_metric(HISTORY_BLOCKS * block_s if dropped else 0.0))

    def _oldest(self, connection: Reading, plan: StoredPlan, begun: float, wanted: float) -> float:
        """The start of the first block that is kept: up to a day before the one that is wanted."""
        at, before = self._before
        day_s = _DAY_BLOCKS * block_seconds(plan.plan)
        while at + day_s <= wanted:
            calls = replace(served_calls(plan, (CONTROL,), at, at + day_s), first=max(at, begun))
            found = caller_failures(connection, calls, empty_fails=plan.plan.empty == "failed")
            for _, *sums in found.values():
                before = before.plus(ServedSums(*sums))
            at += day_s
        self._before = at, before
        return at

    def _read(
        self, connection: Reading, plan: StoredPlan, periods: Sequence[StepPeriod], span: tuple[float, float]
    ) -> None:
        """Reads the blocks of a span of time, in order, in place of what was known of them."""
        self._blocks = {place: block for place, block in self._blocks.items() if place[0] < span[0]}
        rows, block_s = _rows(connection, plan, span), block_seconds(plan.plan)
        self._sum_thirds(plan.plan, periods, rows, span)
        for period in periods:
            for start, of_block in _by_start(rows, period, block_s):
                since = start - _LATE_BLOCKS * block_s
                slow = control_p95([b.seconds for (at, _), b in self._blocks.items() if at >= since])
                self._blocks[start, period.step] = _block(connection, plan.plan, of_block, period.step, slow)

    def _read_thirds(self, connection: Reading, plan: StoredPlan, periods: Sequence[StepPeriod], now: float) -> None:
        """Reads the failures since the last quarter-hour, once a further third is over."""
        third_s = block_seconds(plan.plan) / WITHIN_QUARTERS.in_a_quarter
        over = math.floor((now - min(SETTLED_S, third_s)) / third_s) * third_s
        if over > max(self._thirds_to, self._read_to):
            span = self._read_to, over
            self._sum_thirds(plan.plan, periods, _rows(connection, plan, span), span)

    def _sum_thirds(
        self, plan: Plan, periods: Sequence[StepPeriod], rows: Sequence[ServedAnswer], span: tuple[float, float]
    ) -> None:
        """Sums the failures of a span of time by thirds, in place of what was known of them."""
        third_s = block_seconds(plan) / WITHIN_QUARTERS.in_a_quarter
        self._thirds = {place: third for place, third in self._thirds.items() if place[0] < span[0]}
        for period in periods:
            for start, here in _by_start(rows, period, third_s):
                failures = values_by_caller(here, served_failures(plan, here), period.step)
                self._thirds[start, period.step] = failures.callers
        self._thirds_to = span[1]

    def _by_metric(self, history_s: float) -> Iterator[QuarterHours]:
        names = {name: metric for block in self._blocks.values() for name, metric in block.metrics.items()}
        for name, metric in sorted(names.items()):
            blocks = (
                QuarterHour(step, at, block.metrics[name].callers)
                for (at, step), block in self._blocks.items()
                if name in block.metrics
            )
            before = self._before[1] if name == ERRORS else ServedSums()
            yield QuarterHours(name, metric.sign, metric.bounded, tuple(blocks), before, history_s=history_s)
        thirds = tuple(QuarterHour(step, at, callers) for (at, step), callers in self._thirds.items())
        if thirds:
            yield QuarterHours(ERRORS, -1.0, True, thirds, self._before[1], WITHIN_QUARTERS, history_s)


def _by_start(
    rows: Sequence[ServedAnswer], period: StepPeriod, block_s: float
) -> Iterator[tuple[float, list[ServedAnswer]]]:
    """Yields the start of each block of a period, in order, with its answers."""
    here: dict[float, list[ServedAnswer]] = {}
    for row in rows:
        if period.start + SETTLES_S <= row.received < period.end:
            here.setdefault(math.floor(row.received / block_s) * block_s, []).append(row)
    yield from sorted(here.items())


def control_p95(parts: Sequence[Floats]) -> float | None:
    """The p95 of the control's answers in the last two hours; None if there are too few. parts: by block."""
    seconds = np.concatenate(parts) if parts else np.array([])
    return float(np.quantile(seconds, 1.0 - SLOWEST)) if seconds.size >= _FEWEST_SECONDS else None


def _rows(connection: Reading, plan: StoredPlan, span: tuple[float, float]) -> list[ServedAnswer]:
    arms, drawn = (CONTROL, plan.plan.candidates[0][0]), drawn_stratum(plan.plan)
    fails, keyed = plan.plan.empty == "failed", keyed_units(plan.plan)
    found = served_answers(connection, plan.hash, arms, *span, keyed=keyed, empty_fails=fails)
    return [row for row in found if row.cell[3] == drawn]


def _block(connection: Reading, plan: Plan, rows: Sequence[ServedAnswer], step: int, slow_s: float | None) -> _Block:
    margins = {name: m for name, m in AlarmTerms.of(plan).margins.items() if not name.startswith(FEEDBACK)}
    made = [of for of in served_outcomes(connection, plan, rows) if of.metric in margins]
    if P95 in margins and slow_s is not None:
        made.append(_slower(rows, slow_s, margins[P95]))
    metrics = {
        of.metric: _Metric(of.sign, of.bounded, values_by_caller(rows, replace(of, unscored=None), step).callers)
        for of in made
    }
    control = [row.total_s for row in rows if row.arm == CONTROL and not has_failed(row)]
    return _Block(metrics, np.array(control))


def _slower(rows: Sequence[ServedAnswer], slow_s: float, margin: float) -> ArmOutcomes:
    """Flags for answers slower than the control's p95 so far; the candidate's may take the margin more."""
    limits = (slow_s + (0.0 if row.arm == CONTROL else margin) for row in rows)
    values = [
        math.nan if has_failed(row) else float(row.total_s > limit) for row, limit in zip(rows, limits, strict=True)
    ]
    return ArmOutcomes(P95, np.array(values), -1.0, True)


def whole_week() -> QuarterHourSums:
    """Sums that one look reads completely."""
    return QuarterHourSums(at_once=math.inf)
