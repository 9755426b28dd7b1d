"""Notices of models: a new model or fingerprint behind a name, and once a week what changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from gateway.core.notice import SEVERITIES, Notice
from gateway.features.models.rows import HOUR_S, counted_hours
from gateway.features.task import TaskContext
from gateway.store.events import DeploymentEvent, events_since
from gateway.store.query import Reading

PATH = "/console/models"
_EVERY_S = 60.0
_RECENT_S = 2 * 86_400.0
_WEEK_S = 7 * 86_400.0
_MOST_EVENTS = 500
_MOST_LISTED = 20
_CHANGES = {
    "model": ("names another model", "model.returned"),
    "fingerprint": ("has a new fingerprint", "model.fingerprint"),
    "probe": ("answers the probes otherwise", "model.probe"),
    "watch": ("answers otherwise than before", "model.moved"),
}


class ModelNotices:
    """The events that the task of this feature stored, and the summary of the week that ended last."""

    everywhere = False

    def __init__(self, context: TaskContext) -> None:
        self._store = context.store
        self._looked = float("-inf")

    async def look(self, now: float) -> Sequence[Notice]:
        if now - self._looked < _EVERY_S:
            return ()
        found = await self._store.look(lambda connection: _found(connection, now))
        self._looked = now
        return found


def _found(connection: Reading, now: float) -> list[Notice]:
    monday = _monday(now)
    events = _model_events(connection, monday - _WEEK_S)
    recent = [_notice(event) for event in events if event.at >= now - _RECENT_S]
    watched = counted_hours(connection, int((monday - _WEEK_S) // HOUR_S), int(monday // HOUR_S))
    return [*recent, _weekly([event for event in events if event.at < monday], monday)] if watched else recent


def _model_events(connection: Reading, since: float) -> list[DeploymentEvent]:
    return [event for event in events_since(connection, since, _MOST_EVENTS) if event.kind == "model"]


def _monday(now: float) -> float:
    """The beginning (UTC) of the week of a time."""
    day = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day.timestamp() - 86_400.0 * day.weekday()


def _notice(event: DeploymentEvent) -> Notice:
    change = event.id.split(":")[1]
    title, cause = _CHANGES.get(change, _CHANGES["fingerprint"])
    data = {"subject": event.subject, "change": change}
    return Notice(event.id, "model", f"{event.subject} {title}", event.text, event.at, PATH, SEVERITIES[cause], data)


def _weekly(events: Sequence[DeploymentEvent], monday: float) -> Notice:
    """The week before a Monday; that nothing changed is a sentence, too."""
    day = datetime.fromtimestamp(monday - _WEEK_S, UTC).date().isoformat()
    listed = [event.text for event in events[:_MOST_LISTED]]
    more = [f"and {len(events) - _MOST_LISTED} more"] if len(events) > _MOST_LISTED else []
    text = (
        "\n".join([*listed, *more])
        or "Nothing changed: no answer named a new model or a new fingerprint, and no watched series moved."
    )
    data = {"week": day, "changes": len(events)}
    title = f"models in the week of {day}: {len(events) or 'no'} change{'' if len(events) == 1 else 's'}"
    return Notice(f"model:week:{day}", "model", title, text, monday, PATH, SEVERITIES["model.week"], data)
