"""Prices of certificates."""

from __future__ import annotations

from gateway.features.decisions.plan import price, prices
from gateway.statistics.risk_control import RiskClaim


def test_two_candidates_cost_more_than_one_look() -> None:
    found = price(0.005, RiskClaim(0.05, 0.1))
    assert (found.any_look, found.one_look) == (127, 77)


def test_a_zone_near_its_bound_costs_more_than_anybody_labels() -> None:
    claim = RiskClaim(0.001, 0.1)
    assert prices(claim).prices[-1].any_look is None
