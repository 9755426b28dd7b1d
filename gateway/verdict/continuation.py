"""Going on after the last look of a plan that closed without a verdict: who may, for how many pairs, and what it costs.

The last look has spent its part of the error and never comes twice. Only the early sequence, at a fifth of alpha, goes
on and may ship or reject; guardrails hold at every look anyway. The union bound over both still gives alpha, however
often somebody goes on. The continuation is in the stored sequences, next to the plan, whose hash stays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.core.harm_stop import harm_stored
from gateway.core.horizon import AT_MOST
from gateway.core.plan import HARM_DIVISOR, Plan
from gateway.core.sequence import SequenceName
from gateway.reports.model import margin_finding
from gateway.verdict.conditions import Pace, pace_of
from gateway.verdict.decision import HARMLESS, pairs_needed
from gateway.verdict.ending import all_decided, is_closed
from gateway.verdict.evidence import PlanEvidence
from gateway.verdict.findings import Finding, findings
from gateway.verdict.metrics import WORST, WORST_ONES
from gateway.verdict.sequences.difference import EARLY_UNITS, DifferenceSequence
from gateway.verdict.states import SequenceStates

CONTINUED_RULES = 3  # of plans that may go on
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class MorePrice:
    """The price of going on, if means and variances stay as they are."""

    pairs: int
    """Settled pairs until the early sequence decides the primary, and every guardrail is decided; the most that one
    continuation takes, if they are more."""
    enough: bool
    """Whether these pairs are expected to decide."""
    requests: int | None
    """Eligible requests; None if unknown."""
    hours: float | None
    usd: float | None
    """Cost of the requests to the candidates and the repeats; None where a price is missing."""


def continuation_refusal(evidence: PlanEvidence) -> str | None:
    """Reason why a plan cannot go on after its last look; None if it may."""
    stored = evidence.plan
    plan, name = stored.plan, stored.plan.name
    new = f"`gateway ab start {name}` starts a new plan"
    if plan.rules < CONTINUED_RULES:
        return f"plan {stored.hash} has rules {plan.rules}, which end with the last look; {new}"
    if stored.state == "running":
        return f"plan {stored.hash} is still running; see `gateway ab status {name}`"
    if plan.method != "hybrid" or plan.mode not in ("shadow", "both", "likelihood") or plan.max_pairs is None:
        return f"plan {stored.hash} has no last look, so `gateway ab start {name}` goes on with it"
    if plan.segments is not None and plan.segments.by:
        return f"the segments of plan {stored.hash} have taken their last looks; {new}"
    verdicts = {arm: found.decision.verdict for arm, found in findings(evidence).items()}
    if all_decided(plan, tuple(verdicts.values())):
        said = ", ".join(f"{arm} {verdict}" for arm, verdict in verdicts.items())
        return f"plan {stored.hash} has its verdict: {said}"
    if not is_closed(evidence):
        return f"plan {stored.hash} has not taken its last look: `gateway ab start {name}` goes on with it"
    return few_units_refusal(SequenceStates(evidence))


def few_units_refusal(look: SequenceStates) -> str | None:
    """Reason why further pairs of the same units decide nothing: looks after the last one take as many as those before
    it. None if there are enough."""
    for arm, _ in look.plan.candidates:
        primary = look.primary(arm)
        if primary is None or primary.can_look(last=False):
            continue
        few = min((each for each in primary.independence.applied() if each.always), key=lambda each: each.sums.groups)
        return (
            f"the pairs are of {few.sums.groups:.3g} effective {few.group}s, and after the last look {EARLY_UNITS:g} "
            f"are needed: start a new plan with `population: these`, or with calls of more {few.group}s"
        )
    return None


def more_price(evidence: PlanEvidence) -> MorePrice | None:
    """The price of going on with a closed plan; None if its primary has no sequence."""
    look, plan = SequenceStates(evidence), evidence.plan.plan
    open_ = [found for found in findings(evidence).values() if found.decision.verdict == "hold"]
    needs = [_pairs_of(found, look) for found in open_]
    if not needs:
        return None
    most = AT_MOST * (plan.max_pairs or 1)
    known = [n for n in needs if n is not None]
    enough = len(known) == len(needs) and max(known) <= most
    pairs = max(1, max(known)) if enough else most
    pace = _pace_of(open_[0], evidence)
    days, per_pair = pace.days(pairs), usd_of_a_pair(look)
    hours = None if days is None else 24.0 * days
    return MorePrice(pairs, enough, pace.requests(pairs), hours, None if per_pair is None else pairs * per_pair)


def _pace_of(found: Finding, evidence: PlanEvidence) -> Pace:
    """The pace of the pairs; while the candidate is stopped for harm, that of its reduced share of shadows."""
    pace, stop, counts = pace_of(found), harm_stored(evidence.states, evidence.plan.hash), evidence.pairs
    if stop is None or stop.cleared is not None:
        return pace
    before = None if counts.first is None else stop.pairs / max(stop.at - counts.first, 1.0)
    a_day = None if before is None or pace.pairs_a_day is None else _DAY_S * before / HARM_DIVISOR
    return Pace(pace.pairs, pace.pairs_per_request / HARM_DIVISOR, a_day)


def _pairs_of(found: Finding, look: SequenceStates) -> int | None:
    """Settled pairs until one candidate is decided, if nothing changes; None if that is out of reach."""
    primary = look.primary(found.candidate)
    if primary is None or found.primary is None or not found.pairs.joined:
        return None
    sequences = [primary, *_at_worst(look, found.candidate)]
    needs = [_values_needed(each, found.stored_plan.plan.margin) for each in sequences]
    needs += [c.pairs_needed for c in found.guardrails if c.margin_found not in HARMLESS]
    known = [n for n in needs if n is not None]
    if len(known) < len(needs):
        return None
    return math.ceil(max(known, default=0) * max(1.0, found.pairs.joined / max(primary.n, 1)))


def _at_worst(look: SequenceStates, candidate: str) -> list[DifferenceSequence]:
    found = (look.sequences.get((candidate, name)) for name in (WORST, WORST_ONES))
    return [each for each in found if each is not None and each.closed]


def _values_needed(sequence: DifferenceSequence, margin: float) -> int | None:
    """Further values until the early sequence decides the margin; 0 if it does already."""
    if margin_finding(sequence.estimate(), margin) != "unclear":
        return 0
    going = DifferenceSequence.from_state(sequence.state())
    if going.closed:
        going.go_on(1)
    return pairs_needed(going.estimate(), going.n, going.variance, margin, going.present_rule)


def usd_of_a_pair(look: SequenceStates) -> float | None:
    """USD for the requests of one pair beyond the served one; None where a price is missing."""
    costs = [look.sequences.get((arm, "cost_per_1k")) for arm, _ in look.plan.candidates]
    means = [each.b.mean if each is not None and each.n else None for each in costs]
    if look.plan.guarded or None in means or not costs or costs[0] is None:
        return None
    repeats = look.plan.paid_repeats * (costs[0].a.mean or 0.0)
    return (sum(mean or 0.0 for mean in means) + repeats) / 1000.0


def goes_on(plan: Plan, name: SequenceName) -> bool:
    """Whether a sequence is one that goes on: the primary of a candidate, also at worst."""
    return name.candidate in dict(plan.candidates) and name.metric in (plan.primary, WORST, WORST_ONES)


def continued(plan: Plan, states: Mapping[SequenceName, DifferenceSequence], more: int) -> list[SequenceName]:
    """Lets the sequences of the primary go on that their last look has not decided. Returns their names."""
    moved = [
        name
        for name, each in states.items()
        if goes_on(plan, name) and each.closed and margin_finding(each.estimate(), plan.margin) == "unclear"
    ]
    for name in moved:
        states[name].go_on(more)
    return moved
