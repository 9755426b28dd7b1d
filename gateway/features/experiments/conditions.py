"""The conditions of one candidate's verdict, and the pace of its pairs, read from what an experiment has found."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

from gateway.core.horizon import FEWEST_REPEATS
from gateway.core.plan import FAILURE_METRICS, REPEAT, Plan
from gateway.features.experiments.completeness import COMPLETENESS
from gateway.features.experiments.findings import Finding, SequenceStates, delta_of
from gateway.features.experiments.gates import units_for_srm
from gateway.features.experiments.latency_difference import P95
from gateway.features.experiments.metrics import ALONE, SAME_PATH, WORST, counts_alone
from gateway.features.experiments.next_step import Condition, Pace, progress, standing
from gateway.features.experiments.reject_hours import pairs_until_reject, rejects, too_early
from gateway.features.experiments.rows.queries import PairCounts
from gateway.features.experiments.sequences import DifferenceSequence
from gateway.features.experiments.split import SRM, planned_shares
from gateway.features.experiments.traffic_facts import HOURS
from gateway.features.experiments.verdict import HARMLESS, pairs_needed
from gateway.reports.model import Comparison, Estimate, GateResult, Progress

MIN_PAIRS = 20  # fewest pairs from which a pace, a share or a variance is estimated
_DAY_S = 86_400.0


def progress_of(found: Finding, look: SequenceStates) -> Progress:
    """What is left until the verdict of this candidate."""
    primary = found.primary
    sequence = look.sequences.get((found.candidate, primary.metric)) if primary else None
    variance = sequence.variance if sequence else 0.0
    decided = found.decision.verdict != "hold"
    return progress(
        found.stored_plan.plan, standing(primary, variance), conditions_of(found, look), pace_of(found), decided
    )


def pace_of(found: Finding) -> Pace:
    """The pace of the pairs. In a split a unit counts as a pair, and each eligible request as one."""
    plan, counts = found.stored_plan.plan, found.pairs
    if plan.mode == "split":
        units, hours = found.primary.pairs if found.primary else 0, found.traffic.hours if found.traffic else 0.0
        return Pace(units, 1.0, 24.0 * units / hours if hours and units >= MIN_PAIRS else None)
    return Pace(counts.joined, plan.shadow * offered_share(counts), pairs_a_day(counts))


def offered_share(counts: PairCounts) -> float:
    """The share of the drawn requests that became pairs; 1.0 before anything is known."""
    drawn = counts.joined + counts.lost + sum((counts.not_asked or {}).values())
    return counts.joined / drawn if counts.joined >= MIN_PAIRS else 1.0


def pairs_a_day(counts: PairCounts) -> float | None:
    """None: too few pairs to tell."""
    if counts.first is None or counts.last is None or counts.joined < MIN_PAIRS:
        return None
    return _DAY_S * counts.joined / max(counts.last - counts.first, 1.0)


def needs_repeat(plan: Plan, metric: str, sequence: DifferenceSequence | None) -> bool:
    """Whether only pairs with a repeat of the control have a value of the metric."""
    if plan.mode == "split" or not plan.repeat_control:
        return False
    if metric in FAILURE_METRICS:
        return not counts_alone(plan)
    distance = sequence is not None and sequence.test is not None
    preference = sequence is not None and sequence.preference
    return metric in (*SAME_PATH, P95) or distance or (plan.compare == "repeat" and not preference)


def conditions_of(found: Finding, look: SequenceStates) -> list[Condition]:
    """The primary, the guardrails and the gates, closed ones included."""
    metrics = [c for c in (found.primary, *found.guardrails) if c is not None]
    of_metrics = [_by_repeats_alone(_of_metric(c, found, look), c, found, look) for c in metrics]
    return [*of_metrics, *(_of_gate(g, found, look) for g in found.gates)]


def _by_repeats_alone(of: Condition, c: Comparison, found: Finding, look: SequenceStates) -> Condition:
    """The condition of a failure metric that only repeats of the control can decide.

    Where the candidate fails in the margin or more of all pairs, its own rate cannot show that it holds: only the
    difference from the control's repeats can.
    """
    plan, sequence = found.stored_plan.plan, look.sequences.get((found.candidate, c.metric))
    alone = look.sequences.get((found.candidate, ALONE)) if c.metric in FAILURE_METRICS else None
    if alone is None or alone.n < MIN_PAIRS or not c.margin or (alone.b.mean or 0.0) < c.margin or not of.more_values:
        return of
    n = sequence.n if sequence else 0
    more = (
        None if sequence is None else pairs_needed(sequence.estimate(), n, sequence.variance, c.margin, sequence.rule)
    )
    share = _per_pair(n, found, plan.repeat_control)
    return replace(of, values=n, more_values=more, per_pair=share, by_repeat=True, at_most=False)


def _of_metric(c: Comparison, found: Finding, look: SequenceStates) -> Condition:
    plan = found.stored_plan.plan
    sequence = look.sequences.get((found.candidate, c.metric))
    repeat = needs_repeat(plan, c.metric, sequence)
    closed = c.margin_found in HARMLESS or rejects(c)
    return Condition(
        kind="primary" if c.role == "primary" else "guardrail",
        name=c.metric,
        estimate=c.difference,
        margin=c.margin,
        values=c.pairs,
        more_values=0 if closed else pairs_until_reject(c) or c.pairs_needed or _until_horizon(c),
        failed=c.closed and not closed,
        at_most=not closed and not c.pairs_needed and not too_early(c),
        chance=c.chance,
        per_pair=_answered(c) or _per_pair(c.pairs, found, plan.repeat_control if repeat else 1.0),
        by_repeat=repeat,
        by_scorer_share=_seen_by_scorer(c, found) if not repeat else 1.0,
    )


def _answered(c: Comparison) -> float | None:
    """The share of answers with feedback, if only these count; None: that is not what the metric waits for."""
    r = c.responses
    if r is None or r.missing == "zero" or r.a.closed + r.b.closed < MIN_PAIRS:
        return None
    return (r.a.answered + r.b.answered) / (r.a.closed + r.b.closed) or None


def _until_horizon(c: Comparison) -> int | None:
    """Pairs until the metric takes no more; None: it takes more forever, or none."""
    return None if c.horizon is None or c.closed else c.horizon - c.pairs


def _per_pair(values: int, found: Finding, planned: float) -> float:
    """Values per settled pair: as measured, else as planned."""
    joined = found.pairs.joined
    if found.stored_plan.plan.mode == "split":
        return 1.0
    return min(1.0, values / joined) if joined >= MIN_PAIRS and values else planned


def _seen_by_scorer(c: Comparison, found: Finding) -> float:
    """The share of pairs that the scorer saw. A pair that it saw has a value, or is withheld with a reason."""
    name, joined = found.names.get(c.metric), found.pairs.joined
    if name is None or name.identity == "-" or joined < MIN_PAIRS or found.stored_plan.plan.mode == "split":
        return 1.0
    withheld: Counter[str] = Counter()
    for (sequence, reason, _), n in found.withheld.items():
        if sequence == name:
            withheld[reason] += n
    return min(1.0, (c.pairs + sum(withheld.values())) / joined)


def _of_gate(gate: GateResult, found: Finding, look: SequenceStates) -> Condition:
    plan, primary = found.stored_plan.plan, found.primary
    noise = look.sequences.get((REPEAT, primary.metric)) if primary else None
    aa = gate.name == "aa" and primary is not None
    delta = plan.margin or delta_of(plan, primary)
    values = noise.n if aa and noise else 0
    more = 0 if gate.state == 1 else None
    if gate.name == SRM and found.split is not None:
        values = sum(found.split.units.values())
        shares = [share for share in planned_shares(plan).values() if share > 0]
        if gate.state == 0 and len(shares) > 1:
            more = max(1, units_for_srm(shares) - values)
    if aa and gate.state == 0 and plan.repeat_control:
        if plan.aa == "alarm":
            more = max(1, FEWEST_REPEATS - values)
        elif noise is not None:
            more = repeats_needed(noise, delta)
    worst = look.sequences.get((found.candidate, WORST))
    if gate.name == COMPLETENESS and gate.state == 0 and worst is not None:
        values, more = worst.n, pairs_needed(worst.estimate(), worst.n, worst.variance, delta, worst.rule)
    if gate.name == COMPLETENESS and gate.state == 0 and found.split is not None and found.split.missing is not None:
        values, more = sum(found.split.units.values()), found.split.missing.more_units
    a_day = pace_of(found).pairs_a_day
    if gate.name == HOURS and gate.state == 0 and a_day is not None:
        more = max(1, math.ceil((plan.min_hours - (gate.value or 0.0)) / 24.0 * a_day))
    return Condition(
        kind="gate",
        name=gate.name,
        estimate=noise.estimate() if aa and noise else Estimate(gate.value),
        margin=delta if aa else None,
        values=values,
        more_values=more,
        per_pair=_per_pair(values, found, plan.repeat_control) if aa else 1.0,
        failed=gate.state < 0,
        by_repeat=aa,
    )


def repeats_needed(noise: DifferenceSequence, delta: float) -> int | None:
    """Repeats of the control that are still needed to show that it differs from itself by less than delta."""
    value = noise.moments.mean
    if abs(value) >= delta:
        return None
    return pairs_needed(Estimate(-abs(value)), noise.n, noise.moments.variance(), delta, noise.rule)
