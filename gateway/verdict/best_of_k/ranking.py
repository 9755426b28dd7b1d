"""Selection of the best of several candidates: which ones a look drops, and whether one is shown to be the best. Pure.

k is the number of arms, the control included. Each candidate is compared with the control and with every other one, at
a one-sided error of alpha / 2 / (k − 1), at any look. A candidate is dropped once another is shown to be better on the
primary, or once it is rejected: worse than the control by more than the margin, or with a broken guardrail. One that
is left is the best once it ships, and is shown not to be worse than any other that is left by more than the margin.

What may go wrong, and how often. The candidate that is truly the best has k − 1 comparisons. If none of its intervals
misses on the side that speaks against it, it is not dropped unless it is truly worse than the control by more than the
margin, and no candidate that is worse than it by more than the margin is named the best: both would take an interval
that misses. That one of them does has a probability of at most alpha / 2. So has, as without comparisons of candidates,
that any candidate ships although it is worse than the control by more than the margin, or is rejected although it is
not. No correction for the k (k − 1) / 2 pairs is needed, since pairs without the best one cannot cause an error.

A rejection for a guardrail says nothing about the primary, so candidates that only the rejected one has beaten are
compared again.

Sources: Even-Dar, Mannor & Mansour 2006, JMLR 7, section 3 (successive elimination); Jamieson & Nowak 2014, CISS;
Cho, Gan & Kallus 2024, arXiv:2402.06122.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.core.plan import CONTROL, REPEAT, Plan
from gateway.reports.model import BestOfK, Comparison, Estimate, GateResult, RankedCandidate, margin_finding
from gateway.reports.number_format import counted, digits, interval, number
from gateway.reports.pareto import front_of
from gateway.verdict.best_of_k.dropped import DroppedCandidate, Reason
from gateway.verdict.decision import HARMLESS, Decision, rejects
from gateway.verdict.gates.gates import worst

FEWEST_HOURS = 1.0
"""Hours of traffic before a candidate is dropped in favour of another one, where the plan requires at least as many:
failures come in bursts, and one burst must not end a candidate."""


@dataclass(frozen=True, slots=True)
class Lead:
    """The primary's difference between two candidates; positive is better for the first of them."""

    difference: Estimate
    pairs: int
    hours_share: float = 1.0
    """Share of an hour, as in Comparison."""
    needed: int | None = None
    """Estimated number of further pairs until it is above −margin; None if it is, or if that is unknown."""
    closed: bool = False
    """Whether it takes no further pair."""


Leads = Callable[[str, str], Lead]
"""(a candidate, another) → the lead of the first over the other."""


@dataclass(frozen=True, slots=True)
class CandidateLook:
    """Findings on one candidate against the control, at one look."""

    arm: str
    decision: Decision
    primary: Comparison | None
    gates: tuple[GateResult, ...] = ()

    @property
    def mean(self) -> float:
        """The primary's difference from the control; −infinity before there is one."""
        value = self.primary.difference.value if self.primary else None
        return -math.inf if value is None else value

    @property
    def red(self) -> str | None:
        """The gate that withholds every verdict; None if no gate does."""
        return next((gate.name for gate in self.gates if gate.state < 0), None) if worst(self.gates) < 0 else None


def dropped_at(
    plan: Plan, looks: Sequence[CandidateLook], leads: Leads, before: Mapping[str, DroppedCandidate], now: float
) -> dict[str, DroppedCandidate]:
    """The dropped candidates after this look. before: those of the previous look. now: Unix seconds."""
    found = {arm: each for arm, each in before.items() if not _comes_back(each, before)}
    for look in looks:
        if look.arm not in found and look.decision.verdict == "reject" and look.primary is not None:
            reason: Reason = "inferior" if rejects(look.primary) else "guardrail"
            says = "; ".join(look.decision.reasons)
            found[look.arm] = DroppedCandidate(look.arm, reason, "", says, look.primary.pairs, now)
    able = sorted((look for look in looks if look.arm not in found and not look.red), key=lambda look: look.mean)
    for look in able:  # the worst first, so that of those that are left one stays
        others = [each for each in able if each is not look and each.arm not in found]
        better = [each for each in others if _beats(plan, leads(each.arm, look.arm))]
        if better:
            by, lead = better[-1].arm, leads(better[-1].arm, look.arm)
            says = f"worse than {by} on {plan.primary} ({_numbers(plan, lead)})"
            found[look.arm] = DroppedCandidate(look.arm, "beaten", by, says, lead.pairs, now)
    return found


