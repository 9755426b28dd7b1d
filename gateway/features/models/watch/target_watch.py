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

from gateway.features.models.watch.cells import BASELINE_H, NEW_H
from gateway.features.models.watch.hourly_calls import HourOfTarget, cell_hours
from gateway.features.models.watch.monitor import BETS, Monitor, Moved, WatchErrors
from gateway.statistics.adjusted_means import DAY_H

_LEAST_EVIDENCE = math.log(100.0)
"""ln of the evidence of a further series that is named with the one that rings."""


@dataclass(frozen=True, slots=True)
class ModelChange:
    """The series that moved, with the most evidence first."""

    hour: int
    """The hour with which it was noticed, since 1970."""
    moved: Sequence[Moved]

    @property
    def since(self) -> int:
        return self.moved[0].since


@dataclass(frozen=True, slots=True)
class TargetWatch:
    begun: int
    """The first hour of the baseline, since 1970."""
    monitors: Sequence[Monitor] = ()
    """None: the baseline is still learned."""
    change: ModelChange | None = None
    """The newest one."""
    series: Sequence[str] = field(default=())
    """Those of the last two weeks."""

    @property
    def ready_at(self) -> int:
        """The hour from which on the watch can ring."""
        return self.begun + BASELINE_H

    @property
    def watched(self) -> list[str]:
        return [name for monitor in self.monitors for name in monitor.series]


def advanced(
    before: TargetWatch | None, hours: Sequence[HourOfTarget], errors: WatchErrors
) -> tuple[TargetWatch, ModelChange | None]:
    """Takes the last of these hours, which are those of BASELINE_H that have calls, in order."""
    newest = hours[-1].hour
    state = before or TargetWatch(newest)
    ringing = _ring(state, hours, errors)
    if ringing is not None:
        return TargetWatch(ringing.since, change=ringing, series=state.series), ringing
    if newest % DAY_H == 0 or not state.monitors:
        state = _learned(state, hours, errors)
    return state, None


def _ring(state: TargetWatch, hours: Sequence[HourOfTarget], errors: WatchErrors) -> ModelChange | None:
    """Adds the newest hour to all monitors."""
    for monitor in state.monitors:
        monitor.add(cell_hours(hours, monitor.series, 1), len(hours) - 1)
    total = float(np.logaddexp.reduce([monitor.log_total for monitor in state.monitors] or [-np.inf]))
    statistics = 2 * len(BETS) * max(len(state.watched), 1)
    if not state.monitors or total - math.log(statistics) < errors.limit:
        return None
    named = [moved for m in state.monitors for moved in m.moved(cell_hours(hours, m.series), _LEAST_EVIDENCE)]
    return ModelChange(hours[-1].hour, sorted(named, key=lambda moved: -moved.log_evidence))


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
        monitor.admit(cell_hours(hours, monitor.series))
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
    change = row["change"]
    found = None if change is None else ModelChange(change["hour"], [Moved(**moved) for moved in change["moved"]])
    return TargetWatch(row["begun"], [Monitor.from_state(state) for state in row["monitors"]], found, row["series"])
