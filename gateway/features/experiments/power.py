"""The price of a verdict: pairs, requests, paid calls and days, before an experiment starts and while it runs.

A margin is decided when the interval's half-width is smaller than the distance from the difference to the margin. For a
candidate that is exactly as good, and for one that is worse by twice the margin, that distance is the margin: this is
the planned effect. At 1.5 and 2 times the planned effect the candidate is better by half a margin and by a margin, or
worse by the same amount more. Guardrails and gates are priced for a candidate that is as good as the control.

The arms of a split are different people: nothing cancels as in pairs, so a split needs units instead of pairs. Its
interval is that of verdict/split/comparison.py, on the difference of two weighted means.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from gateway.core.horizon import FEWEST_REPEATS, guarded, likelihood_scale, planned_pairs
from gateway.core.plan import (
    CONTROL,
    FAILURE_METRICS,
    FEEDBACK,
    NATS_PER_TOKEN,
    REPEAT,
    TOP1_AGREEMENT,
    UNBOUNDED_METRICS,
    Plan,
    StoredPlan,
)
from gateway.core.plan_evidence import MIN_PAIRS, PairCounts
from gateway.core.plan_horizon import horizon_of
from gateway.core.segments import SegmentDesign, segment_name
from gateway.features.experiments.segment_start import Shares, added_share, declared_shares, traffic_shares
from gateway.reports.model import Comparison, Independence, Role
from gateway.statistics.asymptotic import Tuning, half_width
from gateway.statistics.special import smallest
from gateway.store.plan_evidence import StoredEvidence, pair_counts
from gateway.store.plans import stored_plans
from gateway.store.query import Reading
from gateway.verdict.conditions import needs_repeat
from gateway.verdict.decision import MOST_PAIRS, half_width_of
from gateway.verdict.findings import finding
from gateway.verdict.gates.completeness import COMPLETENESS
from gateway.verdict.gates.gates import NEGLIGIBLE, units_for_srm
from gateway.verdict.metrics import (
    ALONE,
    JUDGED,
    LOST,
    MEASURES,
    MISSING,
    SEGMENT,
    WORST,
    Metric,
    Source,
    counts_alone,
)
from gateway.verdict.plan_gates import FALLBACK
from gateway.verdict.price.best_of_k import BestPrice, best_price, best_term
from gateway.verdict.price.terms import PriceTerm, TrafficPace, least_days, price_terms
from gateway.verdict.sequences.difference import (
    BURN_IN,
    DifferenceSequence,
    SequenceRule,
    rule_of,
    segment_pairs,
    segment_power,
)
from gateway.verdict.sequences.duels import duels_of
from gateway.verdict.sequences.latency import P95
from gateway.verdict.sequences.progress import margin_of
from gateway.verdict.split.ratio import SRM, planned_shares
from gateway.verdict.states import SEARCHED, SequenceStates

SPLIT_GUESS = 0.2  # assumed variance of one score in [0, 1]; at most 0.25
RATED = 0.1  # assumed share of answers that people rate
FEWEST_UNITS = 20  # units behind a measured mean
MOST_UNITS = 10**8


@dataclass(frozen=True, slots=True)
class SplitVariance:
    """The variance of one answer's value in each arm, and the share of answers that have a value."""

    a: float
    b: float
    answered: float
    basis: str


def variance_of(plan: Plan, metric: str, found: Comparison | None) -> SplitVariance | None:
    """Estimates it from the means so far, else assumes it. None if nothing is known, as of a metric without bounds.

    A value in [0, 1] with mean m has a variance of at most m (1 - m).
    """
    answered, words = _answered(plan, metric, found)
    means = _means(found)
    if means is not None and found is not None:
        a, b = means
        return SplitVariance(a * (1 - a), b * (1 - b), answered, f"the means so far, {found.pairs} units{words}")
    if metric in FAILURE_METRICS:
        return SplitVariance(0.0, 0.0, 1.0, "it is assumed that nothing fails")
    if metric in _UNBOUNDED:
        return None
    basis = f"a variance of {SPLIT_GUESS:g} in each arm is assumed{words}"
    return SplitVariance(SPLIT_GUESS, SPLIT_GUESS, answered, basis)


