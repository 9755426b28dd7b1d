"""Prometheus metrics of ramps and their webhooks, read from the store: they are right after a restart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.core.guard_ramp import design_of
from gateway.core.plan import Plan
from gateway.core.ramp import RampRecord
from gateway.features.hooks import Figures, Hooks, ShownFigures
from gateway.features.notices.rows import count_deliveries
from gateway.observability.eval_metrics import RampFigures
from gateway.store.plans import stored_plans
from gateway.store.query import Reading
from gateway.store.ramp_events import count_ramp_events, newest_ramp_records
from gateway.store.store import Store

if TYPE_CHECKING:
    from gateway.features.task import TaskContext

EVERY_S = 2.0
MOST_SHOWN = 50  # experiments: a store outlives many configs, and each name is a label


async def _read(store: Store) -> ShownFigures:
    ramps, webhooks = await store.look(ramp_figures)
    return lambda figures, _: replace(figures, ramps=ramps, webhooks=webhooks)


FIGURES_OF_RAMPS = Figures("figures of ramps", EVERY_S, _read)


def ramp_hooks(_: TaskContext) -> Hooks:
    return Hooks(figures=(FIGURES_OF_RAMPS,))


def ramp_figures(reading: Reading) -> tuple[tuple[RampFigures, ...], Mapping[tuple[str, str], int]]:
    """(the ramps with the newest changes, deliveries of webhooks by receiver and state)."""
    newest = sorted(newest_ramp_records(reading), key=lambda record: record.at)[-MOST_SHOWN:]
    if not newest:
        return (), count_deliveries(reading)
    plans = {each.hash: each.plan for each in stored_plans(reading)}
    counts = count_ramp_events(reading)
    shown = (_figures(each, plans.get(each.plan)) for each in newest)
    return tuple(replace(f, transitions=counts.get(f.experiment, {})) for f in shown), count_deliveries(reading)


def _figures(record: RampRecord, plan: Plan | None) -> RampFigures:
    guard = design_of(record)
    design = guard.ramp if guard is not None else None if plan is None else plan.ramp
    share = 0.0 if design is None else record.share(design)
    return RampFigures(record.experiment, record.state, share, record.since, {})
