"""Notes deploys, changed configs and steps of ramps, in one of the consumers, for the lines on charts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.core.ramp import RampEvent
from gateway.features.task import PeriodicWork, TaskContext, TaskWorker
from gateway.store.engine import Transaction
from gateway.store.events import (
    KEPT_S,
    DeploymentEvent,
    add_events,
    config_event,
    forget_events,
    newest_event,
)
from gateway.store.ramp_events import ramp_events_since
from gateway.stream import Corridor

EVERY_S = 15.0
_LEASE = "events"
_ALIVE_S = 60.0
_RAMPS_S = 2 * 86_400.0  # as far back as steps are looked for


class EventKeeper:
    """Looks at the heartbeats of gateways and at the audit of ramps."""

    def __init__(self, worker: TaskWorker, corridor: Corridor) -> None:
        self._worker, self._corridor = worker, corridor

    def periodic(self) -> PeriodicWork:
        return PeriodicWork(self.look, EVERY_S, "events are not noted now")

    async def look(self) -> None:
        gateways = await self._corridor.state.gateways()
        await self._worker.store.run(lambda connection: self._note(connection, gateways))

    def _note(self, connection: Transaction, gateways: Mapping[str, Mapping[str, Any]]) -> None:
        if not self._worker.holds(connection, _LEASE, 3 * EVERY_S):
            return
        now = self._worker.clock()
        alive = [state for state in gateways.values() if now - float(state.get("at", 0.0)) < _ALIVE_S]
        steps = map(ramp_step, filter(_is_step, ramp_events_since(connection, now - _RAMPS_S)))
        found = [*_deploy(connection, alive), *_config(connection, alive, now), *steps]
        add_events(connection, found)
        forget_events(connection, now - KEPT_S)


def _deploy(connection: Transaction, alive: Sequence[Mapping[str, Any]]) -> Iterator[DeploymentEvent]:
    """The version of the gateway that was started last, if it is another one than that of the newest deploy."""
    started = max(alive, key=lambda state: float(state.get("started", 0.0)), default=None)
    version = "" if started is None else str(started.get("version", ""))
    newest = newest_event(connection, "deploy")
    if started is not None and version and (newest is None or newest.subject != version):
        at = float(started.get("started", 0.0))
        yield DeploymentEvent(f"deploy:{version}:{int(at)}", at, "deploy", version, f"gateway {version}")


def _config(connection: Transaction, alive: Sequence[Mapping[str, Any]], now: float) -> Iterator[DeploymentEvent]:
    """The config of all gateways, if it is another one than that of the newest event; nothing while they differ."""
    digests = {str(dict(state.get("config") or {}).get("digest", "")) for state in alive} - {""}
    newest = newest_event(connection, "config")
    if len(digests) == 1 and (newest is None or newest.subject not in digests):
        yield config_event(digests.pop(), now)


def _is_step(event: RampEvent) -> bool:
    """Shadows change nothing for callers; the first phase of a guard's ramp does, since it flags."""
    return event.moved and (event.record.state != "shadow" or event.record.design is not None)


def ramp_step(event: RampEvent) -> DeploymentEvent:
    """A ramp's step, as a line on charts."""
    record = event.record
    step = f" to step {record.step + 1}" if record.state == "ramp" else ""
    text = f"{record.experiment}: {event.kind.replace('_', ' ')}{step}"
    return DeploymentEvent(f"ramp:{event.id}", record.at, "ramp", record.experiment, text)


def events_task(context: TaskContext) -> PeriodicWork:
    return EventKeeper(context.worker, context.corridor).periodic()
