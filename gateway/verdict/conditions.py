"""Progress to a verdict: the open conditions, the pairs that each still needs, and the setting that would shorten it.

The numbers extrapolate: the mean and the variance of each metric, and the pace of the pairs, are assumed to stay as
they are. They promise nothing; the interval alone decides.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal

from gateway.core.horizon import FEWEST_REPEATS
from gateway.core.plan import FAILURE_METRICS, REPEAT, Plan
from gateway.core.plan_evidence import MIN_PAIRS
from gateway.reports.model import (
    Comparison,
    Estimate,
    GateResult,
    NextStep,
    OpenCondition,
    Progress,
    margin_finding,
)
from gateway.reports.number_format import digits, number, span, work
from gateway.verdict.decision import HARMLESS, pairs_needed, pairs_until_reject, rejects, too_early
from gateway.verdict.findings import Finding
from gateway.verdict.gates.completeness import COMPLETENESS, JUDGE
from gateway.verdict.metrics import ALONE, SAME_PATH, counts_alone
from gateway.verdict.plan_gates import delta_of
from gateway.verdict.price.terms import rounded_up
from gateway.verdict.segments.declared import SegmentsFound
from gateway.verdict.sequences.difference import DifferenceSequence
from gateway.verdict.sequences.latency import P95
from gateway.verdict.split.comparison import counted_as
from gateway.verdict.split.ratio import SRM, planned_shares, units_for_ratio
from gateway.verdict.states import SequenceStates, worst_sequences
from gateway.verdict.traffic_facts import HOURS

REPEATED = 1.0  # the share that a knob proposes for repeat_control and shadow
WIDER = 1.5  # the factor that a knob proposes for the margin
WORTH = 0.8  # a knob is named only if it takes at most this share of the requests that are left
MOST_KNOBS = 3
FUTILE = 0.05  # a smaller chance of a decision makes the advice to stop
_LIKELY, _PERHAPS = 0.95, 0.8
_AT_WORST = (COMPLETENESS, JUDGE)  # gates that are as green as the primary at worst


@dataclass(frozen=True, slots=True)
class Pace:
    """Rates at which requests become pairs."""

    pairs: int
    """Settled so far."""
    pairs_per_request: float
    """Settled pairs per eligible request; 0 means that none is shadowed."""
    pairs_a_day: float | None = None
    """Settled pairs per day; None if there are too few pairs to tell."""

    def requests(self, pairs: float | None) -> int | None:
        if pairs is None or not self.pairs_per_request:
            return None
        return math.ceil(pairs / self.pairs_per_request)

    def days(self, pairs: float | None) -> float | None:
        return None if pairs is None or not self.pairs_a_day else pairs / self.pairs_a_day


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a verdict, from which its remaining time is computed."""

    kind: Literal["primary", "guardrail", "segment", "gate", "duel"]
    name: str
    estimate: Estimate
    margin: float | None
    values: int
    """Pairs that have a value of it so far."""
    more_values: int | None
    """Values still needed; 0 if it is closed; None if unknown, or out of reach."""
    per_pair: float
    """Values per settled pair."""
    failed: bool = False
    """Whether no further pair closes it: a red gate, or a metric at its horizon."""
    at_most: bool = False
    """more_values are those to its horizon."""
    chance: float | None = None
    """Probability that its horizon decides it; None if it has no horizon, or there are too few values."""
    by_repeat: bool = False
    """Whether only pairs with a repeat of the control have a value."""
    by_scorer_share: float = 1.0
    """The share of pairs that the scorer sees."""
    hours: float | None = None
    """Hours of traffic that remain, whatever number of pairs arrives in them; None if it waits for pairs."""

    @property
    def more_pairs(self) -> int | None:
        if self.more_values is None or (self.more_values and not self.per_pair):
            return None
        return math.ceil(self.more_values / self.per_pair) if self.more_values else 0

    @property
    def leads_to_reject(self) -> bool:
        return (
            self.kind in ("primary", "guardrail")
            and self.margin is not None
            and (self.estimate.value or 0.0) < -self.margin
        )