def _means(found: Comparison | None) -> tuple[float, float] | None:
    """Means of both arms; None if there are too few units, or values outside [0, 1]."""
    if found is None or found.pairs < FEWEST_UNITS or found.unit or found.a.value is None or found.b.value is None:
        return None
    means = (found.a.value, found.b.value)
    return means if all(0.0 <= mean <= 1.0 for mean in means) else None


_UNBOUNDED = UNBOUNDED_METRICS


def _answered(plan: Plan, metric: str, found: Comparison | None) -> tuple[float, str]:
    """(the share of answers with a value, words for readers)."""
    if not metric.startswith(FEEDBACK) or plan.feedback_missing == "zero":
        return 1.0, ""
    r = found.responses if found else None
    closed = r.a.closed + r.b.closed if r else 0
    if r is None or closed < FEWEST_UNITS or not r.a.answered + r.b.answered:
        return RATED, f"; {RATED:.0%} of the answers are assumed to be rated"
    share = (r.a.answered + r.b.answered) / closed
    return share, f"; {share:.0%} of the answers are rated"


def units_needed(
    variance: SplitVariance, shares: Mapping[str, float], arm: str, gap: float, alpha: float
) -> int | None:
    """Units with a value, of both arms together, until the half-width is below the gap. None if there are too many.

    shares: arm → the planned share of units. alpha: of this candidate, two-sided.
    """
    tuning, both = Tuning(alpha, burn_in=BURN_IN), shares[CONTROL] + shares[arm]
    parts = ((variance.a, shares[CONTROL] / both), (variance.b, shares[arm] / both))

    def width(n: int) -> float:
        if min(n * part for _, part in parts) < BURN_IN:
            return math.inf
        spread = sum((v + (half_width(1.0, n * part, tuning) / 2.0) ** 2) / part for v, part in parts)
        return half_width(math.sqrt(spread), n, tuning)

    return smallest(lambda n: width(n) < gap, 2, MOST_UNITS)


EFFECTS = (1.0, 1.5, 2.0)  # multiples of the planned effect
FAILURES = ("error_rate", "completion")
GUESS = 0.1  # assumed variance of a difference of scores in [0, 1]
FEW = 0.05  # squared deviations below which a variance is not believed
AA = "aa"
EACH_OTHER = "each other"
"""Placeholder for a candidate where candidates are compared with each other."""
LOSS_GATES = (("losses", LOST), ("judge", JUDGED))
_SOURCES: dict[str, Source] = {
    "error_rate": "failed",
    "completion": "completed",
    NATS_PER_TOKEN: "likelihood",
    TOP1_AGREEMENT: "agreement",
}


@dataclass(frozen=True, slots=True)
class Power:
    """Pairs that one condition of a verdict needs, for one candidate."""

    metric: str
    """Name of the metric, or of the gate: "aa"."""
    margin: float
    variance: float | None
    """Variance of one difference; None if unknown."""
    basis: str
    """Source of the variance, for readers."""
    have: int
    """Pairs that have a value so far."""
    needed: int | None
    """Pairs with a value in total, at the planned effect. None if too many to predict, or the variance is unknown."""
    candidate: str = ""
    role: Role | str = "primary"
    """Role of the condition: primary, guardrail, gate, or duel (between candidates)."""
    per_pair: float = 1.0
    """Values per settled pair: below 1 for a repeated control and for a scorer that sees a share."""
    pairs: tuple[int | None, ...] = ()
    """Settled pairs in total, for each of EFFECTS. Only the primary's differ."""


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


def forecast(connection: Reading | None, plan: StoredPlan, terms: Terms = Terms()) -> PowerForecast:
    """The forecast for a plan. connection: None before there is a store."""
    design = plan.plan
    design = replace(design, alpha=design.alpha if terms.alpha is None else terms.alpha)
    design = replace(design, margin=design.margin if terms.margin is None else terms.margin)
    if design.auto_horizon and design != plan.plan:
        design = replace(design, max_pairs=horizon_of(design))
    look = None if connection is None else SequenceStates(StoredEvidence(connection, plan))
    counts = PairCounts() if connection is None else pair_counts(connection, plan.hash)
    served = {} if connection is None or design.mode != "split" else _served(connection, plan)
    pilot = None if connection is None or counts.joined >= MIN_PAIRS else pilot_variance(connection, design)
    shares = None if connection is None else traffic_shares(connection, design, time.time())
    known = _Known(design, look, counts, terms.scorer_shares, served, pilot, shares)
    powers = tuple(power for arm, _ in design.candidates for power in _candidate(known, arm))
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
    pace = TrafficPace(made.needed, a_day, requests_a_day, errors, depends)
    also = (*_segment_terms(known, powers), *price_terms(design, pace, _needs(powers))) if powers else ()
    also = also if best is None else (best_term(best), *also)
    return replace(made, prices=tuple(prices) if powers else (), terms=also, best=best)


