"""Reads the evidence for the price of a verdict: the plan's own pairs, those of earlier plans, and recent traffic."""

from __future__ import annotations

import time

from gateway.core.plan import Plan, StoredPlan
from gateway.core.plan_evidence import MIN_PAIRS
from gateway.features.experiments.start.failures import last_day
from gateway.features.experiments.start.segments import traffic_shares
from gateway.reports.model import Comparison
from gateway.store.plan_evidence import StoredEvidence
from gateway.store.plans import stored_plans
from gateway.store.query import Reading
from gateway.verdict.findings import findings
from gateway.verdict.price.forecast import PriceEvidence, pilot_variance
from gateway.verdict.states import SequenceStates


def price_evidence(connection: Reading, plan: StoredPlan) -> PriceEvidence:
    evidence = StoredEvidence(connection, plan)
    return PriceEvidence(
        look=SequenceStates(evidence),
        pairs=evidence.pairs,
        served=_served(evidence) if plan.plan.mode == "split" else {},
        pilot=None if evidence.pairs.joined >= MIN_PAIRS else earlier_variance(connection, plan.plan),
        shares=traffic_shares(connection, plan.plan, time.time()),
        failures=last_day(connection, plan.plan, time.time()),
    )


def _served(evidence: StoredEvidence) -> dict[str, dict[str, Comparison]]:
    return {arm: {c.metric: c for c in finding.metrics} for arm, finding in findings(evidence).items()}


def earlier_variance(connection: Reading, plan: Plan) -> float | None:
    """The variance of one difference of the primary, from the newest plan of this experiment that shows it."""
    newest_first = reversed(stored_plans(connection, plan.name))
    return pilot_variance(plan, (StoredEvidence(connection, stored) for stored in newest_first))
