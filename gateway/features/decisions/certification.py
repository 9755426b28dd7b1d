"""Gives certificates and takes them back: what people's labels allow, by thresholds that were fixed before them. Pure.

First the labels over all traffic try a map of the probability; then two thresholds are fixed from predicted errors, and
labels that come later test them. Labels that chose a threshold never test it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gateway.features.decisions.labelled import LabelledCalls, disagreement
from gateway.features.decisions.model import (
    CertificateAttempt,
    CertificateFinding,
    Disagreement,
    Lapse,
    MapInForce,
    Promise,
    StoredTry,
    Zone,
    ZoneFinding,
)
from gateway.features.decisions.plan import FIRST_LABELS, POWER
from gateway.features.decisions.reliability import reliability
from gateway.statistics.calibration_drift import MARGIN, DriftEvidence, calibration_drift
from gateway.statistics.change_detection import ChangeDetector
from gateway.statistics.domains import Floats
from gateway.statistics.recalibration import IDENTITY, tries, try_map
from gateway.statistics.risk_control import (
    AIMS,
    average_threshold,
    candidate_threshold,
    labels_at_any_look,
    log_evidence,
)

LATER_ALPHA = 0.001
"""Labels after a certificate ring, while it is kept, on average at most once in 1 000."""
_MOST_MARGIN = 0.1
_ONE_HOT = (0.0, 1.0)
_DISPROVED: tuple[Lapse, ...] = ("drift", "labels")


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a promise."""

    promise: Promise
    question: str
    calls: LabelledCalls
    traffic: tuple[Floats, Floats]
    """Probabilities of the newest traffic, and the calls that each stands for."""
    tries: Sequence[StoredTry]
    """Those that are stored."""
    attempt: CertificateAttempt | None
    """The newest that is stored."""
    now: float
    """Unix seconds."""
    gives: bool = False
    """Whether a person asks for the certificate: it is given if the labels show it, and a lapsed one begins again."""


def examine(evidence: Evidence) -> CertificateFinding:
    """The certificate as it is now, with what these labels change: a map, an attempt, a certificate, a lapse.

    A lapse is found before anything begins again, so that somebody sees it.
    """
    found = all_tries(evidence.calls, evidence.tries)
    in_force = map_in_force(found)
    attempt, stored = evidence.attempt, evidence.attempt
    drift = drift_since(evidence.calls, in_force)
    people = disagreement(evidence.calls.verdicts)
    refused = _refusal(evidence, people, drift)
    if attempt is not None and attempt.lapsed is None:
        reason = _lapse(attempt, evidence, in_force, drift)
        attempt = attempt if reason is None else replace(attempt, lapsed=evidence.now, reason=reason)
    begins = stored is None or (stored.lapsed is not None and evidence.gives)
    if begins and not refused and evidence.calls.n >= FIRST_LABELS:
        attempt = _begun(evidence, in_force) or attempt
    zones = () if attempt is None else zone_findings(attempt, evidence.calls)
    if attempt is not None and attempt.state == "open" and evidence.gives and not refused:
        attempt = _given(attempt, evidence, zones)
    truth = reliability(evidence.calls, in_force)
    known = (evidence.promise, evidence.question, evidence.calls.n, in_force, found, drift)
    return CertificateFinding(*known, attempt, zones, people, _reached(attempt, evidence), truth, refused)


def _reached(attempt: CertificateAttempt | None, evidence: Evidence) -> float | None:
    """The share of the newest traffic in which one may act."""
    p, weight = evidence.traffic
    if attempt is None or attempt.state != "certified" or attempt.certified is None or not p.size:
        return None
    return float(weight[attempt.map(p) >= attempt.certified.threshold].sum() / weight.sum())


