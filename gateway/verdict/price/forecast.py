"""The price of a verdict: pairs, requests, paid calls and days, before an experiment starts and while it runs.

A margin is decided when the interval's half-width is smaller than the distance from the difference to the margin. For a
candidate that is exactly as good, and for one that is worse by twice the margin, that distance is the margin: this is
the planned effect. At 1.5 and 2 times the planned effect the candidate is better by half a margin and by a margin, or
worse by the same amount more. Guardrails and gates are priced for a candidate that is as good as the control.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from gateway.core.plan import Plan, StoredPlan
from gateway.core.plan_evidence import MIN_PAIRS, PairCounts
from gateway.core.plan_horizon import horizon_of
from gateway.reports.model import Comparison, Independence
from gateway.statistics.special import smallest
from gateway.verdict.decision import MOST_PAIRS, half_width_of
from gateway.verdict.evidence import PlanEvidence
from gateway.verdict.metrics import MEASURES, SEGMENT
from gateway.verdict.price.best_of_k import BestPrice, best_price, best_term
from gateway.verdict.price.failures import FailureRate
from gateway.verdict.price.held_by_units import held_by_units
from gateway.verdict.price.powers import (
    EFFECTS,
    Power,
    PowerBasis,
    needed,
    powers_of,
    rule_of_metric,
    settled,
    variance_basis,
)
from gateway.verdict.price.terms import PriceTerm, TrafficPace, least_days, price_terms
from gateway.verdict.segments.shares import Shares, added_share
from gateway.verdict.sequences.difference import SequenceRule, segment_power
from gateway.verdict.sequences.duels import duels_of
from gateway.verdict.sequences.latency import P95
from gateway.verdict.states import SEARCHED, SequenceStates

EACH_OTHER = "each other"
"""Placeholder for a candidate where candidates are compared with each other."""


@dataclass(frozen=True, slots=True)
class VerdictPrice:
    """Total cost of the whole verdict, at one effect."""

    effect: float
    """Effect in multiples of the planned one."""
    pairs: int | None
    """Settled pairs until every condition of `ship` is closed."""
    reject_pairs: int | None
    """Settled pairs until `reject`, which waits for the primary alone."""
    requests: int | None
    """Eligible requests until `ship`; paid_calls and days are also those until `ship`."""
    paid_calls: int | None
    """Requests to candidates and to the repeated control. A split pays for none."""
    days: float | None


@dataclass(frozen=True, slots=True)
class PowerForecast:
    """The price of a verdict, by condition and as a whole."""

    metrics: tuple[Power, ...]
    a_day: float | None
    """Settled pairs per day: as stated, else as measured; None if unknown."""
    have: int = 0
    """Settled pairs so far."""
    prices: tuple[VerdictPrice, ...] = field(default=())
    terms: tuple[PriceTerm, ...] = ()
    """Additional terms of the verdict's price: hours, units, completeness, a ramp's proof on served answers,
    holdout."""
    best: BestPrice | None = None
    """The price of the best of several candidates; None means that they are not compared with each other."""

    @property
    def needed(self) -> int | None:
        """Settled pairs at the planned effect: the most that a condition needs; None if one of them has no number."""
        return self.needed_at(0)

    def needed_at(self, effect: int) -> int | None:
        """effect: an index of EFFECTS."""
        counts = [each.pairs[effect] if each.pairs else each.needed for each in self.metrics]
        return None if None in counts else max((n for n in counts if n is not None), default=None)

    def reject_at(self, effect: int) -> int | None:
        counts = [each.pairs[effect] for each in self.metrics if each.role == "primary" and each.pairs]
        return max((n for n in counts if n is not None), default=None)

    @property
    def slowest(self) -> Power | None:
        """The condition that the verdict waits for, at the planned effect."""

        def pairs(of: Power) -> float:
            return math.inf if not of.pairs or of.pairs[0] is None else of.pairs[0]

        return max(self.metrics, key=pairs, default=None)


@dataclass(frozen=True, slots=True)
class Terms:
    """Values that a forecast assumes instead of those of the plan or the store."""

    margin: float | None = None
    """Margin of the primary."""
    alpha: float | None = None
    requests_a_day: float | None = None
    """Eligible requests per day."""
    scorer_shares: Mapping[str, float] = field(default_factory=dict)
    """scorer → the share of exchanges that it sees."""


@dataclass(frozen=True, slots=True)
class PriceEvidence:
    """Evidence for the price of a plan. Nothing is known before there is a store."""

    look: SequenceStates | None = None
    pairs: PairCounts = field(default_factory=PairCounts)
    served: Mapping[str, Mapping[str, Comparison]] = field(default_factory=dict)
    """Comparisons of a split so far, by candidate and metric."""
    pilot: float | None = None
    """Variance of the primary in earlier plans of the same targets."""
    shares: Shares | None = None
    """Shares of the segments in recent traffic; None if not known."""
    failures: FailureRate | None = None
    """Failures of the control in the last day; None if not known."""


def forecast(plan: StoredPlan, terms: Terms = Terms(), evidence: PriceEvidence = PriceEvidence()) -> PowerForecast:
    """The forecast for a plan."""
    design = plan.plan
    design = replace(design, alpha=design.alpha if terms.alpha is None else terms.alpha)
    design = replace(design, margin=design.margin if terms.margin is None else terms.margin)
    if design.auto_horizon and design != plan.plan:
        design = replace(design, max_pairs=horizon_of(design))
    look, counts, shares = evidence.look, evidence.pairs, evidence.shares
    known = PowerBasis(
        design, look, counts, terms.scorer_shares, evidence.served, evidence.pilot, shares, evidence.failures
    )
    powers = tuple(power for arm, _ in design.candidates for power in powers_of(known, arm))
    duel = _duel(known) if powers else None
    powers = powers if duel is None else (*powers, duel)
    per_request = 1.0 if design.mode == "split" else design.shadow * counts.offered_share
    requests_a_day = terms.requests_a_day
    if requests_a_day is None:
        a_day = counts.a_day
        requests_a_day = a_day / per_request if a_day is not None and per_request else None
    else:
        a_day = requests_a_day * per_request
    made = PowerForecast(powers, a_day, counts.joined)
    best = None if duel is None else _best(known, duel, powers)
    asked = 0.0 if design.guarded else len(design.candidates) + design.paid_repeats
    paid = asked * (1.0 + added_share(design, shares))
    prices = (
        _price(design, each, (made.needed_at(i), made.reject_at(i)), Rates(per_request, a_day, paid, best))
        for i, each in enumerate(EFFECTS)
    )
    errors, depends = _control_errors(look, design), _independence(look, design)
    pace = TrafficPace(made.needed, a_day, requests_a_day, errors, depends, _inflation(look, design))
    pace = replace(pace, held_by_units=_held(look, design))
    also = (*_segment_terms(known, powers), *price_terms(design, pace, _needs(powers))) if powers else ()
    also = also if best is None else (best_term(best), *also)
    return replace(made, prices=tuple(prices) if powers else (), terms=also, best=best)


def _held(look: SequenceStates | None, plan: Plan) -> str | None:
    found = [held_by_units(look.primary(arm), plan.margin) for arm, _ in plan.candidates] if look is not None else []
    return next((advice for advice in found if advice is not None), None)


def _inflation(look: SequenceStates | None, plan: Plan) -> float:
    """The largest factor of the primary's variance by dependence; 1 while there are few pairs."""
    found = [look.sequences.get((arm, plan.primary or "")) for arm, _ in plan.candidates] if look is not None else []
    return max((s.inflation for s in found if s is not None and s.n >= MIN_PAIRS), default=1.0)


