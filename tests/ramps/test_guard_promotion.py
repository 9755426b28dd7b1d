"""The evidence for a guard's next step, and the decision on it: block rate, bad feedback and retries, by unit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from gateway.core.guard_ramp import CountedCall, GuardRampDesign, guard_ramp_begun
from gateway.core.ramp import RampChange, RampDecision, RampEvent, RampPace, RampRecord
from gateway.features.ramp.webhooks import sentence_of
from gateway.ramps.decision import decide_ramp, follow
from gateway.ramps.guard_promotion import (
    GuardCalls,
    PromotionEvidence,
    block_rate,
    guard_periods,
    promotion_evidence,
)

DESIGN = GuardRampDesign("block", "observe", "c1", (0.05, 0.25, 1.0), 3600.0, 100, 0.02, 0.02, 0.02, 600.0, 0.05)
FEW = replace(DESIGN, steps=(0.25, 1.0), min_units=50, max_block_rate=0.5)
PACE = RampPace("auto", stale_s=3600.0)
START = 1_000_000.0


@dataclass(frozen=True)
class World:
    """The truth about a guard. Calls arrive evenly, two in each conversation."""

    hits: float = 0.005
    """Share of calls with a hit."""
    retried: float = 0.0
    """Share of the refused calls whose prompt is sent again."""
    disliked: float = 0.0
    """Share of the refused calls with a thumb down."""
    base: float = 0.01
    """Share of all other calls that are retried, and of those with a thumb down."""
    per_hour: int = 3_000
    callers: int = 20


@dataclass
class Ramp:
    """A ramp in a simulated world, moved as the consumer moves it."""

    world: World
    design: GuardRampDesign = DESIGN
    seed: int = 0
    record: RampRecord = field(init=False)
    events: list[RampEvent] = field(init=False)
    now: float = START
    calls: list[CountedCall] = field(default_factory=list)
    down: set[str] = field(default_factory=set)
    decision: RampDecision | None = None

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.record = guard_ramp_begun("own", self.design, RampChange(START, "ada", "as agreed"), None)
        self.events = [RampEvent("0", self.record, None, {})]

    def passes(self, seconds: float) -> None:
        """Makes the calls of some time, by the step in force."""
        world, share = self.world, self.record.share(self.design.ramp)
        units = int(world.per_hour * seconds / 3600 / 2)
        draws, hits = self.rng.random(units), self.rng.random((units, 2)) < world.hits
        reacts, likes = self.rng.random((units, 2)), self.rng.random((units, 2))
        for i in range(units):
            unit, acted = f"{self.now}-{i}", bool(draws[i] < share)
            at = self.now + seconds * i / units
            for j in range(2):
                refused = acted and bool(hits[i, j])
                again, bad = (world.retried, world.disliked) if refused else (world.base, world.base)
                made = [self._call(at + j, unit, i, bool(hits[i, j]), acted, f"{unit}-{j}")]
                if reacts[i, j] < again:
                    made.append(self._call(at + j + 30, unit, i, bool(hits[i, j]), acted, f"{unit}-{j}"))
                if likes[i, j] < bad:
                    self.down.add(made[0].id)
                self.calls += made
        self.now += seconds
        self.calls.sort(key=lambda call: call.received)

    def _call(self, at: float, unit: str, i: int, hit: bool, acted: bool, asked: str) -> CountedCall:
        action: Any = "block" if acted else "flag"
        id, caller = f"{len(self.calls)}-{at}-{asked}", f"key-{i % self.world.callers}"
        return CountedCall(id, at, caller, unit, action, "hit" if hit else "pass", asked)

    def evidence(self) -> PromotionEvidence:
        known = [call for call in self.calls if call.received <= self.now]
        return promotion_evidence(self.design, guard_periods(self.events), GuardCalls(known, self.down), self.now)

    def decides(self, evidence: PromotionEvidence, pace: RampPace = PACE) -> RampDecision:
        ready = evidence.for_step(self.record, self.design, self.now, pace)
        return decide_ramp(self.record, self.design.ramp, ready, self.now, pace)

    def look(self) -> RampRecord:
        self.decision = self.decides(self.evidence())
        if self.decision.action not in ("hold", "ready"):
            before, self.record = self.record, follow(self.record, self.design.ramp, self.decision, self.now, PACE)
            event = RampEvent(str(len(self.events)), self.record, (before.state, before.step), {})
            self.events.append(event)
        return self.record

    def runs(self, hours: float, every_s: float = 1800.0) -> RampRecord:
        """Lives for some hours, or until it has ended."""
        end = self.now + hours * 3600.0
        while self.now < end and self.record.state in ("shadow", "ramp"):
            self.passes(every_s)
            self.look()
        return self.record


def test_a_good_guard_reaches_every_unit() -> None:
    ramp = Ramp(World(hits=0.005))
    assert ramp.runs(12).state == "promoted", ramp.decision
    assert [e.kind for e in ramp.events] == ["begun", "advanced", "advanced", "advanced", "promoted"]
    assert [e.record.step for e in ramp.events] == [-1, 0, 1, 2, 2]


def test_a_guard_that_hits_too_much_refuses_nobody() -> None:
    """The block rate of the guard is known before it refuses anything."""
    ramp = Ramp(World(hits=0.06))
    assert ramp.runs(12).state == "rolled_back"
    assert [e.kind for e in ramp.events] == ["begun", "rolled_back"]
    assert "block rate: 0.0" in ramp.record.reason
    assert "at most 0.02 may" in ramp.record.reason


@pytest.mark.parametrize(("harm", "metric"), [({"retried": 1.0}, "retries"), ({"disliked": 1.0}, "thumbs_down")])
def test_a_guard_whose_refusals_annoy_is_taken_back(harm: dict[str, float], metric: str) -> None:
    design = replace(DESIGN, max_block_rate=0.3)
    ramp = Ramp(World(hits=0.15, **harm), design)
    assert ramp.runs(12).state == "rolled_back", ramp.decision
    assert metric in ramp.record.reason
    assert ramp.events[-2].record.step < 2, "before it acts on every unit"


def test_margins_that_are_off_are_not_looked_at() -> None:
    design = replace(DESIGN, max_block_rate=0.3, retries=None, thumbs_down=None)
    ramp = Ramp(World(hits=0.15, retried=1.0, disliked=1.0), design)
    assert ramp.runs(12).state == "promoted", ramp.decision


def test_the_last_step_waits_for_the_proof() -> None:
    ramp = Ramp(World(hits=0.005, per_hour=600))
    while ramp.record.step < 1:
        ramp.passes(1800.0)
        ramp.look()
    ramp.passes(3700.0)
    ramp.look()
    assert (ramp.record.step, ramp.decision and ramp.decision.action) == (1, "hold")
    said = "; ".join([ramp.decision.reason, *ramp.decision.also]) if ramp.decision else ""
    assert "not shown to be harmless on served answers yet" in said


def test_stragglers_do_not_hold_the_last_step() -> None:
    """A worker that read the step late has given some units the earlier action."""
    ramp = Ramp(World())
    while ramp.record.step < 2:
        ramp.passes(1800.0)
        ramp.look()
    ramp.passes(3600.0)
    late = [replace(c, id=f"late-{c.id}", action="flag", received=ramp.record.since + 60.0) for c in ramp.calls[-3:]]
    ramp.calls = sorted([*ramp.calls, *late], key=lambda call: call.received)
    assert ramp.look().state == "promoted", ramp.decision


def test_unknown_prompts_are_no_proof() -> None:
    ramp = Ramp(World(hits=0.001, per_hour=1_000), FEW)
    for _ in range(8):
        ramp.passes(1800.0)
        ramp.calls = [replace(call, asked=None) for call in ramp.calls]
        ramp.look()
    assert ramp.record.step == 0, "retries cannot be seen"
    assert ramp.decision is not None
    assert "retries is not shown" in "; ".join([ramp.decision.reason, *ramp.decision.also])
    assert "thumbs_down is not shown" not in "; ".join([ramp.decision.reason, *ramp.decision.also])


def counted(callers: Sequence[tuple[str, int, int]]) -> Iterator[CountedCall]:
    """callers: (name, units, units with a hit); one call each."""
    for name, units, hits in callers:
        for i in range(units):
            result: Any = "hit" if i < hits else "pass"
            yield CountedCall(f"{name}-{i}", START + i, name, f"{name}-{i}", "flag", result, None)


@pytest.mark.parametrize(
    ("callers", "verdict", "rests_on"),
    [
        ([("a", 400, 0), ("b", 300, 0), ("c", 300, 1)], "ship", ""),
        ([("a", 400, 40), ("b", 300, 30), ("c", 300, 30)], "reject", ""),
        ([("a", 400, 2), ("b", 400, 2), ("attacker", 200, 200)], "hold", "attacker"),
        ([("a", 1000, 100)], "reject", ""),
        ([("flood", 2000, 0), ("a", 1100, 22), ("b", 1100, 22)], "hold", "flood"),
        ([("a", 20, 0)], "hold", ""),
        ([], "hold", ""),
    ],
)
def test_one_caller_neither_raises_nor_hides_a_block_rate(
    callers: list[tuple[str, int, int]], verdict: str, rests_on: str
) -> None:
    found = block_rate(DESIGN, list(counted(callers)), late_blocks=False)
    assert (found.verdict, found.rests_on) == (verdict, rests_on), found.says()


def test_a_call_without_a_score_counts_where_it_is_refused() -> None:
    calls = [replace(call, result="failed") for call in counted([("a", 600, 0)])]
    assert block_rate(DESIGN, calls, late_blocks=True).verdict == "reject"
    assert block_rate(DESIGN, calls, late_blocks=False).verdict == "ship"


def test_units_that_do_not_fit_the_share_pause() -> None:
    ramp = Ramp(World())
    while ramp.record.step < 0:
        ramp.passes(1800.0)
        ramp.look()
    before = len(ramp.calls)
    ramp.passes(3600.0)
    ramp.calls = [*ramp.calls[:before], *(replace(call, action="block") for call in ramp.calls[before:])]
    ramp.look()
    assert ramp.record.paused
    assert "sample ratio" in ramp.record.reason


@pytest.mark.parametrize(
    ("changes", "waits"),
    [
        ({"newest": None}, "no data"),
        ({"newest": START - 7200}, "stale"),
        ({"failing": "timeout"}, "the guard gives no decision: timeout"),
    ],
)
def test_a_step_waits_for(changes: dict[str, Any], waits: str) -> None:
    ramp = Ramp(World())
    ramp.passes(7200.0)
    found = ramp.decides(replace(ramp.evidence(), **changes))
    assert (found.action, waits in found.reason) == ("hold", True), found


def test_a_webhook_says_it_in_one_line() -> None:
    ramp = Ramp(World())
    ramp.runs(3)
    evidence = ramp.evidence().for_step(ramp.record, ramp.design, ramp.now, PACE).fields()
    assert ramp.record.step >= 0
    said = [sentence_of(replace(event, evidence=evidence)) for event in ramp.events]
    assert all(sentence.startswith("block rate: 0.0") and len(sentence) <= 90 for sentence in said), said


def test_a_caller_alone_holds_and_is_named() -> None:
    """One of twenty callers sends each refused prompt again and again, in conversations of its own."""
    design = replace(DESIGN, max_block_rate=0.3, thumbs_down=None)
    ramp = Ramp(World(hits=0.05), design)
    while ramp.record.step < 1:
        ramp.passes(1800.0)
        ramp.look()
    ramp.passes(3600.0)
    start = ramp.record.since + 60.0
    for i in range(2_000):
        acted = i % 4 == 0
        for at in (start + i, start + i + 0.5) if acted else (start + i,):
            call = CountedCall(f"bot-{i}-{at}", at, "bot", f"bot-{i}", "block" if acted else "flag", "hit", f"bot-{i}")
            ramp.calls.append(call)
    ramp.calls.sort(key=lambda call: call.received)
    ramp.look()
    assert (ramp.record.state, ramp.record.step) == ("ramp", 1)
    assert ramp.decision is not None
    said = "; ".join([ramp.decision.reason, *ramp.decision.also])
    assert "retries is worse in the calls of bot alone, which roll nothing back; look at them" in said
    assert "override" not in said


def test_advise_waits_for_a_person_and_names_the_command() -> None:
    ramp = Ramp(World())
    ramp.passes(7200.0)
    found = ramp.decides(ramp.evidence(), replace(PACE, mode="advise"))
    assert found.action == "ready"
    assert "`gateway guard promote own`" in found.reason


RUNS = 200
AT_MARGIN = {
    "block rate at its maximum": (World(hits=0.02, per_hour=1_000), DESIGN),
    "retries at their margin": (World(hits=0.2, retried=0.21, per_hour=400), replace(FEW, retries=0.04)),
    "bad feedback at its margin": (World(hits=0.2, disliked=0.21, per_hour=400), replace(FEW, thumbs_down=0.04)),
}
"""Refused calls are retried (disliked) in 21 % instead of 1 %: 4 points more of all calls, at 20 % hits."""


def _ended(world: World, design: GuardRampDesign, runs: int, hours: float) -> tuple[float, float]:
    """Shares of ramps that were promoted, and rolled back."""
    states = [Ramp(world, design, seed).runs(hours).state for seed in range(runs)]
    return states.count("promoted") / runs, states.count("rolled_back") / runs


@pytest.mark.long
@pytest.mark.parametrize("name", AT_MARGIN)
def test_a_guard_that_harms_is_promoted_in_alpha_at_most(name: str) -> None:
    """The bound is alpha with three standard errors of 200 ramps, followed for eight hours."""
    promoted, rolled_back = _ended(*AT_MARGIN[name], RUNS, 8)
    assert promoted <= 0.05 + 3 * (0.05 * 0.95 / RUNS) ** 0.5, (promoted, rolled_back)


@pytest.mark.long
@pytest.mark.parametrize("world", [World(hits=0.005), World(hits=0.012, retried=0.3, disliked=0.3)])
def test_a_harmless_guard_gets_through(world: World) -> None:
    promoted, rolled_back = _ended(world, DESIGN, RUNS, 12)
    assert rolled_back <= 0.01 + 3 * (0.01 * 0.99 / RUNS) ** 0.5
    assert promoted >= 0.9