def _duel(known: _Known) -> Power | None:
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
    of = [_variance(known, (name,), metric, bounded) for name in names]
    variance, basis = max(of, key=lambda each: each[0] or 0.0)
    rule = replace(_rule(plan, metric, plan.margin, bounded, first), compared=0, earlier=False)
    share = known.per_pair(metric, min(have, default=0), False)
    totals = [None if variance is None else needed(rule, variance, plan.margin, effect) for effect in EFFECTS]
    pairs = tuple(_settled(n, share) for n in totals)
    have_least = min(have, default=0) if len(have) == len(names) else 0
    return Power(metric, plan.margin, variance, basis, have_least, totals[0], EACH_OTHER, "duel", share, pairs)


def _best(known: _Known, duel: Power, powers: Sequence[Power]) -> BestPrice | None:
    plan, variance = known.plan, duel.variance
    if variance is None:
        return None
    bounded = duel.metric not in (*MEASURES, P95)
    rule = replace(_rule(plan, duel.metric, plan.margin, bounded, plan.candidates[0][0]), compared=0, earlier=False)
    others = [each.pairs[0] for each in powers if each.role in ("guardrail", "gate") and each.pairs]
    until = partial(_until, rule, variance, plan.margin, duel.per_pair)
    return best_price(plan, variance, until, max((n for n in others if n is not None), default=0))


def _until(
    rule: SequenceRule, variance: float, margin: float, per_pair: float, margins: float, deviations: float
) -> int | None:
    """Settled pairs until the interval between two candidates is narrow enough: see best_price.Until."""
    width, deviation = half_width_of(rule, variance), math.sqrt(variance)
    pairs = smallest(lambda n: width(n) < margins * margin + deviations * deviation / math.sqrt(n), 2, MOST_PAIRS)
    return _settled(pairs, per_pair)


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


def pilot_variance(connection: Reading, plan: Plan) -> float | None:
    """The variance of one difference of the primary, from earlier pairs of the same control and candidates.

    The largest over the candidates, of the newest plan of this experiment that has MIN_PAIRS; None if there is none.
    """
    for stored in reversed(stored_plans(connection, plan.name)):
        earlier = stored.plan
        if (earlier.model, earlier.control, earlier.candidates) != (plan.model, plan.control, plan.candidates):
            continue
        sequences = SequenceStates(StoredEvidence(connection, stored)).sequences
        found = [sequences.get((arm, plan.primary or "")) for arm, _ in plan.candidates]
        known = [
            # a plan's horizon does not count on the adjustment, and pays for users whose calls are alike
            (each.unadjusted if each.unadjusted.n else each.moments).variance() * each.inflation
            for each in found
            if each and (each.bounded or plan.likelihood) and each.n >= MIN_PAIRS
        ]
        if known and len(known) == len(found):
            return max(known)
    return None


@dataclass(frozen=True, slots=True)
class _Known:
    """Facts about a plan before and during its experiment."""

    plan: Plan
    look: SequenceStates | None
    counts: PairCounts
    scorer_shares: Mapping[str, float]
    served: Mapping[str, Mapping[str, Comparison]] = field(default_factory=dict)
    """Comparisons of a split so far, by candidate and metric."""
    pilot: float | None = None
    """Variance of the primary in earlier plans of the same targets."""
    shares: Shares | None = None
    """Shares of the segments in recent traffic; None if not known."""

    def sequence(self, arm: str, metric: str) -> DifferenceSequence | None:
        return None if self.look is None else self.look.sequences.get((arm, metric))

    def per_pair(self, metric: str, values: int, repeated: bool) -> float:
        """Values per settled pair: as measured, else as the plan and the config say."""
        if self.plan.mode == "split":
            return self.scorer_shares.get(metric, 1.0)
        if values and self.counts.joined >= MIN_PAIRS:
            return min(1.0, values / self.counts.joined)
        return self.scorer_shares.get(metric, 1.0) * (self.plan.repeat_control if repeated else 1.0)


