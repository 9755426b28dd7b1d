"""A certificate as consumers share it with gateways: the probability from which on one may act. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import orjson

from gateway.core.json_values import parse_object

SHARED_NAME = "certificate:"
"""Begins the names in the shared state; the digest of the claim follows."""
CONFIRMED_S = 900.0
"""A certificate that no consumer has confirmed for so long is not in force: whatever fails, nothing is automated for
longer on labels that nobody reads."""


@dataclass(frozen=True, slots=True)
class CertificateInForce:
    """A certificate that held when a consumer looked."""

    from_p: float
    """The smallest probability of the model, before the map, that is in the zone; above 1 if it has lapsed."""
    at: float
    """Time of the look, Unix seconds."""

    def holds(self, now: float) -> bool:
        return self.from_p <= 1.0 and self.at > now - CONFIRMED_S

    def to_json(self) -> str:
        return orjson.dumps({"from_p": self.from_p, "at": self.at}).decode()


def certificate_from_json(text: str) -> CertificateInForce | None:
    """Returns None for text that is not a certificate's JSON."""
    fields = parse_object(text) or {}
    from_p, at = fields.get("from_p"), fields.get("at")
    if type(from_p) is not float or type(at) is not float or not math.isfinite(at):
        return None
    return CertificateInForce(from_p, at)