def _duel(known: PowerBasis) -> Power | None:
    """The comparison of two candidates: the slowest that is known. None means that they are not compared with each
    other.
    """
    plan, metric = known.plan, known.plan.primary
    if not plan.finds_best or metric is None or not plan.margin:
        return None
    first = plan.candidates[0][0]
    bounded = metric not in (*MEASURES, P95)
    names = [duel.name for duel in duels_of(plan)]
    have = [s.n for name in names if (s := known.sequence(name, metric)) is not None]
    of = [variance_basis(known, (name,), metric, bounded) for name in names]
    variance, basis = max(of, key=lambda each: each[0] or 0.0)
    rule = replace(rule_of_metric(plan, metric, plan.margin, bounded, first), compared=0, earlier=False)
    share = known.per_pair(metric, min(have, default=0), False)
    totals = [None if variance is None else needed(rule, variance, plan.margin, effect) for effect in EFFECTS]
    pairs = tuple(settled(n, share) for n in totals)
    have_least = min(have, default=0) if len(have) == len(names) else 0
    return Power(metric, plan.margin, variance, basis, have_least, totals[0], EACH_OTHER, "duel", share, pairs)


def _best(known: PowerBasis, duel: Power, powers: Sequence[Power]) -> BestPrice | None:
    plan, variance = known.plan, duel.variance
    if variance is None:
        return None
    bounded = duel.metric not in (*MEASURES, P95)
    own = rule_of_metric(plan, duel.metric, plan.margin, bounded, plan.candidates[0][0])
    rule = replace(own, compared=0, earlier=False)
    others = [each.pairs[0] for each in powers if each.role in ("guardrail", "gate") and each.pairs]
    until = partial(_until, rule, variance, plan.margin, duel.per_pair)
    return best_price(plan, variance, until, max((n for n in others if n is not None), default=0))


def _until(
    rule: SequenceRule, variance: float, margin: float, per_pair: float, margins: float, deviations: float
) -> int | None:
    """Settled pairs until the interval between two candidates is narrow enough: see best_price.Until."""
    width, deviation = half_width_of(rule, variance), math.sqrt(variance)
    pairs = smallest(lambda n: width(n) < margins * margin + deviations * deviation / math.sqrt(n), 2, MOST_PAIRS)
    return settled(pairs, per_pair)


