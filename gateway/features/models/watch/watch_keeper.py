"""Takes each hour that is over into the watches of all targets, in one of the consumers, and stores an event for each
change. Nothing of it is on the path of a request, and each stored call is read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256

from gateway.features.models.rows import (
    HOUR_S,
    forget_watches,
    newest_watched_hour,
    store_watch,
    store_watch_hour,
    stored_watch_hours,
    stored_watches,
    watched_calls,
)
from gateway.features.models.watch.attribution import NAMED_H, CauseEvidence, attribution, nearby
from gateway.features.models.watch.cells import BASELINE_H
from gateway.features.models.watch.hourly_calls import HourOfTarget, TargetKey, hours_of_targets
from gateway.features.models.watch.monitor import WatchErrors
from gateway.features.models.watch.sentences import change_text
from gateway.features.models.watch.series import scorer_of
from gateway.features.models.watch.target_watch import (
    ModelChange,
    Ringing,
    TargetWatch,
    advanced,
    scorer_moved,
    watch_from_json,
    watch_to_json,
)
from gateway.features.models.work import EVERY_S, due_hour, pause_s
from gateway.features.task import PeriodicWork, TaskContext, TaskWorker
from gateway.store.engine import Transaction
from gateway.store.events import DeploymentEvent, add_events, events_since
from gateway.store.query import Reading

_LEASE = "model watch"
_EVENT = "model:watch:"
_MOST_EVENTS = 500
_NOBODY = TargetKey("", "", "")
Advanced = dict[TargetKey, tuple[HourOfTarget, TargetWatch]]


class WatchKeeper:
    """Takes hours in their order, from the oldest stored call on."""

    def __init__(self, worker: TaskWorker) -> None:
        self._worker, self._store, self._clock = worker, worker.store, worker.clock

    def periodic(self) -> PeriodicWork:
        return PeriodicWork(self.take_next, EVERY_S, "models are not watched now", pause_s=pause_s)

    async def take_next(self) -> bool:
        """Takes one hour. False if none is due, or another consumer does it."""
        if not await self._worker.leads(_LEASE, 3 * EVERY_S):
            return False
        now = self._clock()
        hour = await self._store.look(lambda connection: due_hour(connection, newest_watched_hour(connection), now))
        if hour is None:
            return False
        found = await self._store.look(lambda connection: _advanced(connection, hour))

        def store(connection: Transaction) -> None:
            stored = newest_watched_hour(connection)
            if stored is None or stored < hour:
                _store(connection, hour, found)

        await self._store.run(store)
        return True


def _advanced(connection: Reading, hour: int) -> Advanced:
    hours = hours_of_targets(hour, watched_calls(connection, hour))
    states = {target: watch_from_json(text) for target, text in stored_watches(connection).items()}
    errors = _shared_errors({**dict.fromkeys(hours, TargetWatch(hour)), **states})
    found: Advanced = {}
    ringing: dict[TargetKey, Ringing] = {}
    for target, newest in hours.items():
        earlier = stored_watch_hours(connection, target, hour - BASELINE_H + 1)
        state, rings = advanced(states.get(target), [*earlier, newest], errors)
        found[target] = newest, state
        if rings is not None:
            ringing[target] = rings
    states.update({target: state for target, (_, state) in found.items()})
    for target, rings in ringing.items():
        newest, state = found[target]
        found[target] = newest, replace(state, change=_changed(connection, target, rings, states, ringing))
    return found


def _changed(
    connection: Reading,
    target: TargetKey,
    rings: Ringing,
    states: Mapping[TargetKey, TargetWatch],
    ringing: Mapping[TargetKey, Ringing],
) -> ModelChange:
    """The change with its likely cause."""
    since = rings.moved[0].between[0] * HOUR_S
    events = events_since(connection, since - NAMED_H * HOUR_S, _MOST_EVENTS)
    near = [(event, nearby(event.text, event.at / HOUR_S, rings.moved[0].between)) for event in events]
    cause = attribution(
        CauseEvidence(
            moved=rings.moved,
            customers=rings.customers,
            prompts=rings.prompts,
            named=[found for event, found in near if event.kind == "model" and _names(event, target)],
            config=[found for event, found in near if event.kind in ("config", "deploy")],
            same_scorer=_same_scorer(target, rings, states, ringing),
        )
    )
    text = f"{change_text(rings)}. {cause.text}"
    return ModelChange(rings.hour, rings.since, [moved.series for moved in rings.moved], cause.cause, text)


def _names(event: DeploymentEvent, target: TargetKey) -> bool:
    """Whether the event is a change that the target's answers or probes named, under any alias."""
    return not event.id.startswith(_EVENT) and event.subject.endswith(f" {target.target}")


def _same_scorer(
    target: TargetKey, rings: Ringing, states: Mapping[TargetKey, TargetWatch], ringing: Mapping[TargetKey, Ringing]
) -> tuple[int, int]:
    """Other targets on which the scorer of the first series moved as well, and those that have it."""
    first = rings.moved[0]
    scorer = scorer_of(first.series)
    if scorer is None:
        return 0, 0
    since = first.since - int(NAMED_H)
    others = {other: state for other, state in states.items() if other != target}
    moved = [
        any(scorer_of(series.series) == scorer for series in ringing[other].moved)
        if other in ringing
        else scorer_moved(state, scorer, first.direction, since)
        for other, state in others.items()
    ]
    return sum(bool(one) for one in moved), sum(one is not None for one in moved)


def _shared_errors(states: Mapping[TargetKey, TargetWatch]) -> WatchErrors:
    return WatchErrors(len(states), sum(len(state.series) for state in states.values()))


def _store(connection: Transaction, hour: int, found: Advanced) -> None:
    for target, (newest, state) in found.items():
        store_watch_hour(connection, target, newest)
        store_watch(connection, target, hour, watch_to_json(state))
        if state.change is not None and state.change.hour == hour:
            add_events(connection, [change_event(target, state.change)])
    store_watch(connection, _NOBODY, hour, "{}")
    forget_watches(connection, hour - BASELINE_H + 1)


def change_event(target: TargetKey, change: ModelChange) -> DeploymentEvent:
    subject = f"{target.alias} {target.target}"
    digest = sha256("\0".join(target).encode()).hexdigest()[:16]
    text = f"{target.alias}, {target.target}: {change.text}"
    return DeploymentEvent(f"{_EVENT}{digest}:{change.hour}", float((change.hour + 1) * HOUR_S), "model", subject, text)


def model_watch_task(context: TaskContext) -> PeriodicWork:
    return WatchKeeper(context.worker).periodic()