def _comes_back(each: DroppedCandidate, before: Mapping[str, DroppedCandidate]) -> bool:
    by = before.get(each.by)
    return by is not None and by.reason == "guardrail"


def _beats(plan: Plan, lead: Lead) -> bool:
    hours = math.inf if lead.hours_share >= 1.0 else lead.hours_share * plan.min_hours
    return lead.difference.low is not None and lead.difference.low > 0 and hours >= min(FEWEST_HOURS, plan.min_hours)


def _holds(plan: Plan, lead: Lead) -> bool:
    """Whether the first candidate is shown not to be worse than the other by more than the margin."""
    return margin_finding(lead.difference, plan.margin) in HARMLESS


def ranking(
    plan: Plan, looks: Sequence[CandidateLook], leads: Leads, dropped: Mapping[str, DroppedCandidate]
) -> BestOfK:
    """The candidates in order, with the best of them if it is shown. looks: in the order of the plan."""
    left = sorted((look for look in looks if look.arm not in dropped), key=lambda look: -look.mean)
    best = _best(plan, left, leads)
    first = best or next(iter(left), None)
    rows = [] if first is None else [replace(_row(plan, first), says=_leading(plan, first, best is not None))]
    rows += [_behind(plan, first, look, leads) for look in left if first is not None and look is not first]
    out = sorted((look for look in looks if look.arm in dropped), key=lambda look: -look.mean)
    rows += [replace(_row(plan, each), state="dropped", says=dropped[each.arm].says) for each in out]
    if best is not None:
        rows[0] = replace(rows[0], state="best")
    return BestOfK(
        verdict="best" if best else "open" if left else "none",
        best=best.arm if best else None,
        leader=first.arm if first else None,
        sentence=_sentence(plan, left, best, rows),
        alpha=plan.verdict_alpha / 2 / len(plan.candidates),
        margin=plan.margin,
        candidates=tuple(rows),
        control=str(plan.control),
    )


def _best(plan: Plan, left: Sequence[CandidateLook], leads: Leads) -> CandidateLook | None:
    """The best candidate, with the highest mean of those that qualify. left: the highest mean first.

    A red gate of any of them withholds it: what it compares with must be in order, too.
    """
    if any(look.red for look in left):
        return None
    able = (look for look in left if look.decision.verdict == "ship")
    return next((a for a in able if all(_holds(plan, leads(a.arm, b.arm)) for b in left if b is not a)), None)


def _row(plan: Plan, look: CandidateLook) -> RankedCandidate:
    difference = look.primary.difference if look.primary else Estimate(None)
    pairs = look.primary.pairs if look.primary else 0
    return RankedCandidate(look.arm, str(plan.target(look.arm)), "compared", "", difference, pairs)


def _leading(plan: Plan, look: CandidateLook, best: bool) -> str:
    if look.primary is None or not look.primary.pairs:
        return "no pair yet"
    if best:
        return f"not worse by more than {plan.margin:g} than the control, nor than another remaining candidate"
    if look.decision.verdict == "ship":
        return f"leads; not worse than the control by more than {plan.margin:g}"
    return "; ".join(["leads", *look.decision.reasons[:1]])


def _behind(plan: Plan, first: CandidateLook, look: CandidateLook, leads: Leads) -> RankedCandidate:
    lead = leads(first.arm, look.arm)
    holds = _holds(plan, lead)
    more = f"; about {counted(lead.needed, 'pair')} more" if lead.needed and not lead.closed else ""
    says = f"not better than {first.arm} by more than {plan.margin:g}" if holds else f"not told apart from {first.arm}"
    return replace(
        _row(plan, look),
        says=f"{says} (its lead: {_numbers(plan, lead)}{'' if holds else more})",
        lead=lead.difference,
        lead_pairs=lead.pairs,
        lead_needed=None if holds else lead.needed,
        lead_closed=lead.closed,
    )