def _candidate(known: _Known, arm: str) -> list[Power]:
    plan = known.plan
    names = ([plan.primary] if plan.primary else []) + [g.metric for g in plan.guardrails]
    if plan.mode == "split":
        return [*(_split_power(known, arm, name) for name in names), _ratio_gate(known, arm)]
    found = [_power(known, arm, name) for name in names]
    losses = (_loss_gate(known, arm, name, metric) for name, metric in LOSS_GATES)
    gates = (_gate(known, arm), *losses, _completeness_gate(known, arm))
    return [*found, *_segment_powers(known, arm), *(gate for gate in gates if gate is not None)]


def _segment_powers(known: _Known, arm: str) -> Iterator[Power]:
    """The declared segments, each with a power that lets all of them be decided with 0.8."""
    plan, design = known.plan, known.plan.segments
    if design is None or plan.primary is None:
        return
    shares, bounded = _segment_shares(known, design), plan.primary not in (*MEASURES, P95)
    for prop, value in design.segments:
        share = shares[prop, value]
        if share < design.least_share:
            continue
        name, sequence = f"{SEGMENT}{segment_name(prop, value)}", known.sequence(arm, f"{SEGMENT}{prop}={value}")
        own = sequence is not None and sequence.n >= MIN_PAIRS
        variance, basis = _variance(known, (arm,), name if own else plan.primary, bounded)
        per_pair = share * min(design.factor({prop: value}), 1.0 / plan.shadow if plan.shadow else 1.0)
        total = None if variance is None else segment_pairs(plan, math.sqrt(variance), design.margin)
        have, pairs = sequence.n if sequence else 0, _settled(total, per_pair)
        effects = (pairs,) * len(EFFECTS)
        yield Power(name, design.margin, variance, basis, have, total, arm, "segment", per_pair, effects)


def _segment_shares(known: _Known, design: SegmentDesign) -> Mapping[tuple[str, str], float]:
    """Shares of the segments in recent traffic, or equal shares of the values of a property where there is none."""
    if known.shares is not None:
        return declared_shares(design, known.shares)
    of = Counter(prop for prop, _ in design.segments)
    return {(prop, value): 1.0 / of[prop] for prop, value in design.segments}


def _segment_terms(known: _Known, powers: Sequence[Power]) -> Iterator[PriceTerm]:
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


def _power(known: _Known, arm: str, metric: str) -> Power:
    plan, margin = known.plan, margin_of(known.plan, metric) or 0.0
    alone = metric in FAILURES and counts_alone(plan)
    sequence = known.sequence(arm, ALONE if alone else metric)
    bounded = sequence.bounded if sequence else metric not in (*MEASURES, P95, NATS_PER_TOKEN)
    rule = _rule(plan, metric, margin, bounded, arm)
    variance, basis = _variance(known, (arm,) if alone else (arm, REPEAT), ALONE if alone else metric, bounded)
    have = sequence.n if sequence else 0
    share = known.per_pair(metric, have, needs_repeat(plan, metric, sequence))
    role = "primary" if metric == plan.primary else "guardrail"
    effects = EFFECTS if role == "primary" else (1.0,) * len(EFFECTS)
    totals = [None if variance is None else needed(rule, variance, margin, effect) for effect in effects]
    pairs = tuple(_settled(n, share) for n in totals)
    return Power(metric, margin, variance, basis, have, totals[0], arm, role, share, pairs)


def _settled(values: int | None, per_pair: float) -> int | None:
    """Settled pairs until this number of them has a value; None if unknown, or none has one."""
    return None if values is None or not per_pair else math.ceil(values / per_pair)


@dataclass(frozen=True, slots=True)
class _GatePower:
    """Pairs that a gate needs, which are the same for each effect."""

    margin: float
    variance: float | None
    basis: str
    have: int
    needed: int | None

    def of(self, name: str, arm: str, per_pair: float = 1.0) -> Power:
        pairs = (_settled(self.needed, per_pair),) * len(EFFECTS)
        known = (self.margin, self.variance, self.basis, self.have, self.needed)
        return Power(name, *known, arm, "gate", per_pair, pairs)


