"""Prometheus metrics of guards that come from their records: how often each has a hit and is right, and whether it has
changed. Read from the store: they are right after a restart."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.features.guards.evidence import GuardEvidence, GuardRecords, LabelledShare, estimated
from gateway.features.guards.hours import DAY_S
from gateway.features.guards.rows import stored_hours, watched
from gateway.features.guards.usual_range import drift_of
from gateway.features.labels.rows import OF_GUARD, labels_of_guard, version_of
from gateway.observability.eval_metrics import GuardFigures, GuardKeyFigures
from gateway.statistics.detection import ShareEstimate
from gateway.store.query import Reading

WINDOW_S = 7 * DAY_S
MOST_KEYS = 20  # of a guard, those with the most hits; the others are one series
OTHER = "other"


def guard_figures(connection: Reading, guards: Iterable[str], now: float) -> tuple[GuardFigures, ...]:
    """The figures of the last seven days, of the guards that have judged. now: Unix seconds."""
    found = (summed_evidence(connection, guard, now - WINDOW_S) for guard in guards)
    return tuple(_figures(each) for each in found if each is not None)


def summed_evidence(connection: Reading, guard: str, since: float) -> GuardEvidence | None:
    """The evidence from the hours that consumers have summed: decisions are not searched. None: there is none. since:
    Unix seconds."""
    version = version_of(connection, OF_GUARD + guard)
    hours = {begin: of for begin, of in stored_hours(connection, guard, since).items() if of}
    if version is None or not hours:
        return None
    labels = labels_of_guard(connection, version, min(hours))
    state, unsampled = watched(connection, guard)
    return estimated(GuardRecords(version, hours, labels, unsampled, drift_of(guard, state)))


def _figures(of: GuardEvidence) -> GuardFigures:
    drift = of.drift
    keys = [GuardKeyFigures(key.key, key.calls, key.hits) for key in of.keys[:MOST_KEYS]]
    more = of.keys[MOST_KEYS:]
    if more:
        keys.append(GuardKeyFigures(OTHER, sum(key.calls for key in more), sum(key.hits for key in more)))
    return GuardFigures(
        of.guard,
        _three(of.hit),
        _three(of.precision),
        _three(of.recall),
        of.labels,
        drift is not None and drift.alarm,
        None if drift is None else drift.statistic,
        tuple(keys),
    )


def _three(of: ShareEstimate | LabelledShare | None) -> tuple[float, float, float] | None:
    return None if of is None else (of.share, of.low, of.high)
