"""Figures of the models in use: targets of the config alone, since when they are unchanged, and their cache."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from gateway.config.loading import parse
from gateway.core.usage import UsageCell, UsageSums
from gateway.features.models.metrics import EVERY_S, figures_of, model_figures
from gateway.observability.eval_metrics import EvalFigures, ModelFigures
from gateway.store import engine
from gateway.store.events import DeploymentEvent, add_events
from gateway.store.query import reading
from gateway.store.store import Store
from gateway.store.tables import usage

NOW = 1_764_547_200.0 + 3600.0
CONFIG = """
open: true
upstreams: {a: {kind: fake}}
models:
  chat: {targets: [{upstream: a, model: m}, {upstream: a, model: n}]}
  mail: {targets: [{upstream: a, model: m}]}
"""


def with_usage(url: str, at: float, *targets: tuple[str, str]) -> None:
    day = datetime.fromtimestamp(at, UTC).date().isoformat()
    sums = UsageSums(10, input_tokens=1000, cached_input_tokens=250)
    with engine.writer(url).begin() as connection:
        for alias, model in targets:
            cell = UsageCell(day, "k", "app", "", "", "", alias, "a", model, "", "", "")
            connection.execute(usage.insert().values(incarnation="i", **cell._asdict(), **sums._asdict()))


def test_targets_of_the_config_have_figures(keep: Callable[..., str]) -> None:
    """A target that the config does not name has none; a change is newer than the first day with calls."""
    url = keep([])
    with_usage(url, NOW, ("chat", "m"), ("chat", "n"), ("chat", "gone"), ("gone", "m"))
    with engine.writer(url).begin() as connection:
        add_events(connection, [DeploymentEvent("model:model:1:1", NOW - 60, "model", "chat a/n", "changed")])
    with reading(url) as connection:
        found = list(model_figures(connection, parse(CONFIG), NOW))
    assert sorted(found, key=lambda of: of.model) == [
        ModelFigures("chat", "a", "m", NOW - 3600.0, 0.25),
        ModelFigures("chat", "a", "n", NOW - 60, 0.25),
    ]


async def test_the_figures_are_those_of_a_moment(keep: Callable[..., str], monkeypatch: Any) -> None:
    url = keep([])
    monkeypatch.setattr("time.time", lambda: NOW)
    with_usage(url, NOW, ("mail", "m"))
    figures = figures_of(parse(CONFIG))
    async with Store(url) as store:
        shown = await figures.read(store)
    assert shown is not None
    absent: Any = None
    assert [of.alias for of in shown(EvalFigures(), absent).models] == ["mail"]
    assert figures.every_s == EVERY_S
