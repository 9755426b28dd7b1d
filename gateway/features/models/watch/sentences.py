"""The watches as sentences. Pure."""

from __future__ import annotations

from math import exp

from gateway.features.models.watch.attribution import customer_name
from gateway.features.models.watch.cells import BASELINE_H
from gateway.features.models.watch.monitor import Moved
from gateway.features.models.watch.series import LOGARITHMS, RATES, name_of
from gateway.features.models.watch.target_watch import Ringing, TargetWatch
from gateway.reports import number_format as say

_HOUR_S = 3600.0
_MOST_FURTHER = 3
_UNITS = {"length": "characters", "tokens": "tokens", "first token": "s"}


def change_text(change: Ringing) -> str:
    """ "the score of judge fell from 0.91 to 0.82, since 2 Dec 14:00; also the length of answers rose from …"."""
    first, *further = change.moved
    also = "; ".join(moved_text(moved) for moved in further[:_MOST_FURTHER])
    return f"{moved_text(first)}, since {say.when(first.since * _HOUR_S)}{f'; also {also}' if also else ''}"


def moved_text(moved: Moved) -> str:
    verb = "rose" if moved.direction == "up" else "fell"
    before, now = (_figure(moved.series, value) for value in (moved.before, moved.now))
    return f"{name_of(moved.series)} {verb} from {before} to {now}"


def _figure(series: str, value: float) -> str:
    if series in RATES or series == "cached share":
        return say.share(min(1.0, max(0.0, value)))
    if series in LOGARITHMS:
        unit = _UNITS[series]
        size = exp(value)
        return f"{size:.2f} s" if unit == "s" else f"{say.count(round(size))} {unit}"
    return f"{value:.3f}"


def watch_text(watch: TargetWatch | None) -> str:
    """The state of a watch, for a line."""
    if watch is None:
        return "not watched yet"
    if not watch.monitors:
        return f"learns its baseline until {say.when((watch.begun + BASELINE_H) * _HOUR_S)}; only events notify"
    watched = (
        f"watched since {say.when((watch.begun + BASELINE_H) * _HOUR_S)}, by {say.count(len(watch.watched))} series"
    )
    apart = sorted(watch.apart.items(), key=lambda item: -item[1])[:_MOST_FURTHER]
    left = [f"{customer_name(name)} since {say.when(hour * _HOUR_S)}" for name, hour in apart]
    return f"{watched}; left out, as only their answers moved: {', '.join(left)}" if left else watched
