"""The times at which a ramp was at each of its steps."""

from __future__ import annotations

import math
from dataclasses import replace

from gateway.core.ramp import RampChange, RampDesign, RampEvent, RampRecord, advanced, overridden, rolled_back, started
from gateway.ramps.periods import WATCHED_S, StepPeriod, periods_of

DESIGN = RampDesign((0.1, 0.5, 1.0), 0.0, 1)


def at(seconds: float) -> RampChange:
    return RampChange(seconds, "t", "t")


def events(*records: RampRecord) -> list[RampEvent]:
    before = [None, *((r.state, r.step) for r in records)]
    return [RampEvent(f"{i}-0", record, before[i], {}) for i, record in enumerate(records)]


def test_the_periods_are_those_of_the_present_run() -> None:
    first = started("swap", "p", at(0))
    one = advanced(first, DESIGN, at(10))
    two = advanced(one, DESIGN, at(20))
    assert periods_of(events(first, one, two)) == [StepPeriod(0, 10, 20), StepPeriod(1, 20, math.inf)]
    back = rolled_back(two, at(30), 0.0)
    assert periods_of(events(first, one, two, back))[-1] == StepPeriod(1, 20, 30)
    forced = overridden(back, DESIGN, at(40))
    assert periods_of(events(first, one, two, back, forced)) == [StepPeriod(0, 40, math.inf)]
    last = replace(two, step=2, since=30)
    done = advanced(last, DESIGN, at(40))
    assert periods_of(events(first, one, two, last, done))[-1] == StepPeriod(2, 30, 40 + WATCHED_S)
    undone = rolled_back(done, at(50), 0.0)
    assert periods_of(events(first, one, two, last, done, undone))[-1] == StepPeriod(2, 30, 50)
    restored = RampEvent("9-0", replace(two, version=9), None, {})
    assert periods_of([*events(first, one, two), restored]) == [StepPeriod(0, 10, 20), StepPeriod(1, 20, math.inf)]
    again = started("swap", "p", at(50), back)
    assert periods_of(events(first, one, two, back, again)) == []