def describe_difference(c: Comparison | None, variance: float) -> str:
    """Describes an undecided metric: "worse by 0.055 so far, likely". variance: of one difference.

    The word is that of a single look (a normal approximation): it informs and decides nothing.
    """
    if c is None:
        return "no primary metric"
    if c.difference.value is None or not c.pairs:
        return f"no {c.counts} has a value of {c.metric} yet"
    error = math.sqrt(max(variance, 1e-12) / c.pairs)
    sure = NormalDist().cdf(abs(c.difference.value) / error)
    if sure < _PERHAPS or not c.difference.value:
        return "no difference visible so far"
    size = number(abs(c.difference.value), digits(c.margin or c.difference.value))
    unit = f" {c.unit}" if c.unit else ""
    way = "better" if c.difference.value > 0 else "worse"
    return f"{way} by {size}{unit} so far, {'likely' if sure >= _LIKELY else 'perhaps'}"


def progress(
    plan: Plan, so_far: str, conditions: Sequence[Condition], pace: Pace, decided: bool, until_end: int | None = None
) -> Progress:
    """The progress of one candidate. so_far: from describe_difference. decided: there is a verdict other than hold.
    until_end: expected settled pairs until the plan stops by itself; None if it does not, or the number is unknown.
    """
    if decided:
        return Progress("decided", so_far, (), None, 0, 0, 0.0, ())
    found = tuple(_open(each, pace) for each in conditions if each.more_values != 0)
    last = _last(conditions)
    pairs = None if last is None else last.more_pairs
    name = None if last is None else last.name
    steps = tuple(_steps(plan, conditions, last, pace))
    until: Literal["ship", "reject"] = "reject" if any(each.leads_to_reject for each in conditions) else "ship"
    made = Progress("", so_far, found, name, pairs, pace.requests(pairs), pace.days(pairs), steps, until)
    return replace(made, sentence=_sentence(made, counted_as(plan)) + _too_late(plan, last, pace, until_end))


def _too_late(plan: Plan, last: Condition | None, pace: Pace, until_end: int | None) -> str:
    """Says that a guardrail takes longer than the plan, and how it is decided; "" where it does not."""
    if last is None or last.kind != "guardrail" or last.failed or until_end is None:
        return ""
    more, word = last.more_pairs, counted_as(plan)
    if more is None or more <= until_end:
        return ""
    ends = work(until_end, pace.requests(until_end), word)
    return (
        f", but the plan ends in about {ends}: a wider margin of {last.name}, or a new plan with "
        f"`max_pairs: {rounded_up(pace.pairs + more)}`, can decide it"
    )


def _open(c: Condition, pace: Pace) -> OpenCondition:
    more, days = c.more_pairs, pace.days(c.more_pairs) if c.hours is None else c.hours / 24.0
    left = (more, pace.requests(more), days)
    return OpenCondition(c.kind, c.name, c.estimate, c.margin, c.values, *left, c.failed, c.at_most, c.chance, c.hours)


def _last(conditions: Sequence[Condition]) -> Condition | None:
    """The condition that the verdict waits for: a failed one, else the first that leads to `reject`, else the slowest.

    One of unknown length counts as slower than all others. None if nothing is open.
    """
    left = [each for each in conditions if each.more_values != 0]
    if failed := [each for each in left if each.failed]:
        return failed[0]
    bad = [each for each in left if each.leads_to_reject and each.more_pairs is not None]
    if bad:
        return min(bad, key=lambda each: each.more_pairs or 0)
    unknown = [each for each in left if each.more_pairs is None]
    return unknown[0] if unknown else max(left, key=lambda each: each.more_pairs or 0, default=None)


