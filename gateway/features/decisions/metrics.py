"""Prometheus figures of certificates and of the probabilities that they are about; stores lapses on the way."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from gateway.features.decisions.in_force import SharedCertificates
from gateway.features.decisions.model import STATES, CertificateFinding, Promise
from gateway.features.decisions.work import findings, follow, promises_of
from gateway.features.hooks import Figures, Hooks, ShownFigures
from gateway.observability.eval_metrics import CalibrationFigures, CertificateFigures
from gateway.store.query import Reading
from gateway.store.store import Store

if TYPE_CHECKING:
    from gateway.features.task import TaskContext

EVERY_S = 60.0


def decision_hooks(context: TaskContext) -> Hooks:
    promises = promises_of(context.config)
    if not promises:
        return Hooks()
    shared = SharedCertificates(context.corridor.state, context.config, context.scorers)
    return Hooks(figures=(figures_of(promises, shared),))


def figures_of(promises: Sequence[Promise], shared: SharedCertificates | None = None) -> Figures:
    """shared: receives what each look finds, for gateways."""

    async def read(store: Store) -> ShownFigures:
        now = time.time()
        followed = await store.run(partial(follow_all, promises=promises, now=now))
        if shared is not None:
            await shared.share(followed, now)
        calibrations, certificates = calibration_figures(followed), tuple(map(_certificate, followed))
        return lambda figures, _: replace(figures, calibrations=calibrations, certificates=certificates)

    return Figures("figures of decisions", EVERY_S, read)


def follow_all(connection: Reading, promises: Sequence[Promise], now: float) -> list[CertificateFinding]:
    """The certificates whose scorer has scored something."""
    return list(findings(connection, promises, now, follow))


def calibration_figures(followed: Sequence[CertificateFinding]) -> tuple[CalibrationFigures, ...]:
    """One for each scorer, however many certificates it has."""
    by_scorer = {found.promise.labelled_as: found for found in followed}
    return tuple(_calibration(found) for _, found in sorted(by_scorer.items()))


def _calibration(found: CertificateFinding) -> CalibrationFigures:
    scorer, raw, drift = found.promise.labelled_as, found.truth.raw, found.drift.log_e
    if raw is None:
        return CalibrationFigures(scorer, found.labels, None, {}, None, drift)
    parts = {part: getattr(raw.brier, part) for part in ("reliability", "resolution", "uncertainty")}
    brier = {"score": raw.brier.brier} | parts
    return CalibrationFigures(scorer, found.labels, raw.bias.value, brier, raw.error.root, drift)


def _certificate(found: CertificateFinding) -> CertificateFigures:
    return CertificateFigures(found.promise.name, found.state, STATES, found.reached or 0.0)
