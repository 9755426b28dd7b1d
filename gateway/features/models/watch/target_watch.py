"""The watch of one target of one alias, hour by hour: a baseline of 14 days, then evidence; a change begins the next.

Its state is JSON in the store. Series that begin later, such as those of a new scorer, have their own monitor. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import orjson

from gateway.features.models.watch.attribution import Cause, confined
from gateway.features.models.watch.cells import BASELINE_H, NEW_H
from gateway.features.models.watch.hourly_calls import HourOfTarget, cell_hours
from gateway.features.models.watch.monitor import CustomerShift, Monitor, Moved, WatchErrors
from gateway.features.models.watch.series import Direction, scorer_of
from gateway.statistics.adjusted_means import DAY_H

PROMPTS = "prompt length"
_SOME_EVIDENCE = math.log(10.0)
_LEAST_EVIDENCE = math.log(100.0)
"""ln of the evidence of a further series that is named with the one that rings."""


@dataclass(frozen=True, slots=True)
class Ringing:
    """Series that left their baseline."""

    hour: int
    """The hour with which it was noticed, since 1970."""
    moved: Sequence[Moved]
    """The series with the most evidence first."""
    customers: Sequence[CustomerShift] = ()
    """The deviations of that series since then."""
    prompts: float | None = None
    """Deviation of the prompts' length since then beyond its floor, in standard errors; None where it is unknown."""

    @property
    def since(self) -> int:
        return self.moved[0].since


@dataclass(frozen=True, slots=True)
class ModelChange:
    """A change that was noticed."""

    hour: int
    since: int
    """The hour at which it seems to have begun."""
    moved: Sequence[str]
    """Names of the series."""
    cause: Cause
    text: str


@dataclass(frozen=True, slots=True)
class TargetWatch:
    begun: int
    """The first hour of the baseline, since 1970."""
    monitors: Sequence[Monitor] = ()
    """Empty while the baseline is learned."""
    change: ModelChange | None = None
    """The newest change."""
    series: Sequence[str] = field(default=())
    """Names of the series of the last two weeks."""

    @property
    def ready_at(self) -> int:
        """The hour from which on the watch can ring."""
        return self.begun + BASELINE_H

    @property
    def apart(self) -> dict[str, int]:
        """Customers whose answers alone moved, and are left out, with the hour since which."""
        return {name: hour for monitor in self.monitors for name, hour in monitor.apart.items()}

    @property
    def watched(self) -> list[str]:
        return [name for monitor in self.monitors for name in monitor.series]


def advanced(
    before: TargetWatch | None, hours: Sequence[HourOfTarget], errors: WatchErrors
) -> tuple[TargetWatch, Ringing | None]:
    """Takes the last of these hours, which are those of BASELINE_H that have calls, in order.

    Where only the answers to one customer have moved, and those to others have not, the customer asks otherwise: it is
    left out until it has a baseline again.
    """
    newest = hours[-1].hour
    state = before or TargetWatch(newest)
    ringing = _ring(state, hours, errors)
    alone = None if ringing is None else confined(ringing.customers)
    if alone is not None:
        for monitor in state.monitors:
            monitor.leave_out(alone.customer, newest)
    elif ringing is not None:
        return TargetWatch(ringing.since, change=state.change, series=state.series), ringing
    if newest % DAY_H == 0 or not state.monitors:
        state = _learned(state, hours, errors)
    return state, None


def _ring(state: TargetWatch, hours: Sequence[HourOfTarget], errors: WatchErrors) -> Ringing | None:
    """Adds the newest hour to all monitors."""
    for monitor in state.monitors:
        monitor.add(cell_hours(hours, monitor.series, 1), len(hours) - 1)
    total = float(np.logaddexp.reduce([monitor.log_total for monitor in state.monitors] or [-np.inf]))
    statistics = sum(monitor.statistics for monitor in state.monitors)
    if not statistics or total - math.log(statistics) < errors.limit:
        return None
    named = [(moved, m) for m in state.monitors for moved in m.moved(cell_hours(hours, m.series), _LEAST_EVIDENCE)]
    named.sort(key=lambda pair: -pair[0].log_evidence)
    first, monitor = named[0]
    customers = monitor.customers(cell_hours(hours, monitor.series), first.series, first.since)
    return Ringing(hours[-1].hour, [moved for moved, _ in named], customers, _prompts(state, hours, first.since))


def _prompts(state: TargetWatch, hours: Sequence[HourOfTarget], since: int) -> float | None:
    for monitor in state.monitors:
        if PROMPTS in monitor.series:
            shifts = monitor.customers(cell_hours(hours, monitor.series), PROMPTS, since)
            return beyond(shifts, float(monitor.baseline.allowed[monitor.series.index(PROMPTS)]))
    return None


def beyond(shifts: Sequence[CustomerShift], floor: float) -> float | None:
    """The deviation of all customers together beyond a floor, in standard errors; None without calls."""
    weight, error = sum(shift.weight for shift in shifts), math.hypot(*(shift.error for shift in shifts))
    if not weight or not error:
        return None
    total = sum(shift.total for shift in shifts)
    return math.copysign(max(abs(total) - floor * weight, 0.0), total) / error


def scorer_moved(state: TargetWatch, scorer: str, direction: Direction, since: int) -> bool | None:
    """Whether the score of a scorer has moved on this target as well; None if that is not watched."""
    names = [name for name in state.series if scorer_of(name) == scorer]
    if state.change is not None and state.change.hour >= since and set(names) & set(state.change.moved):
        return True
    for monitor in state.monitors:
        for k, name in enumerate(monitor.series):
            if scorer_of(name) == scorer:
                return monitor.evidence(k, direction) >= _SOME_EVIDENCE
    return None


def _learned(state: TargetWatch, hours: Sequence[HourOfTarget], errors: WatchErrors) -> TargetWatch:
    """Adds a monitor of the series that have had a baseline since, and the cells of new customers."""
    newest = hours[-1].hour
    known = set(state.watched)
    series = list(dict.fromkeys(name for hour in hours for name in hour.series))
    if newest < state.begun + BASELINE_H - 1:
        return replace(state, series=series)
    mine = [hour for hour in hours if hour.hour >= state.begun]
    early = {name for hour in mine if hour.hour <= max(newest - NEW_H, state.begun + DAY_H) for name in hour.series}
    new = [name for name in series if name not in known and name in early and _values(mine, name)]
    for monitor in state.monitors:
        known_hours = cell_hours(hours, monitor.series)
        monitor.renew(known_hours)
        monitor.admit(known_hours)
    begun = Monitor.begun(cell_hours(mine, new), errors) if new and mine else None
    return replace(state, monitors=[*state.monitors, *([begun] if begun else [])], series=series)


def _values(hours: Sequence[HourOfTarget], name: str) -> bool:
    """Whether the series has a value in the first and in the second half of the hours."""
    seen = [hour.sums[:, hour.series.index(name), 0].sum() > 0 for hour in hours if name in hour.series]
    return any(seen[: len(seen) // 2]) and any(seen[len(seen) // 2 :])


def watch_to_json(watch: TargetWatch) -> str:
    row = {
        "begun": watch.begun,
        "monitors": [monitor.state() for monitor in watch.monitors],
        "change": None if watch.change is None else asdict(watch.change),
        "series": list(watch.series),
    }
    return orjson.dumps(row).decode()


def watch_from_json(text: str) -> TargetWatch:
    row: Mapping[str, Any] = orjson.loads(text)
    change = None if row["change"] is None else ModelChange(**row["change"])
    return TargetWatch(row["begun"], [Monitor.from_state(state) for state in row["monitors"]], change, row["series"])
