"""Evidence for the next step of a guard's ramp: how often it has a hit, and what its action does to the calls. Pure.

The share of calls with a hit is known of every unit, acted on or not, from the first phase on: a step needs it shown to
be below its maximum, and is taken back where it is shown to be above. Bad feedback and retries are compared between the
units that are acted on (the candidate) and the others (the control), as a ramp compares what its arms served: alarms at
every step, and a proof before the guard acts on every unit. The verdict's part of alpha is for what has to be shown,
the rest for the alarms.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gateway.core.guard_ramp import CountedCall, GuardRampDesign
from gateway.core.plan import CANDIDATE, CONTROL
from gateway.core.ramp import VERDICT_PART, RampEvent, RampPace, RampRecord
from gateway.core.served_answer import ServedAnswer
from gateway.ramps.alarms import AlarmTerms
from gateway.ramps.block_proof import BlockProofTerms, block_proof
from gateway.ramps.blocks import BLOCK_S, BlockClock, BlockRows
from gateway.ramps.callers import caller_alarms, cannot_ring, foe_of, friend_of
from gateway.ramps.evidence import RampEvidence, ServedFinding
from gateway.ramps.periods import SETTLES_S, StepPeriod, periods_of
from gateway.ramps.sample_ratio import ratio_alarm
from gateway.ramps.step_values import ServedSums, StepValues, values_by_caller
from gateway.reports.model import Verdict
from gateway.statistics.bernoulli import bernoulli_interval
from gateway.statistics.domains import Floats
from gateway.verdict.sentence import MOST
from gateway.verdict.short_names import shortened
from gateway.verdict.split.callers import may_be_left_out
from gateway.verdict.split.outcomes import ArmOutcomes

THUMBS_DOWN, RETRIES = "thumbs_down", "retries"
UNIT = "a conversation, or a key with its end user"
FIRST = -1
"""The step of the phase in which no unit has the last action."""
_N_OPT = 500.0  # units at which the bounds of the share with a hit are tightest


@dataclass(frozen=True, slots=True)
class BlockRate:
    """The share of a unit's calls with a hit, averaged over the units, with bounds that are valid at every look."""

    rate: float
    low: float
    """The alarm's bound."""
    high: float
    """The bound of what has to be shown."""
    max: float
    units: int
    rests_on: str = ""
    """The one caller without whom it is not shown to be above the maximum, or below; "": none."""

    @property
    def raised(self) -> bool:
        return self.low > self.max and not self.rests_on

    @property
    def shown(self) -> bool:
        return self.high <= self.max and not self.rests_on

    @property
    def verdict(self) -> Verdict:
        return "reject" if self.raised else "ship" if self.shown else "hold"

    def says(self) -> str:
        of = f"{self.units} units"
        if self.raised:
            least = f"at least {self.low:.3g}; at most {self.max:g} may"
            return f"block rate: {self.rate:.3g} of calls have a hit, {least} ({of})"
        if self.shown:
            return f"block rate: {self.rate:.3g} of calls have a hit, at most {self.high:.3g} ({of})"
        if self.low > self.max:
            return (
                f"block rate: more than {self.max:g} of calls have a hit, in the calls of {self.rests_on} alone, which "
                "take nothing back; look at them"
            )
        without = f" without {self.rests_on}" if self.rests_on else ""
        return (
            f"the block rate is not shown to be below {self.max:g}{without} yet: {self.rate:.3g} of calls have a hit, "
            f"at most {self.high:.3g} ({of})"
        )

    def fields(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("rate", "low", "high", "max", "units", "rests_on")}


@dataclass(frozen=True, slots=True)
class GuardCalls:
    """Facts on the calls since a ramp began."""

    calls: Sequence[CountedCall]
    """Oldest first."""
    thumbs_down: Collection[str] = ()
    """The exchanges with bad feedback."""


@dataclass(frozen=True, slots=True)
class PromotionEvidence:
    """Evidence for a decision about a guard, at one moment."""

    ramp: RampEvidence
    block_rate: BlockRate
    newest: float | None
    """Arrival of the newest call, Unix seconds."""
    failing: str = ""
    """Reason why the guard gives no decision in a gateway process; "" if it gives some."""

    def for_step(self, record: RampRecord, design: GuardRampDesign, now: float, pace: RampPace) -> RampEvidence:
        """The evidence as the engine of ramps decides on it, with what only a guard's step waits for."""
        own = {"newest": self.newest, "block_rate": self.block_rate.fields()}
        return replace(self.ramp, waits=tuple(_waits(record, design, self, now, pace)), own=own)


