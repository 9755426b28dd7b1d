"""Whole ramps of rules 3 with their whole holdout of 28 days, through the product's own evidence and decision: equal
candidates that fail in incidents and bursts, and candidates that break after the promotion. The table is printed.

As in test_traffic_worlds.py: 6 000 calls an hour, default steps, a look each quarter of an hour for two days. Later
looks are rarer, since the alarm rests on all quarter-hours since the look before.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import pytest

from gateway.core.ramp import RampChange, RampRecord, started
from gateway.ramps.decision import decide_ramp, follow
from tests.ramps.test_traffic_worlds import BLOCK_S, HOUR_S, LOOKS, MARGIN, PACE, Ramp, World, at_most, peak

FEW, MANY = 2, 400
HOLDOUT_H, BREAKS_H = 28 * 24.0, 30.0
DAY = 96  # looks
BURST = 30  # calls
INCIDENT = 0.6  # of a third of a quarter-hour, in which an arm fails every call: 3 minutes
INCIDENTS_A_THIRD = 0.01 / INCIDENT


@dataclass(frozen=True)
class HoldoutWorld:
    """The truth about the arms. Both fail in 1 % of the calls."""

    base: World = field(default_factory=World)
    failing: Literal["calls", "incidents", "bursts"] = "calls"
    errors: float = 0.0  # more of the candidate, from BREAKS_H after the promotion on
    quality: float = 0.0  # the same
    followed_h: float = HOLDOUT_H
    waits_h: float = 48.0  # for the promotion

    @property
    def breaks(self) -> bool:
        return bool(self.errors or self.quality)


STABLE = {
    "equal": HoldoutWorld(),
    "equal; errors 0.5 % at night, 6 % at the peak": HoldoutWorld(World(errors=peak)),
    "equal; incidents of 3 minutes": HoldoutWorld(failing="incidents", waits_h=1.5 * HOLDOUT_H),
    "equal; bursts of 30 calls": HoldoutWorld(failing="bursts", waits_h=HOLDOUT_H),
}
BROKEN = {
    "errors 1 % → 30 %": (HoldoutWorld(errors=0.29, followed_h=BREAKS_H + 48.0), 0.75),
    "errors 1 % → 10 %": (HoldoutWorld(errors=0.09, followed_h=BREAKS_H + 48.0), 2.0),
    "quality − 4 margins": (HoldoutWorld(quality=-4 * MARGIN, followed_h=BREAKS_H + 48.0), 24.0),
}


class HoldoutRamp(Ramp):
    """One simulated ramp, and its holdout."""

    def __init__(self, of: HoldoutWorld, seed: int) -> None:
        super().__init__(of.base, 3, seed)
        self.of, self.promoted_at = of, math.inf
        self.goes_on = [0.0, 0.0]  # of an incident in each arm, in the third that follows

    def run(self) -> tuple[RampRecord, float]:
        """The last record, and the hours after the promotion."""
        record = started("swap", "p", RampChange(0.0, "t", "t"))
        for look in range(1, round((self.of.waits_h + self.of.followed_h) * HOUR_S / BLOCK_S) + 1):
            now = look * BLOCK_S
            self.serve(record, now)
            over = now - self.promoted_at >= self.of.followed_h * HOUR_S
            late = record.state != "promoted" and now >= self.of.waits_h * HOUR_S
            if self.is_looked_at(look, record) or over or late:
                decision = decide_ramp(record, self.design, self.evidence(record, now), now, PACE)
                if decision.action != "hold":
                    record = follow(record, self.design, decision, now, PACE)
            if record.state == "promoted":
                self.promoted_at = min(self.promoted_at, now)
            if record.state == "rolled_back" or over or late:
                break
        return record, (now - self.promoted_at) / HOUR_S

    def is_looked_at(self, look: int, record: RampRecord) -> bool:
        if record.state == "promoted":
            return self.of.breaks or look % DAY == 0
        return look <= LOOKS or look % (DAY // 4) == 0

    def failed(self, arm: int, n: int, rate: float) -> int:
        if self.of.failing == "calls":
            return super().failed(arm, n, rate)
        if self.of.failing == "bursts":
            return min(n, BURST * int(self.rng.poisson(n * rate / BURST)))
        return int(self.rng.binomial(n, self.down(arm)))

    def down(self, arm: int) -> float:
        """The share of a third in which an arm is down: an incident begins at any moment, and may go on in the next."""
        down, self.goes_on[arm] = self.goes_on[arm], 0.0
        for begun in self.rng.random(self.rng.poisson(INCIDENTS_A_THIRD)):
            down += min(INCIDENT, 1.0 - begun)
            self.goes_on[arm] += max(0.0, begun + INCIDENT - 1.0)
        return min(1.0, down)

    def serve(self, record: RampRecord, now: float) -> None:
        broken = self.of.breaks and now > self.promoted_at + BREAKS_H * HOUR_S
        self.world = World(self.of.quality, more_errors=self.of.errors) if broken else self.of.base
        super().serve(record, now)


@dataclass(frozen=True)
class Played:
    """The ends of some ramps."""

    states: Counter[str]
    promoted: int  # at any time
    hours: list[float]  # from the break to the roll-back, in order


def played(name: str, of: HoldoutWorld, runs: int) -> Played:
    ramps = [HoldoutRamp(of, seed) for seed in range(runs)]
    ended = [ramp.run() for ramp in ramps]
    states = Counter(str(record.state) for record, _ in ended)
    after = sorted(ramp.promoted_at / HOUR_S for ramp in ramps)
    hours = sorted(h - BREAKS_H if record.state == "rolled_back" else math.inf for record, h in ended)
    ever = sum(math.isfinite(h) for h in after)
    shown = {state: f"{n / runs:.3f}" for state, n in states.items()}
    print(f"{runs} ramps, {name}: promoted {ever / runs:.3f}, after {after[runs // 2]:.1f} h; {shown}"  # noqa: T201
          + (f"; found after {hours[runs // 2]:.2f} h" if of.breaks else ""))  # fmt: skip
    return Played(states, ever, hours)


LONG = [pytest.mark.long, pytest.mark.timeout(36_000)]


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        pytest.param("equal", FEW, id="few: equal"),
        *(pytest.param(name, MANY, id=f"many: {name}", marks=LONG) for name in STABLE),
    ],
)
def test_equal_candidates_stay_promoted_over_the_holdout(name: str, runs: int) -> None:
    found = played(name, STABLE[name], runs)
    assert found.states["rolled_back"] <= at_most(runs, 0.02)
    assert found.promoted >= 0.9 * runs - 3 * math.sqrt(runs * 0.09)


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        *(pytest.param(name, FEW, id=f"few: {name}") for name in BROKEN),
        *(pytest.param(name, MANY, id=f"many: {name}", marks=LONG) for name in BROKEN),
    ],
)
def test_a_break_after_the_promotion_is_found(name: str, runs: int) -> None:
    """The median of the hours until the roll-back."""
    of, most_h = BROKEN[name]
    found = played(name, of, runs)
    assert found.promoted == runs
    assert found.hours[runs // 2] <= most_h
    assert found.hours[0] > 0.0, "nothing rang before the break"
