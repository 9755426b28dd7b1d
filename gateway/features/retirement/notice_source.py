"""Notices of models that retire: 60, 30 and 7 days before, and when they are gone."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.config.retirements import day_of
from gateway.core.notice import SEVERITIES, Notice
from gateway.features.retirement.notices import RetirementNotice, due_notices
from gateway.features.retirement.traffic import daily_calls
from gateway.features.task import TaskContext

STAGES = (0, 7, 30, 60)
"""Days before; a model is announced once in each."""
_EVERY_S = 600.0


class RetirementNotices:
    """The models of this config, checked every ten minutes: their resolution is a day."""

    everywhere = False

    def __init__(self, context: TaskContext) -> None:
        self._store, self._config = context.store, context.config
        self._looked = float("-inf")

    async def look(self, now: float) -> Sequence[Notice]:
        if now - self._looked < _EVERY_S:
            return ()
        today = day_of(now)
        traffic = await self._store.look(lambda connection: daily_calls(connection, today))
        self._looked = now
        return [_notice(each, now) for each in due_notices(self._config, traffic, today)]


def _notice(each: RetirementNotice, now: float) -> Notice:
    stage = next((days for days in STAGES if each.days <= days), STAGES[-1])
    title = f"{each.name} retires on {each.retires}" if each.days > 0 else f"{each.name} has retired"
    data = {"model": each.name, "retires": each.retires, "days": each.days, "successor": each.successor}
    data |= {"aliases": list(each.aliases)}
    id = f"retirement:{each.name}:{each.retires}:{stage}"
    severity = SEVERITIES["retirement.soon" if stage <= STAGES[1] else "retirement.later"]
    return Notice(id, "retirement", title, each.text, now, "/console/system", severity, data)
