"""Prometheus figures of the scorers of runs: weighted means over the runs of the last days, read from the store.

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
from gateway.features.hooks import Figures, Hooks, ShownFigures
from gateway.features.runs.rows import ScoredRuns, scored_runs
from gateway.observability.eval_metrics import RunScoreFigures
from gateway.scoring.registry import RegisteredRun
from gateway.statistics.sampled_mean import StratumSums, weighted_mean
from gateway.store.store import Store

if TYPE_CHECKING:
    from gateway.features.task import TaskContext

WINDOW_S = 7 * 86_400.0
EVERY_S = 30.0
OTHER = "other"
_ARMS = frozenset({"", "control", "candidate"})


class _Label(NamedTuple):
    scorer: str
    model: str
    arm: str


def run_hooks(context: TaskContext) -> Hooks:
    scorers = context.scorers.runs
    return Hooks(figures=(means_of_runs(scorers, model_names(context.config)),)) if scorers else Hooks()


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
