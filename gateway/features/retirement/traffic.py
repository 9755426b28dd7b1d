"""Calls a day of each target of a model name, from the usage in the store. Only reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

from gateway.core.exchange import Target
from gateway.store.query import Reading
from gateway.store.usage import CLIENT, read_usage

DAYS = 7


@dataclass(frozen=True, slots=True)
class DailyCalls:
    """Calls of clients a day, by alias, upstream and model."""

    by_target: Mapping[tuple[str, str, str], float] = field(default_factory=dict)

    def of(self, alias: str, target: Target) -> float:
        """Selects the calls that this target answered; its variants count together."""
        return self.by_target.get((alias, target.upstream, target.model), 0.0)


def daily_calls(connection: Reading, today: date) -> DailyCalls:
    """The mean of the seven days before today (UTC), from the first of them that has calls. Without any, today's calls
    so far."""
    since, yesterday = today - timedelta(days=DAYS), today - timedelta(days=1)
    busy = [row.by["day"] for row in read_usage(connection, ("day",), since, yesterday, source=CLIENT)]
    first, last, days = (date.fromisoformat(min(busy)), yesterday, 0) if busy else (today, today, 1)
    days = days or (today - first).days
    rows = read_usage(connection, ("alias", "upstream", "model"), first, last, source=CLIENT)
    return DailyCalls({(r.by["alias"], r.by["upstream"], r.by["model"]): r.sums.calls / days for r in rows})
