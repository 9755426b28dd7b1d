"""A scorer's means as people correct them, for the gauges: beside the raw ones, by model and arm. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.evals.annotation.correction import corrected
from gateway.evals.annotation.label_data import items_of, judged_of, labels_in, weights_of
from gateway.evals.scoring.registry import RegisteredScorer
from gateway.evals.store.labels_sums import JudgedSums, Key
from gateway.evals.store.snapshot import ScoreCell
from gateway.observability.eval_metrics import CorrectedFigures

ALPHA = 0.05


def corrected_figures(
    scorers: Mapping[str, RegisteredScorer], cells: Iterable[ScoreCell], labelled: Sequence[Mapping[str, Any]]
) -> tuple[CorrectedFigures, ...]:
    """labelled: rows of store.labels.labelled. Of the versions at work, where there are labels enough. Values are on
    [0, 1], 1 best."""
    found: list[CorrectedFigures] = []
    by_scorer: dict[str, list[Mapping[str, Any]]] = {}
    for row in labelled:
        registered = scorers.get(row["scorer"])
        if registered is not None and _at_work(registered, row["version"], row["config_hash"]):
            by_scorer.setdefault(row["scorer"], []).append(row)
    for name, rows in sorted(by_scorer.items()):
        found += _of(name, rows, _sums(scorers[name], name, cells))
    return tuple(found)


def _of(scorer: str, rows: Sequence[Mapping[str, Any]], sums: Mapping[Key, JudgedSums]) -> list[CorrectedFigures]:
    items = items_of(scorer, rows)
    weights = weights_of(sums)
    found = []
    for model, arm in sorted({key[1:3] for key in sums}):
        here = {key: each for key, each in sums.items() if key[1:3] == (model, arm)}
        labels = labels_in(items, {key: weights[key] for key in here})
        mean = corrected(labels, judged_of(here), ALPHA)
        if mean is not None:
            found.append(CorrectedFigures(scorer, model, arm, mean.mean, mean.low, mean.high, labels.n))
    return found


def _sums(registered: RegisteredScorer, name: str, cells: Iterable[ScoreCell]) -> dict[Key, JudgedSums]:
    """The scorer's cells with its values moved onto [0, 1], 1 best; none where it has no bounds."""
    low, high = registered.scorer.bounds
    if low is None or high is None or low == high:
        return {}
    found: dict[Key, JudgedSums] = {}
    for cell in cells:
        key = cell.key
        if key.scorer == name and _at_work(registered, key.version, key.config_hash):
            place = (key.alias, key.model, key.arm, key.stratum)
            found[place] = _on_unit(cell, low, high, turned=registered.scorer.direction == "minimise")
    return found


def _on_unit(cell: ScoreCell, low: float, high: float, *, turned: bool) -> JudgedSums:
    n, width = cell.n["scored"], high - low
    total = (cell.total - n * low) / width
    squares = (cell.squares - 2 * low * cell.total + n * low * low) / width**2
    if turned:  # of 1 - x
        total, squares = n - total, n - 2 * total + squares
    responded = n + cell.n["not_applicable"]
    return JudgedSums(n, responded, sum(cell.n.values()), total, squares, 0, cell.inverse_pi, cell.population)


def _at_work(registered: RegisteredScorer, version: str, config_hash: str) -> bool:
    return (version, config_hash) == (registered.scorer.version, registered.config_hash)
