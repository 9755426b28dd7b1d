"""The price of a certificate in labels. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.statistics.risk_control import AIMS, RiskClaim, labels_at_any_look, labels_at_one_look

POWER = 0.8
FIRST_LABELS = 100
"""Labels over all traffic that calibrate the probability, before a zone is chosen."""
_TRUE_ERRORS = (0.0, 0.1, 0.25, 0.5, 0.75)  # of the zone, in units of the bound


@dataclass(frozen=True, slots=True)
class LabelPrice:
    """Labels in the zone that show the promise with 80 % probability; None: more than anybody labels."""

    true_error: float
    any_look: int | None
    """Labels that count as they come, for one of two candidates: the usual way."""
    one_look: int | None
    """Labels whose number is fixed beforehand, where one threshold is tested once."""


@dataclass(frozen=True, slots=True)
class CertificatePlan:
    claim: RiskClaim
    prices: tuple[LabelPrice, ...]
    """Ordered by the true error of the zone, the smallest first."""


def prices(claim: RiskClaim) -> CertificatePlan:
    found = (price(share * claim.bound, claim) for share in _TRUE_ERRORS)
    return CertificatePlan(claim, tuple(found))


def price(true_error: float, claim: RiskClaim) -> LabelPrice:
    any_look = labels_at_any_look(true_error, claim.shared(len(AIMS)), POWER)
    return LabelPrice(true_error, any_look, labels_at_one_look(true_error, claim, POWER))
