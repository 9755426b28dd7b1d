"""How many pairs a verdict needs: from the variance of the control against its repeat, else from an assumed variance.

A margin is decided when the interval's half-width is smaller than the distance from the difference to the margin. For a
candidate that is exactly as good, and for one that is worse by twice the margin, that distance is the margin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from gateway.core.horizon import planned_pairs
from gateway.core.plan import REPEAT, Plan
from gateway.evals.experiments.findings import SequenceStates
from gateway.evals.experiments.latency_difference import P95
from gateway.evals.experiments.metrics import MEASURES, Metric, Source
from gateway.evals.experiments.progress import margin_of
from gateway.evals.experiments.report import Estimate
from gateway.evals.experiments.sequences import SequenceRule, rule_of
from gateway.evals.experiments.verdict import pairs_needed
from gateway.evals.store.experiments.plans import StoredPlan
from gateway.evals.store.experiments.queries import pair_counts
from gateway.evals.store.query import Reading

MIN_PAIRS = 20  # fewest pairs from which a variance is estimated
GUESSES = {"error_rate": 0.03, "completion": 0.03}
GUESS = 0.1  # assumed variance of a difference of scores in [0, 1]
_SOURCES: dict[str, Source] = {"error_rate": "failed", "completion": "completed"}


@dataclass(frozen=True, slots=True)
class Power:
    """How many pairs one metric needs."""

    metric: str
    margin: float
    variance: float | None  # of one difference; None: unknown
    basis: str  # where the variance comes from, for readers
    have: int  # pairs so far
    needed: int | None  # in total; None: too many to predict, or the variance is unknown


@dataclass(frozen=True, slots=True)
class PowerForecast:
    """How many pairs a verdict needs, by metric."""

    metrics: tuple[Power, ...]
    a_day: float | None  # pairs per day so far; None: too few pairs to tell

    @property
    def needed(self) -> int | None:
        """The largest number that a metric needs; None: one of them has none."""
        counts = [each.needed for each in self.metrics]
        return None if None in counts else max((n for n in counts if n is not None), default=None)


def forecast(
    connection: Reading | None, plan: StoredPlan, margin: float | None = None, alpha: float | None = None
) -> PowerForecast:
    """The forecast for a plan.

    connection: None: there is no store yet. margin, alpha: replace the primary's margin and the plan's alpha.
    """
    design = plan.plan
    design = replace(design, alpha=design.alpha if alpha is None else alpha)
    design = replace(design, margin=design.margin if margin is None else margin)
    look = None if connection is None else SequenceStates(connection, plan)
    names = ([design.primary] if design.primary else []) + [g.metric for g in design.guardrails]
    return PowerForecast(tuple(_power(design, look, name) for name in names), _a_day(connection, plan))


def _power(plan: Plan, look: SequenceStates | None, metric: str) -> Power:
    margin = margin_of(plan, metric) or 0.0
    variance, basis, rule, have = _known(plan, look, metric, margin)
    if variance is None:
        return Power(metric, margin, None, basis, have, None)
    return Power(metric, margin, variance, basis, have, needed(rule, variance, margin))


def needed(rule: SequenceRule, variance: float, margin: float) -> int | None:
    """Pairs until a candidate without any difference is shown to be within the margin. None: too many to predict."""
    if rule.method == "hybrid" and margin > 0:
        return planned_pairs(math.sqrt(variance), margin, rule.alpha, largest=rule.largest)
    more = pairs_needed(Estimate(0.0), 2, variance, margin, rule) if margin > 0 else None
    return None if more is None else more + 2


def _known(
    plan: Plan, look: SequenceStates | None, metric: str, margin: float
) -> tuple[float | None, str, SequenceRule, int]:
    """(variance of a difference, its basis, the rule of the sequence, pairs so far)."""
    candidate = plan.candidates[0][0]
    sequences = {} if look is None else look.sequences
    of_candidate = sequences.get((candidate, metric))
    have = of_candidate.n if of_candidate else 0
    bounded = of_candidate.bounded if of_candidate else metric not in (*MEASURES, P95)
    source: Source = _SOURCES.get(metric, "score") if bounded else "measure"
    rule = rule_of(plan, Metric(metric, source), margin)
    for arm, words in ((REPEAT, "the control against itself"), (candidate, "the candidate so far")):
        found = sequences.get((arm, metric))
        if found is not None and found.n >= MIN_PAIRS:
            return found.moments.variance(), f"{words}, {found.n} pairs", rule, have
    if not bounded:
        return None, f"fewer than {MIN_PAIRS} pairs yet, and no guess for this unit", rule, have
    guess = GUESSES.get(metric, GUESS)
    return guess, f"fewer than {MIN_PAIRS} pairs yet; a variance of {guess:g} is assumed", rule, have


def _a_day(connection: Reading | None, plan: StoredPlan) -> float | None:
    counts = None if connection is None else pair_counts(connection, plan.hash)
    if counts is None or counts.first is None or counts.last is None or counts.joined < MIN_PAIRS:
        return None
    return 86_400 * counts.joined / max(counts.last - counts.first, 1.0)
