"""Prometheus figures of runs, read from the store: weighted means of their scorers over the last days, and the costs of
the runs of the last day.

A run stands for 1 / π runs, as drawn; runs have no tallies, whose counts correct for losses in the means of calls. A
run is of the model, arm and stratum of the call that stands for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from gateway.config.derive import model_names
from gateway.config.metric_labels import OTHER, MetricLabels
from gateway.features.hooks import Figures, Hooks, ShownFigures
from gateway.features.runs.rows import RunCosts, ScoredRuns, run_costs, scored_runs
from gateway.observability.eval_metrics import RunCostFigures, RunScoreFigures
from gateway.scoring.registry import RegisteredRun
from gateway.statistics.sampled_mean import StratumSums, weighted_mean
from gateway.store.store import Store

if TYPE_CHECKING:
    from gateway.features.task import TaskContext

WINDOW_S = 7 * 86_400.0
EVERY_S = 30.0
DAY_S = 86_400.0
COST_BOUNDS_USD = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
_ARMS = frozenset({"", "control", "candidate"})


class _Label(NamedTuple):
    scorer: str
    model: str
    arm: str


def run_hooks(context: TaskContext) -> Hooks:
    scorers, config = context.scorers.runs, context.config
    costs = costs_of_runs(MetricLabels.of(config).scored_aliases, config.runs.quiet_s)
    return Hooks(figures=(means_of_runs(scorers, model_names(config)), costs) if scorers else (costs,))


def costs_of_runs(aliases: frozenset[str], quiet_s: float, every_s: float = EVERY_S) -> Figures:
    """aliases: those with series of their own. quiet_s: seconds without a call after which a run has ended."""

    async def read(store: Store) -> ShownFigures:
        now = time.time()
        span = now - DAY_S, max(now - DAY_S, now - quiet_s)
        found = await store.look(lambda connection: run_costs(connection, *span, COST_BOUNDS_USD))
        shown = cost_figures(found, aliases)
        return lambda figures, _: replace(figures, run_costs=shown)

    return Figures("costs of runs", every_s, read)


def cost_figures(found: Iterable[RunCosts], aliases: frozenset[str]) -> tuple[RunCostFigures, ...]:
    bounds = [*(f"{bound:g}" for bound in COST_BOUNDS_USD), "+Inf"]
    weights: dict[str, list[float]] = {}
    usd: dict[str, float] = {}
    for cell in found:
        alias = cell.alias if cell.alias in aliases else OTHER
        weights.setdefault(alias, [0.0] * len(bounds))[cell.bucket] += cell.runs
        usd[alias] = usd.get(alias, 0.0) + cell.usd
    return tuple(
        RunCostFigures(alias, usd[alias], tuple(zip(bounds, row, strict=True)))
        for alias, row in sorted(weights.items())
    )


def means_of_runs(scorers: Mapping[str, RegisteredRun], models: frozenset[str], every_s: float = EVERY_S) -> Figures:
    async def read(store: Store) -> ShownFigures:
        since = time.time() - WINDOW_S
        cells = await store.look(partial(scored_runs, scorers=list(scorers), since=since))
        means = run_figures(cells, scorers, models)
        return lambda figures, _: replace(figures, runs=means)

    return Figures("figures of runs", every_s, read)


def run_figures(
    found: Iterable[ScoredRuns], scorers: Mapping[str, RegisteredRun], models: frozenset[str]
) -> tuple[RunScoreFigures, ...]:
    """The means of the running versions of these scorers. models: those of the config; others are shown as "other"."""
    strata: dict[_Label, list[StratumSums]] = {}
    for cell in found:
        of = scorers.get(cell.scorer)
        if of is None or (cell.version, cell.config_hash) != (of.scorer.version, of.config_hash):
            continue
        model, arm = cell.model if cell.model in models else OTHER, cell.arm if cell.arm in _ARMS else OTHER
        strata.setdefault(_Label(cell.scorer, model, arm), []).append(_sums(cell))
    return tuple(_figures(label, cells, scorers[label.scorer]) for label, cells in sorted(strata.items()))


def _sums(cell: ScoredRuns) -> StratumSums:
    return StratumSums(
        name=f"{cell.alias} {cell.model} {cell.arm} {cell.stratum} {cell.pi}",
        scored=cell.scored,
        total=cell.total,
        squares=cell.squares,
        not_applicable=cell.not_applicable,
        nonresponse=cell.nonresponse,
        inverse_pi=cell.inverse_pi,
    )


def _figures(label: _Label, cells: Iterable[StratumSums], of: RegisteredRun) -> RunScoreFigures:
    found = weighted_mean(cells, of.scorer.bounds)
    low, high = (None, None) if found.mean is None else (found.low, found.high)
    return RunScoreFigures(label.scorer, label.model, label.arm, found.mean, low, high, found.effective_n)