def _served(connection: Reading, plan: StoredPlan) -> dict[str, dict[str, Comparison]]:
    found = {arm: finding(StoredEvidence(connection, plan), arm) for arm, _ in plan.plan.candidates}
    return {arm: {c.metric: c for c in each.metrics} for arm, each in found.items()}


def _split_power(known: _Known, arm: str, metric: str) -> Power:
    """Units instead of pairs: those of all arms, until the two that are compared have enough."""
    plan, margin = known.plan, margin_of(known.plan, metric) or 0.0
    found = known.served.get(arm, {}).get(metric)
    variance, shares = variance_of(plan, metric, found), planned_shares(plan)
    role = "primary" if metric == plan.primary else "guardrail"
    have = found.pairs if found else 0
    if variance is None or margin <= 0:
        basis = "no guess for this unit" if variance is None else variance.basis
        return Power(metric, margin, None, basis, have, None, arm, role, 1.0, (None,) * len(EFFECTS))
    share = variance.answered * known.scorer_shares.get(metric, 1.0) * (shares[CONTROL] + shares[arm])
    effects = EFFECTS if role == "primary" else (1.0,) * len(EFFECTS)
    alpha = plan.alpha / len(plan.candidates)
    totals = [units_needed(variance, shares, arm, effect * margin, alpha) for effect in effects]
    units = tuple(_settled(n, share) for n in totals)
    spread = variance.a / shares[CONTROL] + variance.b / shares[arm]
    return Power(metric, margin, spread, variance.basis, have, totals[0], arm, role, share, units)


def _ratio_gate(known: _Known, arm: str) -> Power:
    """The gate on the sample ratio: units until the arms are shown to have their shares."""
    total = units_for_srm([share for share in planned_shares(known.plan).values() if share > 0])
    basis = "units until the arms are shown to have their shares"
    return _GatePower(0.0, None, basis, 0, total).of(SRM, arm)


def _gate(known: _Known, arm: str) -> Power | None:
    """The A/A gate: an alarm needs a few repeats of the control, a proof that it differs from itself by little.

    None if both arms are on one path anyway, or a guard's arm takes none.
    """
    plan, metric = known.plan, known.plan.primary
    sequence = known.sequence(arm, metric) if metric else None
    if metric is None or plan.guarded or needs_repeat(plan, metric, sequence):
        return None
    noise = known.sequence(REPEAT, metric)
    bounded = metric not in (*MEASURES, P95)
    margin, have = plan.margin or FALLBACK, noise.n if noise else 0
    variance, basis = _variance(known, (REPEAT,), metric, bounded)
    share = known.per_pair(metric, have, True)
    total: int | None = FEWEST_REPEATS
    if plan.aa == "alarm":
        variance, basis = None, "an alarm, which only has to stay silent"
    elif variance is not None:
        total = needed(_rule(plan, metric, margin, bounded, REPEAT), variance, margin)
    total = total if share and (plan.aa == "alarm" or variance is not None) else None
    return _GatePower(margin, variance, basis, have, total).of(AA, arm, share)


def _loss_gate(known: _Known, arm: str, name: str, metric: str) -> Power | None:
    """A gate on lost records or failed judgements: pairs until both arms are shown to lose about equally often.

    None if nothing was lost so far, or so little that it cannot change a verdict.
    """
    sequence, margin = known.sequence(arm, metric), known.plan.margin or FALLBACK
    if sequence is None or sequence.n < MIN_PAIRS:
        return None
    lost = ((sequence.arm("a").value or 0.0) + (sequence.arm("b").value or 0.0)) / 2
    if lost <= NEGLIGIBLE * margin:
        return None
    variance = sequence.moments.variance()
    total = needed(sequence.rule, variance, margin)
    share = known.per_pair(metric, sequence.n, needs_repeat(known.plan, "error_rate", None))
    basis = f"{lost:.1%} lost on each arm so far, {sequence.n} pairs"
    return _GatePower(margin, variance, basis, sequence.n, total).of(name, arm, share)


