"""The automatic horizon of a plan: the pairs that its margins need, at a variance that is measured or assumed."""

from __future__ import annotations

import math

from gateway.core.horizon import FEWEST_REPEATS, likelihood_scale, planned_pairs
from gateway.core.plan import FAILURE_METRICS, NATS_PER_TOKEN, UNBOUNDED_METRICS, Guardrail, Plan

SCORE_VARIANCE = 0.1  # assumed of a difference of scores in [0, 1]
FAILURE_VARIANCE = 0.03  # assumed of a difference of failures


def horizon_of(plan: Plan, variance: float | None = None) -> int | None:
    """Pairs that decide the primary and every guardrail of a candidate as good as the control, with power 0.8.

    Enough repeats for the A/A alarm come among them with a probability of 0.99.
    variance: of one difference of the primary; None if guessed. None as a result: the primary is missing, has no bounds
    or no margin.
    """
    if plan.primary is None or plan.primary in UNBOUNDED_METRICS or not plan.margin:
        return None
    alpha = (plan.verdict_alpha if plan.rules >= 2 else plan.alpha) / len(plan.candidates)
    if plan.primary == NATS_PER_TOKEN:
        deviation, largest = likelihood_scale(plan.margin)
        deviation = deviation if variance is None else math.sqrt(variance)
        pairs = planned_pairs(deviation, plan.margin, alpha, largest=largest)
        return max([pairs, *(_guardrail_pairs(g, alpha) for g in plan.guardrails)])
    guess = FAILURE_VARIANCE if plan.primary in FAILURE_METRICS else SCORE_VARIANCE
    pairs = planned_pairs(math.sqrt(guess if variance is None else variance), plan.margin, alpha)
    repeats = FEWEST_REPEATS * 1.8 / plan.repeat_control if plan.repeat_control and plan.aa == "alarm" else 0.0
    return max([pairs, math.ceil(repeats), *(_guardrail_pairs(g, alpha) for g in plan.guardrails)])


def _guardrail_pairs(guardrail: Guardrail, alpha: float) -> int:
    """Pairs that an always valid interval needs, with power 0.8: of failures, if they are as rare as a fifth of the
    margin (simulated); of scores, at a guessed variance."""
    if guardrail.metric in UNBOUNDED_METRICS or not guardrail.margin:
        return 0
    if guardrail.metric in FAILURE_METRICS:
        return math.ceil(4 * math.log(2.5 / alpha) / guardrail.margin)
    return math.ceil(1.7 * planned_pairs(math.sqrt(SCORE_VARIANCE), guardrail.margin, alpha))
