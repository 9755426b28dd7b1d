"""Notices of each transition of a ramp."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.guard_ramp import ramped_guard
from gateway.core.notice import SEVERITIES, Notice
from gateway.core.ramp import RampEvent, RampRecord
from gateway.features.task import TaskContext
from gateway.store.ramp_events import ramp_events_since

_NEW_S = 3_600.0
_BACK = ("rolled_back", "stopped", "paused")


class RampNotices:
    """The transitions of the last hour, so that a consumer that was down for less misses none."""

    everywhere = False

    def __init__(self, context: TaskContext) -> None:
        self._store = context.store

    async def look(self, now: float) -> Sequence[Notice]:
        events = await self._store.look(lambda connection: ramp_events_since(connection, now - _NEW_S))
        return [_notice(event) for event in events]


def _notice(event: RampEvent) -> Notice:
    record, guard = event.record, ramped_guard(event.record.experiment)
    severity = SEVERITIES["ramp.back" if event.kind in _BACK else "ramp.forward"]
    title = f"{_subject(record)}: {event.kind.replace('_', ' ')}"
    data = {"experiment": record.experiment, "kind": event.kind, "state": record.state, "step": record.step}
    path = f"/console/experiments/{record.experiment}" if guard is None else f"/console/guards/of/{guard}"
    return Notice(f"ramp:{event.id}", "ramp", title, f"{record.reason} ({record.by})", record.at, path, severity, data)


def _subject(record: RampRecord) -> str:
    return record.experiment if record.design is not None else f"ramp of {record.experiment}"