def _sentence(p: Progress, word: str) -> str:
    waits = next((each for each in p.open if each.name == p.waits_for), None)
    if waits is None:
        return f"{p.standing}; nothing is open"
    named = f"the gate {waits.name}" if waits.kind == "gate" else f"{waits.kind} {waits.name}"
    if waits.failed:
        if waits.kind == "gate":
            return f"{p.standing}; {named} has failed, and more {word}s do not change that"
        return f"{p.standing}; {named} is undecided at its last {word}: only a new plan can decide it"
    if waits.hours is not None:
        return f"{p.standing}; {span(waits.hours / 24.0)} of traffic to go until {_until(p, waits)}, for {named}"
    if p.pairs is None:
        return f"{p.standing}; it is not known yet how long {named} takes"
    left = work(p.pairs, p.requests, word)
    days = "" if p.days is None else f" ({span(p.days)})"
    advice = ""
    if waits.chance is not None and waits.chance < FUTILE:
        advice = f", which decides it with a probability of {waits.chance:.0%} only: stop paying for it"
    until = _until(p, waits)
    about = "at most" if waits.at_most else "about"
    return f"{p.standing}; {about} {left}{days} to go until {until}, for {named}{advice}"


def _until(p: Progress, waits: OpenCondition) -> str:
    """The verdict that the work leads to. A segment below its margin leads to one that keeps it, or to none."""
    below = waits.kind in ("segment", "duel") and (waits.estimate.value or 0.0) < -(waits.margin or 0.0)
    return "a verdict" if below and p.until == "ship" else p.until


def _steps(plan: Plan, conditions: Sequence[Condition], last: Condition | None, pace: Pace) -> list[NextStep]:
    """Settings that would shorten it, the largest saving first.

    A change of the plan starts from zero, so the whole new experiment must be shorter than the rest of this one.
    """
    left = pace.requests(None if last is None else last.more_pairs)
    if last is None or last.failed or left is None or last.hours is not None:
        return []
    repeats, margin = _repeat_control(plan, conditions, last, pace), _margin(plan, conditions, last, pace)
    steps = (_scorer_share(last, pace), repeats, _shadow(plan, last, pace), margin)
    found = [step for step in steps if step is not None and step.requests <= WORTH * left]
    return sorted(found, key=lambda step: step.requests)[:MOST_KNOBS]


def _scorer_share(c: Condition, pace: Pace) -> NextStep | None:
    more = c.more_pairs
    if c.by_scorer_share >= 0.95 or more is None:
        return None
    requests = pace.requests(more * c.by_scorer_share) or 0
    return NextStep(f"scorers.{c.name}.share", c.by_scorer_share, 1.0, requests, False)


def _repeat_control(plan: Plan, conditions: Sequence[Condition], last: Condition, pace: Pace) -> NextStep | None:
    if plan.likelihood or not last.by_repeat or not 0 < plan.repeat_control < REPEATED:
        return None
    total = _total(conditions, {True: plan.repeat_control / REPEATED, False: 1.0})
    requests = pace.requests(total)
    return None if requests is None else NextStep("repeat_control", plan.repeat_control, REPEATED, requests, True)


def _shadow(plan: Plan, last: Condition, pace: Pace) -> NextStep | None:
    if not 0 < plan.shadow < REPEATED or last.more_pairs is None or plan.shadow_asked is not None:
        return None
    requests = pace.requests((pace.pairs + last.more_pairs) * plan.shadow / REPEATED) or 0
    return NextStep("shadow", plan.shadow, REPEATED, requests, True)


def _margin(plan: Plan, conditions: Sequence[Condition], last: Condition, pace: Pace) -> NextStep | None:
    """Margin of the primary, only where the condition that is waited for has that margin."""
    if last.kind == "guardrail" or last.margin is None or not last.margin or last.more_pairs is None:
        return None
    value = last.estimate.value or 0.0
    gap, wider = ((-abs(value) if last.kind == "gate" else value) + factor * last.margin for factor in (1.0, WIDER))
    if gap <= 0:
        return None
    total = (pace.pairs + last.more_pairs) * (gap / wider) ** 2
    others = [each for each in conditions if each is not last and each.more_values]
    requests = pace.requests(max([total, *(pace.pairs + (each.more_pairs or 0) for each in others)]))
    return None if requests is None else NextStep("margin", last.margin, WIDER * last.margin, requests, True)


