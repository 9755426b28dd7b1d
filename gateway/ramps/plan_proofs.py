"""Proofs that a candidate is harmless on the answers that it served, before it serves everything. Pure.

Feedback is given on served answers only. Where the plan's decision rests on it, it is tested on all steps together, the
difference within each one weighted by its effective units, with the verdict's part of alpha.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gateway.core.plan import FEEDBACK, Plan
from gateway.ramps.alarms import FAILURES
from gateway.ramps.block_proof import BlockProofTerms, block_proof
from gateway.ramps.blocks import ServedBlocks
from gateway.ramps.evidence import ServedFinding
from gateway.ramps.step_values import StepValues
from gateway.reports.model import Estimate, margin_finding
from gateway.statistics.asymptotic import Tuning, half_width
from gateway.verdict.gates.client_left import LEFT, left_margin
from gateway.verdict.price.terms import error_margin
from gateway.verdict.sequences.difference import BURN_IN
from gateway.verdict.sequences.progress import margin_of

_NOT_PROVED = ("completion", "total_s", "latency_p95", "first_token_s", "output_tokens")  # alarms alone watch them


def proofs_of(values: Sequence[StepValues], plan: Plan) -> tuple[ServedFinding, ...]:
    """The finding of each metric of feedback, which only served answers get, that the plan's decision rests on."""
    tuning = Tuning(plan.verdict_alpha, burn_in=BURN_IN)
    names = [name for name in plan.decides if name.startswith(FEEDBACK)]
    return tuple(_proof([v for v in values if v.metric == name], name, plan, tuning) for name in names)


HOURS_RULES = 3  # the first rules of a plan whose ramp is proved over the hours of the day


def served_proofs_of(
    served: Sequence[ServedBlocks], plan: Plan, hours: tuple[int, ...] = ()
) -> tuple[ServedFinding, ...]:
    """Proofs from rules 2 on that a candidate is harmless on served answers, before it serves everything: errors, the
    quality where answers have scores, the cost where it has a margin, and scorers of runs that are guardrails.

    hours: of the day that have to be served, by rules 3.
    """
    if plan.rules < 2:
        return ()
    proved = {name for name in plan.decides if name not in _NOT_PROVED and not name.startswith(FEEDBACK)}
    needed = hours if plan.rules >= HOURS_RULES else None
    found = [_served_proof(each, plan, needed) for each in served if each.metric in {*FAILURES, LEFT, *proved}]
    unscored = (name for name in plan.of_runs if name not in {each.metric for each in served})
    return (*found, *(_without_runs(name, plan) for name in unscored))


def _without_runs(name: str, plan: Plan) -> ServedFinding:
    """The proof for a scorer of runs when no run has a score: it is open, since shadows say nothing about runs."""
    return ServedFinding(name, None, Estimate(None), margin_of(plan, name) or 0.0, "unclear", (0, 0))


def _served_proof(of: ServedBlocks, plan: Plan, hours: tuple[int, ...] | None) -> ServedFinding:
    fixed = _margin(of, plan)
    by_callers = plan.rules >= HOURS_RULES  # a margin by the control's rate follows who is left out
    return block_proof(
        of, BlockProofTerms(plan.verdict_alpha, lambda some: _margin(some, plan) if by_callers else fixed, hours)
    )


def _margin(of: ServedBlocks, plan: Plan) -> float:
    """The margin of a proof. That of failures follows the control's rate, so a caller who fails there widens it."""
    if of.metric not in (*FAILURES, LEFT):
        return margin_of(plan, of.metric) or 0.0
    n, total = (sum(getattr(block.a, name) for block in of.blocks) for name in ("n", "total"))
    rate = _surely(total / n, n) if n else 0.0
    margin = error_margin(plan, rate)
    return left_margin(rate, margin) if of.metric == LEFT else margin


def _surely(rate: float, n: float) -> float:
    """The control's rate less two standard errors: a margin widened by chance would accept larger losses."""
    return max(0.0, rate - 2.0 * math.sqrt(max(rate * (1.0 - rate), 0.0) / n))


def _proof(values: Sequence[StepValues], name: str, plan: Plan, tuning: Tuning) -> ServedFinding:
    margin = margin_of(plan, name) or 0.0
    both = [v for v in values if v.a.n and v.b.n]
    estimate = _pooled(both, tuning)
    units = (round(sum(v.a.n for v in both)), round(sum(v.b.n for v in both)))
    return ServedFinding(name, None, estimate, margin, margin_finding(estimate, margin), units)


def _pooled(values: Sequence[StepValues], tuning: Tuning) -> Estimate:
    """The mean of the steps' differences, each weighted by its effective units, and its confidence sequence."""
    if not values:
        return Estimate(None)
    parts = [(v, v.a.arm_mean(False, tuning), v.b.arm_mean(False, tuning)) for v in values]
    weights = np.array([1.0 / (1.0 / a.effective_n + 1.0 / b.effective_n) for _, a, b in parts])
    means = np.array([v.sign * (b.mean - a.mean) for v, a, b in parts])
    errors = np.array([a.variance / a.effective_n + b.variance / b.effective_n for _, a, b in parts])
    share, total = weights / weights.sum(), float(weights.sum())
    value, variance = float(share @ means), total * float(share**2 @ errors)
    few = min(sum(v.a.n for v in values), sum(v.b.n for v in values))
    if few < tuning.burn_in:
        return Estimate(value)
    if all(v.bounded for v in values):
        variance += (half_width(1.0, few, tuning) / 2.0) ** 2
    half = half_width(math.sqrt(variance), max(total, 1.0), replace(tuning, burn_in=0.0))
    return Estimate(value, value - half, value + half)


@dataclass(frozen=True, slots=True)
class ServedValues:
    """Values read from the answers that a ramp served."""

    values: tuple[StepValues, ...] = ()
    units: int = 0  # as in RampEvidence
    requests: int = 0
    usd: float = 0.0
    newest: float | None = None
    findings: tuple[ServedFinding, ...] = ()  # of metrics with an interval of their own: the p95
    blocks: tuple[ServedBlocks, ...] = ()  # of a ramp by rules 2, until the candidate serves everything
    p95: tuple[ServedFinding, ...] = ()  # the proof of a p95 that is a guardrail: of the present step alone, then too