def guard_periods(events: Sequence[RampEvent]) -> list[StepPeriod]:
    """The first phase and the steps of the present run, in order; empty: none has begun. events: of one plan."""
    begun = [e for e in events if e.moved and e.record.state == "shadow"]
    if not begun:
        return []
    start = begun[-1].record.since
    steps = [p for p in periods_of(events) if p.start >= start]
    return [StepPeriod(FIRST, start, steps[0].start if steps else math.inf), *steps]


def promotion_evidence(
    design: GuardRampDesign, periods: Sequence[StepPeriod], found: GuardCalls, now: float, *, late_blocks: bool = False
) -> PromotionEvidence:
    """periods: from guard_periods, not empty. late_blocks: a call without a score is refused, too."""
    rate = block_rate(design, found.calls, late_blocks=late_blocks)
    compared = compare(design, periods, found, now)
    here, newest = periods[-1], found.calls[-1].received if found.calls else None
    acted = [c for c in found.calls if c.action == design.to and here.start + SETTLES_S <= c.received < here.end]
    ramp = RampEvidence(
        at=now,
        verdict=rate.verdict,
        sentence=rate.says(),
        served=(*compared.alarms, *(p for p in compared.proofs if p.raised)),
        proofs=compared.proofs,
        units=len({(c.caller, c.unit) for c in acted}),
        unit=UNIT,
        requests=len(acted),
        blind=compared.blind,
        newest=now,
        ratio=_ratio(design, here, found.calls),
        headline=shortened(rate.says(), MOST),
    )
    return PromotionEvidence(ramp, rate, newest)


def block_rate(design: GuardRampDesign, calls: Sequence[CountedCall], *, late_blocks: bool) -> BlockRate:
    units: dict[str, dict[str, list[bool]]] = {}
    for call in calls:
        hit = call.result == "hit" or (late_blocks and call.result == "failed")
        units.setdefault(call.caller, {}).setdefault(call.unit, []).append(hit)
    sums = {caller: _sums(each.values()) for caller, each in units.items()}
    whole = _rate(design, list(sums.values()))
    if not whole.raised and not whole.shown:
        return whole
    others = may_be_left_out(Counter(call.caller for call in calls))
    if others:
        # The caller without whom the rate is lowest could raise the alarm alone; without whom it is highest, hide it.
        without = {caller: _mean([s for name, s in sums.items() if name != caller]) for caller in others}
        caller = (min if whole.raised else max)(without, key=lambda name: without[name])
        again = _rate(design, [s for name, s in sums.items() if name != caller])
        if (again.raised, again.shown) != (whole.raised, whole.shown):
            return replace(whole, rests_on=caller)
    return whole


def _sums(units: Collection[list[bool]]) -> ServedSums:
    return ServedSums.of(np.array([sum(hits) / len(hits) for hits in units]))


def _mean(sums: Sequence[ServedSums]) -> float:
    n = sum(s.n for s in sums)
    return sum(s.total for s in sums) / n if n else 0.0


def _rate(design: GuardRampDesign, sums: Sequence[ServedSums]) -> BlockRate:
    n, total = sum(s.n for s in sums), math.fsum(s.total for s in sums)
    if n < 1:
        return BlockRate(0.0, 0.0, 1.0, design.max_block_rate, 0)
    total = min(total, n)
    low, _ = bernoulli_interval(total, n, _alarm_alpha(design), _N_OPT)
    _, high = bernoulli_interval(total, n, design.alpha * VERDICT_PART / 2, _N_OPT)
    return BlockRate(total / n, low, high, design.max_block_rate, round(n))


def _alarm_alpha(design: GuardRampDesign) -> float:
    """The error of one alarm: that of the block rate, and those of each metric at each step, share what is left."""
    return (1.0 - VERDICT_PART) * design.alpha / (1 + len(design.steps) * len(_margins(design)))


def _margins(design: GuardRampDesign) -> dict[str, float]:
    found = {THUMBS_DOWN: design.thumbs_down, RETRIES: design.retries}
    return {name: margin for name, margin in found.items() if margin is not None}


@dataclass(frozen=True, slots=True)
class Compared:
    """The units that are acted on, and the others."""

    alarms: tuple[ServedFinding, ...] = ()
    proofs: tuple[ServedFinding, ...] = ()
    blind: bool = False
    """No alarm could ring at the present step yet, were every call that is acted on retried and disliked."""


