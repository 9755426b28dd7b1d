"""The times at which a ramp was at each of its steps. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.core.ramp import RampEvent

WATCHED_S = 86_400.0  # after the promotion, in which alarms still take the candidate back
SETTLES_S = 1.0  # until every gateway applies a new share


@dataclass(frozen=True, slots=True)
class StepPeriod:
    """The time in which a ramp was at one step."""

    step: int
    start: float  # Unix seconds
    end: float  # infinite: it still is


def periods_of(events: Sequence[RampEvent], watched_s: float = WATCHED_S) -> list[StepPeriod]:
    """The steps of the present run, in order. events: of one plan, oldest first. watched_s: how long what a promoted
    candidate serves is watched; infinite with a holdout.

    A run begins again after the shadow phase, and with an override: nothing from before it raises an alarm then.
    """
    found: list[StepPeriod] = []
    for event in events:
        if not event.moved:
            continue
        at = event.record.since
        if found and found[-1].end > at:
            found[-1] = replace(found[-1], end=at)
        if event.override or event.record.state == "shadow":
            found = []
        if found and (found[-1].step, found[-1].start) == (event.record.step, at):
            found.pop()  # the record was put back
        if event.record.state == "promoted" and found and found[-1].step == event.record.step:
            found[-1] = replace(found[-1], end=at + watched_s)
        elif event.record.state in ("ramp", "promoted"):
            end = math.inf if event.record.state == "ramp" else at + watched_s
            found.append(StepPeriod(event.record.step, at, end))
    return found