def _total(conditions: Sequence[Condition], factor: dict[bool, float]) -> float:
    """Pairs of a new plan until every open condition is closed. factor: on the pairs, by by_repeat."""
    return max(
        (c.values + c.more_values) / c.per_pair * factor[c.by_repeat]
        for c in conditions
        if c.more_values and c.per_pair
    )


STOPPED = "the plan is stopped, so no further"
"""Part of the sentence on a plan without a verdict that takes nothing more."""


def progress_of(found: Finding, look: SequenceStates) -> Progress:
    """The progress to this candidate's verdict, with its open conditions."""
    primary = found.primary
    sequence = look.sequences.get((found.candidate, primary.metric)) if primary else None
    variance = sequence.variance if sequence else 0.0
    decided = found.decision.verdict != "hold"
    conditions, pace = conditions_of(found, look), pace_of(found)
    if found.stored_plan.state == "stopped" and not decided:
        so_far, word = describe_difference(primary, variance), counted_as(found.stored_plan.plan)
        return Progress(f"{so_far}; {STOPPED} {word} comes", so_far, (), None, None, None, None, ())
    ends = _until_end(found.stored_plan.plan, conditions, sequence, pace)
    return progress(found.stored_plan.plan, describe_difference(primary, variance), conditions, pace, decided, ends)


def _until_end(
    plan: Plan, conditions: Sequence[Condition], sequence: DifferenceSequence | None, pace: Pace
) -> int | None:
    """Settled pairs until the plan stops: once the primary and the hours are done, and the planned pairs are taken.

    None if it has no end, or the primary has too few values to tell.
    """
    primary = next((each for each in conditions if each.kind == "primary"), None)
    if primary is None or sequence is None or not sequence.horizon or not plan.max_pairs or not primary.per_pair:
        return None
    hours = next((each.more_pairs or 0 for each in conditions if each.kind == "gate" and each.name == HOURS), 0)
    return max(math.ceil((sequence.horizon - sequence.n) / primary.per_pair), plan.max_pairs - pace.pairs, hours, 0)


def pace_of(found: Finding) -> Pace:
    """The pace of the pairs. In a split a unit counts as a pair, and each eligible request as one."""
    plan, counts = found.stored_plan.plan, found.pairs
    if plan.mode == "split":
        units, hours = found.primary.pairs if found.primary else 0, found.traffic.hours if found.traffic else 0.0
        return Pace(units, 1.0, 24.0 * units / hours if hours and units >= MIN_PAIRS else None)
    drawn = found.segments.drawn if found.segments is not None else 0
    open_ = found.segments is not None and not found.segments.cells_closed
    more = counts.joined / drawn if drawn >= MIN_PAIRS and open_ else 1.0  # some were drawn for small segments alone
    return Pace(counts.joined, plan.shadow * counts.offered_share * more, counts.a_day)


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
    of_segments = [] if found.segments is None else list(_of_segments(found, found.segments))
    if any(each.name == WITHOUT for each in of_segments):
        of_metrics = []  # over all traffic they are not waited for any more
    gates = (_of_gate(g, found, look) for g in found.gates)
    return [*of_metrics, *of_segments, *gates, *_of_duels(found)]


def _of_duels(found: Finding) -> Iterator[Condition]:
    """Conditions that the leading candidate is not worse than each of the others that remain."""
    best = found.best
    if best is None or best.leader != found.candidate:
        return
    for row in best.candidates:
        if row.lead is None or margin_finding(row.lead, best.margin) in HARMLESS:
            continue
        yield Condition(
            kind="duel",
            name=f"{best.leader} against {row.candidate}",
            estimate=row.lead,
            margin=best.margin,
            values=row.lead_pairs,
            more_values=row.lead_needed,
            per_pair=_per_pair(row.lead_pairs, found, 1.0),
            failed=row.lead_closed,
        )


WITHOUT = "without the excepted ones"
"""Name of the condition on the rest of the traffic, once a segment is shown to be worse."""