def _sentence(
    plan: Plan, left: Sequence[CandidateLook], best: CandidateLook | None, rows: Sequence[RankedCandidate]
) -> str:
    of = f"{len(rows)} candidates for {plan.model}"
    out = [row.candidate for row in rows if row.state == "dropped"]
    dropped = f" Dropped: {', '.join(out)}." if out else ""
    if not left:
        return f"None of {of} may replace {plan.control}: {'; '.join(map(_named, rows))}. Keep the control. Reject."
    first, others = rows[0], [row for row in rows[1:] if row.state != "dropped"]
    if best is not None:
        found = f"not worse by more than {plan.margin:g} on {plan.primary} than {plan.control}"
        numbers = _numbers(plan, Lead(first.difference, first.pairs))
        return f"The best of {of} is {first.candidate}: {found} ({numbers}){_nearest(plan, others)}.{dropped} Ship."
    red = [f"the gate {look.red} of {look.arm} has failed" for look in left if look.red]
    if red:
        return f"No verdict on the best of {of}: withheld; {'; '.join(red)}.{dropped} Hold."
    return f"The best of {of} is undecided; {'; '.join([_named(first), *map(_named, others)])}.{dropped} Hold."


def _named(row: RankedCandidate) -> str:
    return f"{row.candidate}: {row.says}"


def _nearest(plan: Plan, others: Sequence[RankedCandidate]) -> str:
    """Half a sentence on the candidate over which the best one leads by least; "" where no other remains."""
    near = min(others, key=lambda row: row.lead.value or 0.0 if row.lead else math.inf, default=None)
    if near is None or near.lead is None:
        return ""
    lead = _numbers(plan, Lead(near.lead, near.lead_pairs))
    return f", and no other candidate is better by more than {plan.margin:g} (its lead over {near.candidate}: {lead})"


def _numbers(plan: Plan, lead: Lead) -> str:
    places = digits(plan.margin or lead.difference.value)
    value = number(lead.difference.value, places, signed=True)
    return f"difference {value}, interval {interval(lead.difference, places)}, {counted(lead.pairs, 'pair')}"


def decision_of(best: BestOfK, row: RankedCandidate, alone: Decision) -> Decision:
    """The decision on one candidate among the others. alone: the one against the control."""
    if row.state == "best":
        return Decision("ship", best.sentence, (row.says,))
    if row.state == "dropped":
        return Decision("reject", f"{row.candidate} is dropped: {row.says}. Reject.", (row.says,))
    if alone.verdict != "ship":
        return alone
    first = f"{best.best} is the best" if best.best else f"{best.leader} leads"
    says = f"not worse than the control by more than {best.margin:g}, but not the best so far: {first}"
    says = row.says if row.candidate == best.leader else f"{says}; {row.says}"
    return Decision("hold", f"{row.candidate}: {says}. Hold.", (says,))


def with_costs(best: BestOfK, costs: Mapping[str, Estimate], calls: Mapping[str, int]) -> BestOfK:
    """The ranking with the costs. costs: arm → USD per thousand requests. calls: arm → paid requests."""
    arms = [CONTROL, *(row.candidate for row in best.candidates)]
    quality = {CONTROL: Estimate(0.0), **{row.candidate: row.difference for row in best.candidates}}
    known = {arm: costs[arm] for arm in arms if arm in costs and costs[arm].value is not None}
    both = {arm: (cost.value, quality[arm].value) for arm, cost in known.items()}
    points = {arm: (cost, q) for arm, (cost, q) in both.items() if cost is not None and q is not None}
    front = dict(zip(points, front_of(list(points.values())), strict=True))
    rows = tuple(
        replace(
            row,
            paid_calls=calls.get(row.candidate, 0),
            cost_per_1k=known.get(row.candidate),
            on_front=front.get(row.candidate, False),
        )
        for row in best.candidates
    )
    on_front = front.get(CONTROL, False)
    return replace(
        best, candidates=rows, control_cost=known.get(CONTROL), control_on_front=on_front, repeats=calls.get(REPEAT, 0)
    )
