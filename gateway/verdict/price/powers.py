"""Pairs that each condition of a verdict needs: the primary, the guardrails, the segments and the gates."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from gateway.core.horizon import FEWEST_REPEATS, guarded, likelihood_scale, planned_pairs
from gateway.core.plan import CONTROL, NATS_PER_TOKEN, REPEAT, TOP1_AGREEMENT, Guardrail, Plan
from gateway.core.plan_evidence import MIN_PAIRS, PairCounts
from gateway.core.segments import SegmentDesign, segment_name
from gateway.reports.model import Comparison, Role
from gateway.statistics.special import smallest
from gateway.verdict.conditions import needs_repeat
from gateway.verdict.decision import MOST_PAIRS, half_width_of
from gateway.verdict.gates.completeness import COMPLETENESS
from gateway.verdict.metrics import (
    ALONE,
    JUDGED,
    LOST,
    MEASURES,
    MISSING,
    NEGLIGIBLE,
    SEGMENT,
    WORST,
    Metric,
    Source,
    counts_alone,
)
from gateway.verdict.plan_gates import FALLBACK
from gateway.verdict.price.failures import FailureRate, failure_pairs
from gateway.verdict.price.units import units_needed, variance_of
from gateway.verdict.segments.shares import Shares, declared_shares
from gateway.verdict.sequences.difference import DifferenceSequence, SequenceRule, rule_of, segment_pairs
from gateway.verdict.sequences.latency import P95
from gateway.verdict.sequences.progress import margin_of
from gateway.verdict.split.ratio import SRM, planned_shares, units_for_ratio
from gateway.verdict.states import SequenceStates

EFFECTS = (1.0, 1.5, 2.0)  # multiples of the planned effect
FAILURES = ("error_rate", "completion")
NOTABLE = 1.05  # times the variance of independent values, from which a forecast names the factor
GUESS = 0.1  # assumed variance of a difference of scores in [0, 1]
FEW = 0.05  # squared deviations below which a variance is not believed
AA = "aa"
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
class PowerBasis:
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
    failures: FailureRate | None = None
    """Failures of the control in the last day; None if not known."""

    def sequence(self, arm: str, metric: str) -> DifferenceSequence | None:
        return None if self.look is None else self.look.sequences.get((arm, metric))

    def per_pair(self, metric: str, values: int, repeated: bool) -> float:
        """Values per settled pair: as measured, else as the plan and the config say."""
        if self.plan.mode == "split":
            return self.scorer_shares.get(metric, 1.0)
        if values and self.counts.joined >= MIN_PAIRS:
            return min(1.0, values / self.counts.joined)
        return self.scorer_shares.get(metric, 1.0) * (self.plan.repeat_control if repeated else 1.0)


def powers_of(known: PowerBasis, arm: str) -> list[Power]:
    plan = known.plan
    names = ([plan.primary] if plan.primary else []) + [g.metric for g in plan.guardrails]
    if plan.mode == "split":
        return [*(_split_power(known, arm, name) for name in names), _ratio_gate(known, arm)]
    found = [_power(known, arm, name) for name in names]
    losses = (_loss_gate(known, arm, name, metric) for name, metric in LOSS_GATES)
    gates = (_gate(known, arm), *losses, _completeness_gate(known, arm))
    return [*found, *_segment_powers(known, arm), *(gate for gate in gates if gate is not None)]


def _segment_powers(known: PowerBasis, arm: str) -> Iterator[Power]:
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
        variance, basis = variance_basis(known, (arm,), name if own else plan.primary, bounded)
        per_pair = share * min(design.factor({prop: value}), 1.0 / plan.shadow if plan.shadow else 1.0)
        total = None if variance is None else segment_pairs(plan, math.sqrt(variance), design.margin)
        have, pairs = sequence.n if sequence else 0, settled(total, per_pair)
        effects = (pairs,) * len(EFFECTS)
        yield Power(name, design.margin, variance, basis, have, total, arm, "segment", per_pair, effects)


def _segment_shares(known: PowerBasis, design: SegmentDesign) -> Mapping[tuple[str, str], float]:
    """Shares of the segments in recent traffic, or equal shares of the values of a property where there is none."""
    if known.shares is not None:
        return declared_shares(design, known.shares)
    of = Counter(prop for prop, _ in design.segments)
    return {(prop, value): 1.0 / of[prop] for prop, value in design.segments}


def _power(known: PowerBasis, arm: str, metric: str) -> Power:
    plan, margin = known.plan, margin_of(known.plan, metric) or 0.0
    alone = metric in FAILURES and counts_alone(plan)
    sequence = known.sequence(arm, ALONE if alone else metric)
    bounded = sequence.bounded if sequence else metric not in (*MEASURES, P95, NATS_PER_TOKEN)
    rule = rule_of_metric(plan, metric, margin, bounded, arm)
    variance, basis = variance_basis(known, (arm,) if alone else (arm, REPEAT), ALONE if alone else metric, bounded)
    have = sequence.n if sequence else 0
    share = known.per_pair(metric, have, needs_repeat(plan, metric, sequence))
    role = "primary" if metric == plan.primary else "guardrail"
    effects = EFFECTS if role == "primary" else (1.0,) * len(EFFECTS)
    totals = [None if variance is None else needed(rule, variance, margin, effect) for effect in effects]
    pairs = tuple(settled(n, share) for n in totals)
    made = Power(metric, margin, variance, basis, have, totals[0], arm, role, share, pairs)
    return _at_known_rate(known, made) if metric in FAILURES and have < MIN_PAIRS and margin else made


def _at_known_rate(known: PowerBasis, of_none: Power) -> Power:
    """A guardrail on failures, priced at the rate of the last day. of_none: priced as if nothing failed."""
    rail, failing = Guardrail(of_none.metric, of_none.margin), known.failures
    if failing is None or of_none.role != "guardrail":
        return of_none
    pairs = failure_pairs(known.plan, rail, failing.rate)
    return replace(of_none, basis=failing.basis, needed=pairs, per_pair=1.0, pairs=(pairs,) * len(EFFECTS))


def settled(values: int | None, per_pair: float) -> int | None:
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
        pairs = (settled(self.needed, per_pair),) * len(EFFECTS)
        known = (self.margin, self.variance, self.basis, self.have, self.needed)
        return Power(name, *known, arm, "gate", per_pair, pairs)


def _split_power(known: PowerBasis, arm: str, metric: str) -> Power:
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
    units = tuple(settled(n, share) for n in totals)
    spread = variance.a / shares[CONTROL] + variance.b / shares[arm]
    return Power(metric, margin, spread, variance.basis, have, totals[0], arm, role, share, units)


def _ratio_gate(known: PowerBasis, arm: str) -> Power:
    """The gate on the sample ratio: units until the arms are shown to have their shares."""
    basis = "units until the arms are shown to have their shares"
    return _GatePower(0.0, None, basis, 0, units_for_ratio(known.plan)).of(SRM, arm)


def _gate(known: PowerBasis, arm: str) -> Power | None:
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
    variance, basis = variance_basis(known, (REPEAT,), metric, bounded)
    share = known.per_pair(metric, have, True)
    total: int | None = FEWEST_REPEATS
    if plan.aa == "alarm":
        variance, basis = None, "an alarm, which only has to stay silent"
    elif variance is not None:
        total = needed(rule_of_metric(plan, metric, margin, bounded, REPEAT), variance, margin)
    total = total if share and (plan.aa == "alarm" or variance is not None) else None
    return _GatePower(margin, variance, basis, have, total).of(AA, arm, share)


def _loss_gate(known: PowerBasis, arm: str, name: str, metric: str) -> Power | None:
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


def _completeness_gate(known: PowerBasis, arm: str) -> Power | None:
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


def rule_of_metric(plan: Plan, metric: str, margin: float, bounded: bool, arm: str) -> SequenceRule:
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


def variance_basis(known: PowerBasis, arms: tuple[str, ...], metric: str, bounded: bool) -> tuple[float | None, str]:
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

    Where units are counted, or an alarm says that values of a user, a key, a conversation or a quarter of an hour
    depend on each other, the variance is the larger one that the verdict's interval has.
    """
    variance, m2 = found.moments.variance() * found.inflation, found.moments.m2
    if found.inflation >= NOTABLE:
        basis += f", {found.inflation:.1f} times the variance since they depend on each other"
    floor = min(guarded(m2, 1.0) / found.n, GUESS) if floored and m2 < FEW else 0.0
    return (floor, f"{basis}, with a floor for rare differences") if floor > 1.1 * variance else (variance, basis)