def all_tries(calls: LabelledCalls, stored: Sequence[StoredTry]) -> tuple[StoredTry, ...]:
    """The stored tries, and those that have become possible since."""
    found = list(stored)
    known = {each.tried.labels for each in stored}
    for n, level in tries(calls.n):
        if n in known:
            continue
        first, before = calls.part(slice(0, n)), map_in_force(found).map
        tried = try_map(first.p, first.y, first.weight, first.units, level=level, before=before)
        found.append(StoredTry(tried, float(first.at[-1])))
    return tuple(found)


def map_in_force(found: Sequence[StoredTry]) -> MapInForce:
    for stored in reversed(found):
        if stored.tried.accepted:
            return MapInForce(stored.tried.map, stored.tried.labels, stored.horizon)
    return MapInForce(IDENTITY, 0, 0.0)


def drift_since(calls: LabelledCalls, in_force: MapInForce) -> DriftEvidence:
    """The drift of the map in force, by the labels that it has not seen. A bias within the error of its fit is none."""
    later = calls.part(calls.at > in_force.horizon)
    later = replace(later, p=in_force.map(later.p)).by_unit()
    return calibration_drift(later.p, later.y, later.relative, drift_margin(calls, in_force))


def drift_margin(calls: LabelledCalls, in_force: MapInForce) -> float:
    """The bias that is no drift: of a map, more by one standard error of the mean of the labels that fitted it."""
    fitted = calls.part(slice(0, in_force.labels - in_force.labels // 3)).by_unit()
    if not in_force.labels or not fitted.n:
        return MARGIN
    p = in_force.map(fitted.p)
    share = fitted.weight / fitted.weight.sum()
    return min(_MOST_MARGIN, MARGIN + float(np.sqrt((share**2 * p * (1.0 - p)).sum())))


def zone_findings(attempt: CertificateAttempt, calls: LabelledCalls) -> tuple[ZoneFinding, ...]:
    """Counts the labels after the attempt's thresholds, in the zone of each."""
    later = calls.part(calls.at > attempt.after)
    p = attempt.map(later.p)
    return tuple(_zone_finding(attempt.promise, zone, later.part(p >= zone.threshold)) for zone in attempt.zones)


def zone_at(evidence: Evidence, found: CertificateFinding, threshold: float) -> ZoneFinding:
    """Any threshold, for readers: labels count that came after the attempt's, or all. It is not certified by this."""
    attempt, in_force, (p, weight) = found.attempt, found.in_force, evidence.traffic
    after = max(in_force.horizon, attempt.after if attempt is not None else 0.0)
    later = evidence.calls.part(evidence.calls.at > after)
    zone = _zone(threshold, in_force.map(p), weight) if p.size else Zone(threshold, 0.0, 0.0)
    return _zone_finding(found.promise, zone, later.part(in_force.map(later.p) >= threshold))


def _zone_finding(promise: Promise, zone: Zone, inside: LabelledCalls) -> ZoneFinding:
    claim = promise.claim.shared(len(AIMS))
    units = inside.by_unit()
    log_e = log_evidence(1.0 - units.y, claim.bound, units.relative)
    peak, wrong = float(log_e.max(initial=0.0)), float((1.0 - inside.y).sum())
    if peak >= claim.log_limit:
        return ZoneFinding(zone, inside.n, wrong, peak, claim.log_limit, 0)
    expected = (wrong + zone.predicted_error * FIRST_LABELS) / (inside.n + FIRST_LABELS)
    needed = labels_at_any_look(expected, claim, POWER)
    more = None if needed is None else max(1, needed - inside.n)
    return ZoneFinding(zone, inside.n, wrong, peak, claim.log_limit, more)


def _refusal(evidence: Evidence, people: Disagreement | None, drift: DriftEvidence) -> str:
    """The reason why no certificate can be given; "" if one can."""
    promise, p = evidence.promise, evidence.traffic[0]
    if p.size and np.isin(p, _ONE_HOT).all() and np.isin(evidence.calls.p, _ONE_HOT).all():
        return "the scorer gives only 0 and 1, which are no probabilities"
    if people is not None and people.low >= promise.wrong / 2.0:
        return (
            f"people disagree about {people.differ} of {people.twice} answers that two of them labelled: a label is "
            f"wrong in {people.low:.1%} at least, which hides errors of {promise.wrong:.1%}"
        )
    if drift.alarm:
        return "the drift alarm rings: the probability is not true on the newest labels"
    weight = evidence.calls.weight
    if promise.guarantee == "average" and weight.size and weight.max() > 1.0001 * weight.min():
        return "`guarantee: average` needs labels that were drawn with equal probability"
    return ""


def _lapse(attempt: CertificateAttempt, evidence: Evidence, in_force: MapInForce, drift: DriftEvidence) -> Lapse | None:
    """The reason why the attempt has lost its ground."""
    if attempt.question != evidence.question:
        return "question"
    if attempt.promise != evidence.promise:
        return "promise"
    if _errs_later(attempt, evidence.calls):
        return "labels"
    if drift.alarm:
        return "drift"
    return "map" if attempt.map.digest != in_force.map.digest else None


def _errs_later(attempt: CertificateAttempt, calls: LabelledCalls) -> bool:
    """Whether labels in the zone that came after the certificate show more errors than it promises."""
    zone, promise = attempt.certified, attempt.promise
    if zone is None or attempt.horizon is None or promise.guarantee != "threshold":
        return False
    later = calls.part(calls.at > attempt.horizon)
    later = later.part(attempt.map(later.p) >= zone.threshold).by_unit()
    detector = ChangeDetector([0.0], [promise.wrong], LATER_ALPHA)
    detector.add((1.0 - later.y)[:, None], later.relative)
    return detector.alarm


def _begun(evidence: Evidence, in_force: MapInForce) -> CertificateAttempt | None:
    """A new attempt, whose thresholds the traffic and the map choose; None if no zone has so few predicted errors."""
    zones, at = _zones(evidence, in_force), evidence.calls.at
    if not zones:
        return None
    after = float(at[max(FIRST_LABELS, in_force.labels) - 1])
    lapsed = evidence.attempt
    if lapsed is not None and lapsed.lapsed is not None and lapsed.reason in _DISPROVED:
        after = max(after, lapsed.lapsed)  # the labels that gave a certificate which was wrong give no other one
    labels = int((at <= after).sum())
    return CertificateAttempt(
        evidence.promise, evidence.question, in_force.map, in_force.labels, zones, evidence.now, after, labels
    )


def _zones(evidence: Evidence, in_force: MapInForce) -> tuple[Zone, ...]:
    p, weight = evidence.traffic
    if not p.size:
        return ()
    calibrated, promise = in_force.map(p), evidence.promise
    if promise.guarantee == "average":
        found = [_average(evidence, in_force)]
    else:
        found = [candidate_threshold(calibrated, aim * promise.wrong, weight) for aim in AIMS]
    thresholds = sorted({t for t in found if t is not None})
    return tuple(_zone(t, calibrated, weight) for t in thresholds)


def _average(evidence: Evidence, in_force: MapInForce) -> float | None:
    calls = evidence.calls.part(evidence.calls.at > in_force.horizon)
    if not calls.n:
        return None
    return average_threshold(in_force.map(calls.p), 1.0 - calls.y, evidence.promise.wrong)


def _zone(threshold: float, p: Floats, weight: Floats) -> Zone:
    inside = p >= threshold
    total = float(weight[inside].sum())
    error = float((weight * (1.0 - p))[inside].sum()) / total if total else 0.0
    return Zone(threshold, total / float(weight.sum()), error)


def _given(attempt: CertificateAttempt, evidence: Evidence, zones: Sequence[ZoneFinding]) -> CertificateAttempt:
    """The attempt with the certificate of its widest zone that the labels show."""
    average = attempt.promise.guarantee == "average"
    shown = next((found for found in zones if found.certified or average), None)
    if shown is None:
        return attempt
    newest = float(evidence.calls.at[-1])
    return replace(attempt, given=evidence.now, certified=shown.zone, zone_labels=shown.labels, horizon=newest)
