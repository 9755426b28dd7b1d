"""Notices of guards whose hits or scores have changed."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.notice import SEVERITIES, Notice
from gateway.features.guards.hourly.usual_range import GuardDrift, drift_of, drift_sentence
from gateway.features.guards.rows import watched
from gateway.features.task import TaskContext
from gateway.store.query import Reading


class GuardNotices:
    """The drift alarms that are on."""

    everywhere = False

    def __init__(self, context: TaskContext) -> None:
        self._store, self._guards = context.store, tuple(context.config.guards)

    async def look(self, now: float) -> Sequence[Notice]:
        if not self._guards:
            return []
        return await self._store.look(self._notices)

    def _notices(self, connection: Reading) -> list[Notice]:
        found = (drift_of(guard, watched(connection, guard)[0]) for guard in self._guards)
        return [_notice(drift) for drift in found if drift is not None and drift.alarm]


def _notice(drift: GuardDrift) -> Notice:
    title = f"guard {drift.guard} has changed"
    text = f"{drift_sentence(drift)}. That is more than chance and by a quarter at least."
    of_change = {"what": drift.what, "direction": drift.direction, "usual": drift.usual, "now": drift.now}
    data = {"guard": drift.guard, **of_change}
    path = f"/console/guards/of/{drift.guard}"
    severity = SEVERITIES["guard.changed"]
    return Notice(drift.id, "guard", title, text, drift.since or 0.0, path, severity, data)
