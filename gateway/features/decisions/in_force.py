"""Certificates in force, as gateways obey them: shared with every look, so that a lapse reaches all within a minute."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from functools import partial

from gateway.config.certified import certified_scorer, claim_digest
from gateway.config.config import Config
from gateway.core.certificate import CONFIRMED_S, SHARED_NAME, CertificateInForce
from gateway.core.errors import StreamDown
from gateway.features.decisions.labelled import question_digest
from gateway.features.decisions.model import CertificateFinding
from gateway.features.labels.rows import ScorerVersion
from gateway.scoring.registry import BuiltScorers, RegisteredScorer
from gateway.statistics.recalibration import PlattMap
from gateway.stream.shared_state import SharedState

log = logging.getLogger(__name__)

NOWHERE = 2.0
"""The beginning of a zone that does not exist."""


def zone_begin(calibration: PlattMap, threshold: float) -> float:
    """The smallest probability whose calibrated one is at least the threshold; NOWHERE if none is, or if the map does
    not rise."""
    if calibration.slope <= 0.0 or not float(calibration(1.0)) >= threshold:
        return NOWHERE
    outside, inside = -math.ulp(0.0), 1.0
    while (middle := 0.5 * (outside + inside)) not in (outside, inside):
        if float(calibration(max(0.0, middle))) >= threshold:
            inside = middle
        else:
            outside = middle
    return max(0.0, inside)


def certificates_in_force(
    followed: Sequence[CertificateFinding], config: Config, scorers: Mapping[str, RegisteredScorer], now: float
) -> dict[str, str]:
    """Texts for the shared state, of all certificates that a cascade may obey, by name. One that does not hold begins
    NOWHERE."""
    shared = {}
    for finding in followed:
        name, scorer = finding.promise.name, scorers.get(finding.promise.labelled_as)
        if scorer is None or certified_scorer(config, name) is None:
            continue
        shared[SHARED_NAME + claim_digest(config, name)] = CertificateInForce(_begin(finding, scorer), now).to_json()
    return shared


def _begin(finding: CertificateFinding, scorer: RegisteredScorer) -> float:
    """The beginning of the certified zone, if it is about the question of this config: the newest scores may be of the
    one before."""
    version, config_hash = scorer.scorer.version, scorer.config_hash
    here = ScorerVersion(finding.promise.labelled_as, version, config_hash, "exchange", "maximise")
    zone, attempt = finding.certified, finding.attempt
    if zone is None or attempt is None or finding.question != question_digest(here):
        return NOWHERE
    return zone_begin(attempt.map, zone.threshold)


class SharedCertificates:
    """Shares what a consumer has found."""

    def __init__(self, state: SharedState, config: Config, scorers: BuiltScorers) -> None:
        self._state = state
        self._texts = partial(certificates_in_force, config=config, scorers=scorers.single)

    async def share(self, followed: Sequence[CertificateFinding], now: float) -> None:
        try:
            await self._state.remember_all(self._texts(followed, now=now), int(CONFIRMED_S))
        except StreamDown as error:
            log.warning("certificates are not confirmed, and hold for %g s: %s", CONFIRMED_S, error)