def compare(design: GuardRampDesign, periods: Sequence[StepPeriod], found: GuardCalls, now: float) -> Compared:
    margins = _margins(design)
    if not margins or periods[-1].step == FIRST:
        return Compared()
    of_calls = {THUMBS_DOWN: _thumbs(found), RETRIES: _retried(found.calls, design.retry_s, now)}
    clock = BlockClock(min(BLOCK_S, max(design.soak_s / 4, 1.0)), now)
    values: list[StepValues] = []
    blocks = {name: BlockRows(name, -1.0, True) for name in margins}
    # At the last step all units are acted on: calls of others are stragglers of workers that had not read the step.
    for period in (each for each in periods[1:] if design.steps[each.step] < 1.0):
        places = [i for i, c in enumerate(found.calls) if period.start + SETTLES_S <= c.received < period.end]
        here = [_answer(found.calls[i], design) for i in places]
        if not here:
            continue
        for name in margins:
            of = ArmOutcomes(name, of_calls[name][places], -1.0, True)
            values.append(replace(values_by_caller(here, of, period.step), exact=True))
            late_s = design.retry_s if name == RETRIES else 0.0
            blocks[name].add(clock.places(period, here, late_s), here, of.values)
    proofs = tuple(_proof(blocks[name], values, name, design) for name in margins)
    terms = AlarmTerms(margins, _alarm_alpha(design))
    return Compared(caller_alarms(values, terms), proofs, _blind(values, periods[-1].step, terms))


def _answer(call: CountedCall, design: GuardRampDesign) -> ServedAnswer:
    arm = CANDIDATE if call.action == design.to else CONTROL
    none = (None, None, None)
    return ServedAnswer(
        *(call.id, arm, call.unit, ("", "", "", ""), "ok", 200, 0.0),
        *none,
        1.0,
        None,
        call.received,
        caller=call.caller,
    )


def _thumbs(found: GuardCalls) -> Floats:
    return np.array([float(call.id in found.thumbs_down) for call in found.calls])


def _retried(calls: Sequence[CountedCall], retry_s: float, now: float) -> Floats:
    """1 for a call that the same prompt follows in time, 0 for any other; NaN where a retry may still come, and where
    the prompt is not known."""
    found = np.full(len(calls), math.nan)
    again: dict[str, float] = {}  # the next call with a prompt, going back in time
    for i in range(len(calls) - 1, -1, -1):
        call = calls[i]
        if call.asked is None:
            continue
        if call.received <= now - retry_s:
            found[i] = float(again.get(call.asked, math.inf) - call.received <= retry_s)
        again[call.asked] = call.received
    return found


def _proof(rows: BlockRows, values: Sequence[StepValues], name: str, design: GuardRampDesign) -> ServedFinding:
    """Whether the action is shown not to be worse, also without the caller who speaks most for it."""
    mine, margin = [v for v in values if v.metric == name], _margins(design)[name]
    terms = BlockProofTerms(design.alpha * VERDICT_PART, lambda _: margin)
    return block_proof(rows.of(friend_of(mine), foe_of(mine)), terms)


def _blind(values: Sequence[StepValues], step: int, terms: AlarmTerms) -> bool:
    here = [v for v in values if v.step == step and v.a.n and v.b.n]
    return bool(here) and cannot_ring(here, terms)


def _ratio(design: GuardRampDesign, here: StepPeriod, calls: Sequence[CountedCall]) -> str | None:
    """The alarm on the sample ratio of the present step; None if it fits."""
    share = design.steps[here.step] if here.step >= 0 else 0.0
    if not 0.0 < share < 1.0:
        return None
    units = {
        (c.caller, c.unit, c.action == design.to) for c in calls if here.start + SETTLES_S <= c.received < here.end
    }
    counts = Counter(CANDIDATE if acted else CONTROL for _, _, acted in units)
    return ratio_alarm(dict(counts), [], share) if counts else None


def _waits(
    record: RampRecord, design: GuardRampDesign, evidence: PromotionEvidence, now: float, pace: RampPace
) -> Iterator[str]:
    """Yields what a step of a guard waits for, besides what every ramp does."""
    if evidence.failing:
        yield f"the guard gives no decision: {evidence.failing}"
    left = design.soak_s - (now - record.since)
    if record.state == "shadow" and left > 0:
        yield f"soaks for another {math.ceil(left)} s before its first step"
    if evidence.newest is None:
        yield "no data: the guard has judged no call since its ramp began"
    elif now - evidence.newest > pace.stale_s:
        yield f"stale: the newest call that the guard judged is {now - evidence.newest:.0f} s old"
