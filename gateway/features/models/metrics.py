"""Prometheus figures of the models in use: since when each has not changed, and the cached share of its input."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from gateway.config.config import Config
from gateway.config.derive import refs_of_model
from gateway.config.retirements import day_of
from gateway.features.hooks import Figures, Hooks, ShownFigures
from gateway.features.models.rows import first_days
from gateway.observability.eval_metrics import ModelFigures
from gateway.store.events import KEPT_S, events_since
from gateway.store.query import Reading
from gateway.store.store import Store
from gateway.store.usage import CLIENT, read_usage

if TYPE_CHECKING:
    from gateway.features.task import TaskContext

EVERY_S = 60.0
DAYS = 7
_MOST_EVENTS = 1_000


def model_hooks(context: TaskContext) -> Hooks:
    return Hooks(figures=(figures_of(context.config),))


def figures_of(config: Config) -> Figures:
    async def read(store: Store) -> ShownFigures:
        now = time.time()
        found = await store.look(lambda connection: tuple(model_figures(connection, config, now)))
        return lambda figures, _: replace(figures, models=found)

    return Figures("figures of models", EVERY_S, read)


def model_figures(connection: Reading, config: Config, now: float) -> Iterator[ModelFigures]:
    """One for each target of the config with calls of clients in the last DAYS days; others make no series."""
    known = {
        (alias, ref.upstream, ref.model)
        for alias, model in config.models.items()
        for ref in refs_of_model(config, model)
    }
    today = day_of(now)
    rows = read_usage(
        connection, ("alias", "upstream", "model"), today - timedelta(days=DAYS - 1), today, source=CLIENT
    )
    first, changed = first_days(connection), _changed(connection, now)
    for row in rows:
        key = (row.by["alias"], row.by["upstream"], row.by["model"])
        if key in known:
            tokens = row.sums.input_tokens
            share = row.sums.cached_input_tokens / tokens if tokens else None
            alias, upstream, model = key
            since = changed.get(f"{alias} {upstream}/{model}", _unix_s(first.get(key)))
            yield ModelFigures(*key, since, share)


def _changed(connection: Reading, now: float) -> dict[str, float]:
    """The newest change of each alias and target, in Unix seconds."""
    events = events_since(connection, now - KEPT_S, _MOST_EVENTS)
    return {event.subject: event.at for event in events if event.kind == "model"}


def _unix_s(day: str | None) -> float | None:
    return None if day is None else datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
