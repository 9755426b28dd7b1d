"""Prometheus figures of certificates and of the probabilities that they are about; stores lapses on the way."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from gateway.config.config import Config
from gateway.features.decisions.in_force import SharedCertificates
from gateway.features.decisions.model import STATES, CertificateFinding, Promise
from gateway.features.decisions.rows import acted_share
from gateway.features.decisions.work import findings, follow, promises_of
from gateway.features.hooks import Figures, Hooks, ShownFigures
from gateway.observability.eval_metrics import CalibrationFigures, CertificateFigures
from gateway.store.query import Reading
from gateway.store.store import Store

if TYPE_CHECKING:
    from gateway.features.task import TaskContext

EVERY_S, DAY_S = 60.0, 86_400.0


def decision_hooks(context: TaskContext) -> Hooks:
    promises = promises_of(context.config)
    if not promises:
        return Hooks()
    shared = SharedCertificates(context.corridor.state, context.config, context.scorers)
    return Hooks(figures=(figures_of(promises, shared, obeying(context.config)),))


def obeying(config: Config) -> Mapping[str, Sequence[str]]:
    """The cascades that obey each certificate, by its name."""
    names: dict[str, list[str]] = {}
    for cascade, section in config.cascades.items():
        for certificate in section.certificates:
            names.setdefault(certificate, []).append(cascade)
    return names


def figures_of(
    promises: Sequence[Promise],
    shared: SharedCertificates | None = None,
    cascades: Mapping[str, Sequence[str]] | None = None,
) -> Figures:
    """shared: receives what each look finds, for gateways. cascades: those that obey a certificate, by its name."""

    async def read(store: Store) -> ShownFigures:
        now = time.time()
        followed = await store.run(partial(follow_all, promises=promises, now=now))
        if shared is not None:
            await shared.share(followed, now)
        acted = await store.run(partial(acted_upon, cascades=cascades or {}, now=now))
        calibrations = calibration_figures(followed)
        certificates = tuple(_certificate(finding, acted.get(finding.promise.name)) for finding in followed)
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


def acted_upon(connection: Reading, cascades: Mapping[str, Sequence[str]], now: float) -> dict[str, float]:
    """The share of the last day's calls that were acted upon, by the certificate that a cascade obeys."""
    shares = {name: acted_share(connection, obeying, now - DAY_S) for name, obeying in cascades.items()}
    return {name: share for name, share in shares.items() if share is not None}


def _certificate(found: CertificateFinding, acted: float | None) -> CertificateFigures:
    """acted: the share of a cascade's calls that were acted upon. Its recorded answers of the first target are a
    selection: mostly those that were."""
    if found.certified is None:
        return CertificateFigures(found.promise.name, found.state, STATES, 0.0)
    automated = acted if acted is not None else found.reached or 0.0
    return CertificateFigures(found.promise.name, found.state, STATES, automated)
