"""Prometheus metrics of guards that come from their records: how often each has a hit and is right, and whether it has
changed. Read from the store: they are right after a restart."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gateway.features.guards.evidence import GuardEvidence, GuardRecords, LabelledShare, estimated
from gateway.features.guards.hourly.hours import DAY_S
from gateway.features.guards.hourly.usual_range import drift_of
from gateway.features.guards.rows import stored_hours, watched
from gateway.features.hooks import Figures, Hooks, ShownFigures
from gateway.features.labels.rows import OF_GUARD, labels_of_guard, version_of
from gateway.features.usage.rows import teams_of_keys
from gateway.observability.eval_metrics import GuardFigures, GuardKeyFigures, GuardTeamFigures
from gateway.statistics.detection import ShareEstimate
from gateway.store.query import Reading
from gateway.store.store import Store

if TYPE_CHECKING:
    from gateway.features.task import TaskContext

WINDOW_S = 7 * DAY_S
EVERY_S = 30.0
MOST = 20  # keys of a guard, and teams: those with the most hits; the others are one series
OTHER, NO_TEAM = "other", "none"


def guard_hooks(context: TaskContext) -> Hooks:
    guards = tuple(context.config.guards)

    async def read(store: Store) -> ShownFigures:
        now = time.time()
        judged = await store.look(lambda connection: guard_figures(connection, guards, now))
        return lambda figures, _: replace(figures, guards=judged)

    return Hooks(figures=(Figures("figures of guards", EVERY_S, read),)) if guards else Hooks()


def guard_figures(connection: Reading, guards: Iterable[str], now: float) -> tuple[GuardFigures, ...]:
    """The figures of the last seven days, of the guards that have judged. now: Unix seconds."""
    since = now - WINDOW_S
    found = [each for guard in guards if (each := summed_evidence(connection, guard, since)) is not None]
    teams = teams_of_keys(connection, datetime.fromtimestamp(since, UTC).date()) if found else {}
    return tuple(_figures(each, teams) for each in found)


def summed_evidence(connection: Reading, guard: str, since: float) -> GuardEvidence | None:
    """The evidence from the hours that consumers have summed: decisions are not searched. None if there is none. since:
    Unix seconds."""
    version = version_of(connection, OF_GUARD + guard)
    hours = {begin: of for begin, of in stored_hours(connection, guard, since).items() if of}
    if version is None or not hours:
        return None
    labels = labels_of_guard(connection, version, min(hours))
    state, unsampled = watched(connection, guard)
    return estimated(GuardRecords(version, hours, labels, unsampled, drift_of(guard, state)))


def _figures(of: GuardEvidence, teams: Mapping[str, str]) -> GuardFigures:
    """teams: by the names of their keys."""
    drift = of.drift
    keys = [(each.key, each.calls, each.hits) for each in of.keys]
    by_team = [(teams.get(key) or NO_TEAM, calls, hits) for key, calls, hits in keys]
    return GuardFigures(
        of.guard,
        _three(of.hit),
        _three(of.precision),
        _three(of.recall),
        of.labels,
        drift is not None and drift.alarm,
        None if drift is None else drift.statistic,
        tuple(GuardKeyFigures(*each) for each in most_hits(keys)),
        tuple(GuardTeamFigures(*each) for each in most_hits(by_team)),
    )


def most_hits(parts: Iterable[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """Sums (name, calls, hits) by name: those with the most hits, and the others as one."""
    sums: dict[str, tuple[float, float]] = {}
    for name, calls, hits in parts:
        before = sums.get(name, (0.0, 0.0))
        sums[name] = (before[0] + calls, before[1] + hits)
    ranked = sorted(((name, *of) for name, of in sums.items()), key=lambda each: (-each[2], each[0]))
    more = ranked[MOST:]
    return [*ranked[:MOST], *([(OTHER, sum(m[1] for m in more), sum(m[2] for m in more))] if more else [])]


def _three(of: ShareEstimate | LabelledShare | None) -> tuple[float, float, float] | None:
    return None if of is None else (of.share, of.low, of.high)
