"""Prometheus figures of scores that people's labels correct."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gateway.config.derive import model_names
from gateway.features.hooks import Figures, Hooks, ShownFigures
from gateway.features.labels.calibration import corrected_figures
from gateway.features.labels.correction import StoredLabel
from gateway.features.labels.rows import labels_with_scores
from gateway.features.task import TaskContext
from gateway.observability.eval_metrics import EvalFigures
from gateway.scoring.registry import RegisteredScorer
from gateway.store.snapshot import StoreSnapshot
from gateway.store.store import Store

EVERY_S = 30.0
_ARMS = ("", "control", "candidate")


def label_hooks(context: TaskContext) -> Hooks:
    return Hooks(figures=(corrected_means(context.scorers.single, model_names(context.config)),))


def corrected_means(scorers: Mapping[str, RegisteredScorer], models: frozenset[str]) -> Figures:
    """The corrected means of these scorers, for these models: a mean over all others would mix unrelated models."""

    async def read(store: Store) -> ShownFigures:
        return corrected_by(await store.look(labels_with_scores), scorers, models)

    return Figures("figures of labels", EVERY_S, read)


def corrected_by(
    labels: Sequence[StoredLabel], scorers: Mapping[str, RegisteredScorer], models: frozenset[str]
) -> ShownFigures:
    """labels: rows of labels_with_scores."""

    def shown(figures: EvalFigures, snapshot: StoreSnapshot) -> EvalFigures:
        means = corrected_figures(scorers, snapshot.cells, labels, snapshot.guided)
        return replace(figures, corrected=tuple(m for m in means if m.model in models and m.arm in _ARMS))

    return shown
