"""Pairs that a guardrail on failures needs, at the rate at which the model fails already.

The guardrail holds once the candidate's own rate over all pairs, or its difference from the control's repeats, is shown
to be below the margin (statistics/rare.py). Pairs that exceed what the rate makes likely are planned for with a power
of 0.8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

from gateway.core.horizon import AT_MOST
from gateway.core.plan import FAILURE_METRICS, Guardrail, Plan
from gateway.reports.number_format import count
from gateway.statistics.rare import RareDifference
from gateway.statistics.special import smallest
from gateway.verdict.metrics import counts_alone
from gateway.verdict.sequences.difference import OF_ALONE

POWER = 0.8
MOST_FAILURE_PAIRS = 1_000_000


@dataclass(frozen=True, slots=True)
class FailureRate:
    """Failures of the control among recorded calls. rate: in [0, 1]; each call stands for 1 / π."""

    calls: int
    rate: float

    @property
    def basis(self) -> str:
        return f"the control failed in {self.rate:.2%} of the last day's {count(self.calls)} recorded calls"


def failure_rails(plan: Plan) -> tuple[Guardrail, ...]:
    """The guardrails on failures that have a margin."""
    return tuple(g for g in plan.guardrails if g.metric in FAILURE_METRICS and g.margin)


def failure_pairs(plan: Plan, guardrail: Guardrail, rate: float) -> int | None:
    """Pairs that show with a power of 0.8 that a candidate which fails at this rate, as the control does, keeps the
    margin. None if it takes more than MOST_FAILURE_PAIRS."""
    alpha = plan.verdict_alpha / len(plan.candidates)
    alone, repeats = counts_alone(plan), plan.repeat_control
    found = [
        _alone(OF_ALONE * alpha, guardrail.margin, rate) if alone else None,
        _against_repeats((1 - OF_ALONE if alone else 1.0) * alpha, guardrail.margin, rate, repeats)
        if repeats
        else None,
    ]
    return min((pairs for pairs in found if pairs is not None), default=None)


def planned_with(plan: Plan, rate: float | None) -> int | None:
    """Pairs of the guardrail on failures that needs the most. None if there is none, the rate is unknown, or no number
    of pairs is enough."""
    if rate is None or plan.guarded:
        return None
    needed = [failure_pairs(plan, guardrail, rate) for guardrail in failure_rails(plan)]
    return max((pairs for pairs in needed if pairs is not None), default=None)


def unreachable_rails(plan: Plan, rate: float | None) -> tuple[Guardrail, ...]:
    """The guardrails on failures that the plan cannot decide: not within AT_MOST times the pairs of the primary."""
    most = AT_MOST * (plan.max_pairs or MOST_FAILURE_PAIRS)
    if rate is None or plan.guarded:
        return ()
    rails = ((rail, failure_pairs(plan, rail, rate)) for rail in failure_rails(plan))
    return tuple(rail for rail, pairs in rails if pairs is None or pairs > most)


@lru_cache(maxsize=256)
def _alone(alpha: float, margin: float, rate: float) -> int | None:
    if rate >= margin:
        return None

    def shown(n: int) -> bool:
        failed = _likely(n * rate)
        return failed < n and RareDifference(alpha, n, failed, 0).log_evidence_below(margin) >= math.log(2 / alpha)

    return smallest(shown, 2, MOST_FAILURE_PAIRS)


@lru_cache(maxsize=256)
def _against_repeats(alpha: float, margin: float, rate: float, share: float) -> int | None:
    """share: of the pairs that have a repeat of the control."""

    def shown(n: int) -> bool:
        fewer = math.floor(n * rate * (1 - rate))
        more = fewer + math.ceil(NormalDist().inv_cdf(POWER) * math.sqrt(2 * n * rate * (1 - rate)))
        sequence = RareDifference(alpha, n, min(more, n - fewer), fewer) if more + fewer <= n else None
        return sequence is not None and sequence.log_evidence_below(margin) >= math.log(2 / alpha)

    repeats = smallest(shown, 2, MOST_FAILURE_PAIRS)
    return None if repeats is None else math.ceil(repeats / share)


def _likely(mean: float) -> int:
    """Failures that are not exceeded with a probability of POWER, of a Poisson variable with this mean."""
    term = total = math.exp(-mean)
    count = 0
    if not total:  # a mean of several hundred: normal
        return math.ceil(mean + NormalDist().inv_cdf(POWER) * math.sqrt(mean))
    while total < POWER:
        count += 1
        term *= mean / count
        total += term
    return count