def _completeness_gate(known: _Known, arm: str) -> Power | None:
    """Pairs until the arms are shown to lack a score equally often, or the primary to hold at worst: the fewer.

    None if no score, or too few to matter, is missing on one arm alone.
    """
    sequence, worst = known.sequence(arm, MISSING), known.sequence(arm, WORST)
    margin = known.plan.margin or FALLBACK
    if sequence is None or sequence.n < MIN_PAIRS:
        return None
    missing, limit = (sequence.a.mean or 0.0) + (sequence.b.mean or 0.0), NEGLIGIBLE * margin
    if missing <= limit:
        return None
    prefers = known.look is not None and known.look.prefers(arm, known.plan.primary or "")
    ways = [] if prefers else [needed(sequence.rule, sequence.moments.variance(), limit)]
    gap = margin + worst.moments.mean if worst is not None else 0.0
    if worst is not None and gap > 0:
        ways.append(needed(worst.rule, worst.moments.variance() * worst.inflation, gap))
    total = min((n for n in ways if n is not None), default=None)
    share = known.per_pair(MISSING, sequence.n, False)
    what = "no preference" if prefers else "a value for one arm only"
    basis = f"{missing:.1%} have {what} so far, {sequence.n} pairs"
    variance = sequence.moments.variance()
    return _GatePower(limit, variance, basis, sequence.n, total).of(COMPLETENESS, arm, share)


def _rule(plan: Plan, metric: str, margin: float, bounded: bool, arm: str) -> SequenceRule:
    source: Source = _SOURCES.get(metric, "score") if bounded or metric == NATS_PER_TOKEN else "measure"
    name = ALONE if metric in FAILURES and metric != plan.primary and counts_alone(plan) else metric
    return rule_of(plan, Metric(name, source), margin, arm)


def needed(rule: SequenceRule, variance: float, margin: float, effect: float = 1.0) -> int | None:
    """Pairs with a value until the half-width is below effect times the margin. None if there are too many to predict.

    With a horizon, at the planned effect: those that decide it with a power of 0.8, even if they are more than that.
    """
    if margin <= 0:
        return None
    if rule.method == "hybrid" and effect <= 1.0:
        return planned_pairs(math.sqrt(variance), margin, rule.alpha, largest=rule.largest)
    gap, width = effect * margin, half_width_of(rule, variance)
    return smallest(lambda n: width(n) < gap, 2, MOST_PAIRS)


def _variance(known: _Known, arms: tuple[str, ...], metric: str, bounded: bool) -> tuple[float | None, str]:
    """(variance of a difference, its basis): of the first of these arms that has MIN_PAIRS."""
    for arm in arms:
        found = known.sequence(arm, metric)
        if found is not None and found.n >= MIN_PAIRS:
            words = "the control against itself" if arm == REPEAT else "the candidate so far"
            words += f", adjusted (saves {found.saved:.0%} of the pairs)" if found.saved else ""
            return _believed(found, bounded and metric not in (*FAILURES, ALONE), f"{words}, {found.n} pairs")
    if metric == known.plan.primary and known.pilot is not None:
        return known.pilot, "earlier pairs of these targets"
    if metric == NATS_PER_TOKEN:
        deviation = likelihood_scale(known.plan.margin or FALLBACK)[0]
        return deviation**2, f"fewer than {MIN_PAIRS} pairs yet; a deviation of {deviation:g} is assumed"
    if not bounded:
        return None, f"fewer than {MIN_PAIRS} pairs yet, and no guess for this unit"
    if metric in (*FAILURES, ALONE):
        return 0.0, f"fewer than {MIN_PAIRS} pairs yet; it is assumed that nothing fails"
    return GUESS, f"fewer than {MIN_PAIRS} pairs yet; a variance of {GUESS:g} is assumed"


def _believed(found: DifferenceSequence, floored: bool, basis: str) -> tuple[float, str]:
    """The variance that a forecast uses. Differences that were almost always 0 so far may still vary: `guarded` adds
    the variance of unseen values.

    Where an alarm says that values of a user, a key, a conversation or a quarter of an hour depend on each other, the
    variance is the larger one that the verdict's interval has.
    """
    variance, m2 = found.moments.variance() * found.inflation, found.moments.m2
    if found.inflation > 1.0:
        basis += f", {found.inflation:.1f} times the variance since they depend on each other"
    floor = min(guarded(m2, 1.0) / found.n, GUESS) if floored and m2 < FEW else 0.0
    return (floor, f"{basis}, with a floor for rare differences") if floor > 1.1 * variance else (variance, basis)