def _needs(powers: Sequence[Power]) -> dict[str, int | None]:
    """Metric → settled pairs until it is decided with every candidate, at the planned effect; None if not known."""
    found: dict[str, int | None] = {}
    for each in powers:
        if each.role in ("gate", "segment"):
            continue
        pairs = each.pairs[0] if each.pairs else None
        known = found.get(each.metric, 0)
        found[each.metric] = None if pairs is None or known is None else max(pairs, known)
    return found


def _control_errors(look: SequenceStates | None, plan: Plan) -> float | None:
    """The control's share of failures, from its repeats; None if there are too few to tell."""
    found = None if look is None else look.sequences.get((plan.candidates[0][0], "error_rate"))
    return found.a.mean if found is not None and found.n >= MIN_PAIRS else None


def _independence(look: SequenceStates | None, plan: Plan) -> Independence:
    """The worst that the primary of a candidate says of the dependence of calls."""
    found = [look.sequences.get((arm, plan.primary or "")) for arm, _ in plan.candidates] if look is not None else []
    said = {each.independence.finding(plan.independent) for each in found if each is not None}
    return next((each for each in _BY_WEIGHT if each in said), "assumed")


_BY_WEIGHT: tuple[Independence, ...] = ("alarm", "assumed", "declared", "checked")


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates that a number of settled pairs is translated with."""

    per_request: float
    """Settled pairs per eligible request."""
    a_day: float | None
    """Settled pairs per day."""
    paid: float
    """Paid calls per settled pair."""
    best: BestPrice | None
    """Comparison of several candidates; None means that each is decided alone."""


def _price(plan: Plan, effect: float, until: tuple[int | None, int | None], rates: Rates) -> VerdictPrice:
    """until: settled pairs until ship, and until reject."""
    pairs, reject = until
    case = rates.best.at(effect) if rates.best else None
    pairs = case.pairs if case else pairs
    if pairs is None:
        return VerdictPrice(effect, None, reject, None, None, None)
    requests = math.ceil(pairs / rates.per_request) if rates.per_request else None
    paid = 0 if plan.mode == "split" else math.ceil(pairs * rates.paid)
    paid = case.paid_calls if case else paid
    days = max(pairs / rates.a_day, least_days(plan)) if rates.a_day else None
    return VerdictPrice(effect, pairs, reject, requests, paid, days)


def pilot_variance(plan: Plan, earlier: Iterable[PlanEvidence]) -> float | None:
    """The variance of one difference of the primary, from earlier pairs of the same control and candidates.

    The largest over the candidates, of the first of these plans that has MIN_PAIRS; None if there is none.
    """
    swap = (plan.model, plan.control, plan.candidates)
    for evidence in earlier:
        known = evidence.plan.plan
        if (known.model, known.control, known.candidates) == swap:
            variance = _largest_variance(plan, SequenceStates(evidence))
            if variance is not None:
                return variance
    return None


def _largest_variance(plan: Plan, look: SequenceStates) -> float | None:
    sequences = [look.sequences.get((arm, plan.primary or "")) for arm, _ in plan.candidates]
    variances = [
        # a plan's horizon does not count on the adjustment, and pays for users whose calls are alike
        (sequence.unadjusted if sequence.unadjusted.n else sequence.moments).variance() * sequence.inflation
        for sequence in sequences
        if sequence and (sequence.bounded or plan.likelihood) and sequence.n >= MIN_PAIRS
    ]
    return max(variances) if variances and len(variances) == len(sequences) else None


def _segment_terms(known: PowerBasis, powers: Sequence[Power]) -> Iterator[PriceTerm]:
    design, plan = known.plan.segments, known.plan
    ours = [each for each in powers if each.role == "segment" and each.pairs[0] is not None]
    if design is not None and ours:
        slowest = max(ours, key=lambda each: each.pairs[0] or 0)
        added = added_share(plan, known.shares)
        more = f"; small segments are shadowed more often, which adds {added:.0%} to the paid calls" if added else ""
        yield PriceTerm(
            "segments",
            f"`ship` also needs each of {len(design.segments)} segments not to be worse by {design.margin:g}, with a "
            f"power of {segment_power(plan):.2f} for each; {slowest.metric.removeprefix(SEGMENT)} takes longest{more}",
        )
    if design is not None and design.weak_spots:
        ramp = f", and steps of the ramp from 0.25 on wait until it has seen {SEARCHED}" if plan.ramp else ""
        yield PriceTerm(
            "weak spots",
            f"the same pairs are searched for parts of the traffic that are worse by {design.margin:g}, with an error "
            f"of its own of {design.weak_spots:g}; it decides nothing{ramp}",
        )