def _of_segments(found: Finding, segments: SegmentsFound) -> Iterator[Condition]:
    """Conditions of the declared segments; with a worse one, also of the rest of the traffic."""
    joined, worse = found.pairs.joined, any(each.state == "worse" for each in segments.waited)
    for each in segments.waited:
        if each.state == "worse" or (worse and each.name in segments.done):
            continue
        yield Condition(
            kind="segment",
            name=each.name,
            estimate=each.difference,
            margin=each.margin,
            values=each.pairs,
            more_values=0 if each.found in HARMLESS else each.pairs_needed,
            failed=each.closed and each.found not in HARMLESS,
            per_pair=min(1.0, each.pairs / joined) if joined >= MIN_PAIRS and each.pairs else each.share or 1.0,
        )
    if worse and segments.kept is not None:
        c = segments.kept.metrics[0]
        more = 0 if segments.kept.holds else None
        yield Condition("segment", WITHOUT, c.difference, c.margin, c.pairs, more, segments.kept.share)


def _by_repeats_alone(of: Condition, c: Comparison, found: Finding, look: SequenceStates) -> Condition:
    """The condition of a failure metric that only repeats of the control can decide.

    Where the candidate fails in the margin or more of all pairs, its own rate cannot show that it holds: only the
    difference from the control's repeats can.
    """
    plan, sequence = found.stored_plan.plan, look.sequences.get((found.candidate, c.metric))
    alone = look.sequences.get((found.candidate, ALONE)) if c.metric in FAILURE_METRICS else None
    if alone is None or alone.n < MIN_PAIRS or not c.margin or (alone.b.mean or 0.0) < c.margin or not of.more_values:
        return of
    n, more = 0, None
    if sequence is not None:
        n = sequence.n
        more = pairs_needed(sequence.estimate(), n, sequence.variance, c.margin, sequence.rule)
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
    """The share of answers with feedback, if only these count; None if the metric does not wait for feedback."""
    r = c.responses
    if r is None or r.missing == "zero" or r.a.closed + r.b.closed < MIN_PAIRS:
        return None
    return (r.a.answered + r.b.answered) / (r.a.closed + r.b.closed) or None


def _until_horizon(c: Comparison) -> int | None:
    """Pairs until the metric takes no more; None if it has no end, or takes none."""
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
            expected = units_for_ratio(plan) - values
            more = (
                expected if expected > 0 else None
            )  # chance has moved the shares: it is not known how long that takes
    if aa and gate.state == 0 and plan.repeat_control:
        if plan.aa == "alarm":
            more = max(1, FEWEST_REPEATS - values)
        elif noise is not None:
            more = repeats_needed(noise, delta)
    if gate.name in _AT_WORST and gate.state == 0:
        values, more = _until_at_worst(gate, found, look, delta)
    if gate.name == COMPLETENESS and gate.state == 0 and found.split is not None and found.split.missing is not None:
        values, more = sum(found.split.units.values()), found.split.missing.more_units
    a_day, hours = pace_of(found).pairs_a_day, None
    if gate.name == HOURS and gate.state == 0:
        hours = max(0.0, plan.min_hours - (gate.value or 0.0))
        more = None if a_day is None else max(1, math.ceil(hours / 24.0 * a_day))
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
        hours=hours,
    )


def _until_at_worst(gate: GateResult, found: Finding, look: SequenceStates, delta: float) -> tuple[int, int | None]:
    """(values, more of them) until the primary is decided at worst, as far as is known."""
    worst = worst_sequences(look.sequences, found.candidate)
    if not worst or (gate.name == JUDGE and len(worst) == 1):
        return 0, None
    left = [each for each in worst if margin_finding(each.estimate(), delta) not in HARMLESS]
    needed = [pairs_needed(each.estimate(), each.n, each.variance, delta, each.rule) for each in left]
    known = [n for n in needed if n is not None]
    return min(each.n for each in worst), max(known, default=None) if len(known) == len(needed) else None


def repeats_needed(noise: DifferenceSequence, delta: float) -> int | None:
    """Repeats of the control that are still needed to show that it differs from itself by less than delta."""
    value = noise.moments.mean
    if abs(value) >= delta:
        return None
    return pairs_needed(Estimate(-abs(value)), noise.n, noise.moments.variance(), delta, noise.rule)
