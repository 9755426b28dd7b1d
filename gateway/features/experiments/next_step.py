"""Progress to a verdict: which conditions are open, what each still takes, and which setting would shorten it. Pure.

The numbers extrapolate: the mean and the variance of each metric, and the pace of the pairs, are taken to stay as they
are. They promise nothing; the interval alone decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal

from gateway.core.plan import Plan
from gateway.reports.model import Comparison, Estimate, NextStep, OpenCondition, Progress
from gateway.reports.number_format import counted, digits, number, span

REPEATED = 1.0  # the share that a knob proposes for repeat_control and shadow
WIDER = 1.5  # the factor that a knob proposes for the margin
WORTH = 0.8  # a knob is named only if it takes at most this share of the requests that are left
MOST_KNOBS = 3
FUTILE = 0.05  # a smaller chance of a decision makes the advice to stop
_LIKELY, _PERHAPS = 0.95, 0.8


@dataclass(frozen=True, slots=True)
class Pace:
    """How requests become pairs."""

    pairs: int
    """Settled so far."""
    pairs_per_request: float
    """Settled pairs per eligible request; 0: none is shadowed."""
    pairs_a_day: float | None = None
    """None: too few pairs to tell."""

    def requests(self, pairs: float | None) -> int | None:
        if pairs is None or not self.pairs_per_request:
            return None
        return math.ceil(pairs / self.pairs_per_request)

    def days(self, pairs: float | None) -> float | None:
        return None if pairs is None or not self.pairs_a_day else pairs / self.pairs_a_day


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a verdict, before it is known how long it takes."""

    kind: Literal["primary", "guardrail", "gate"]
    name: str
    estimate: Estimate
    margin: float | None
    values: int
    """Pairs that have a value of it so far."""
    more_values: int | None
    """Still needed; 0: it is closed; None: unknown, or out of reach."""
    per_pair: float
    """Values per settled pair."""
    failed: bool = False
    """More pairs do not close it: a red gate, or a metric at its horizon."""
    at_most: bool = False
    """more_values are those to its horizon."""
    chance: float | None = None
    """That its horizon decides it; None: it has none, or too little is known."""
    by_repeat: bool = False
    """Only pairs with a repeat of the control have a value."""
    by_scorer_share: float = 1.0
    """The share of pairs that the scorer sees."""

    @property
    def more_pairs(self) -> int | None:
        if self.more_values is None or (self.more_values and not self.per_pair):
            return None
        return math.ceil(self.more_values / self.per_pair) if self.more_values else 0

    @property
    def leads_to_reject(self) -> bool:
        return self.kind != "gate" and self.margin is not None and (self.estimate.value or 0.0) < -self.margin


def standing(c: Comparison | None, variance: float) -> str:
    """How a metric stands before it is decided: "worse by 0.055 so far, likely". variance: of one difference.

    The word is that of a single look (a normal approximation): it informs and decides nothing.
    """
    if c is None:
        return "no primary metric"
    if c.difference.value is None or not c.pairs:
        return f"no pair has a value of {c.metric} yet"
    error = math.sqrt(max(variance, 1e-12) / c.pairs)
    sure = NormalDist().cdf(abs(c.difference.value) / error)
    if sure < _PERHAPS or not c.difference.value:
        return "no difference visible so far"
    size = number(abs(c.difference.value), digits(c.margin or c.difference.value))
    unit = f" {c.unit}" if c.unit else ""
    way = "better" if c.difference.value > 0 else "worse"
    return f"{way} by {size}{unit} so far, {'likely' if sure >= _LIKELY else 'perhaps'}"


def progress(plan: Plan, stands: str, conditions: Sequence[Condition], pace: Pace, decided: bool) -> Progress:
    """The progress of one candidate. stands: from standing. decided: there is a verdict other than hold."""
    if decided:
        return Progress("decided", stands, (), None, 0, 0, 0.0, ())
    found = tuple(_open(each, pace) for each in conditions if each.more_values != 0)
    last = _last(conditions)
    pairs = None if last is None else last.more_pairs
    name = None if last is None else last.name
    steps = tuple(_steps(plan, conditions, last, pace))
    until: Literal["ship", "reject"] = "reject" if last is not None and last.leads_to_reject else "ship"
    made = Progress("", stands, found, name, pairs, pace.requests(pairs), pace.days(pairs), steps, until)
    return replace(made, sentence=_sentence(made))


def _open(c: Condition, pace: Pace) -> OpenCondition:
    more = c.more_pairs
    return OpenCondition(
        c.kind, c.name, c.estimate, c.margin, c.values, more, pace.requests(more), pace.days(more), c.failed,
        c.at_most, c.chance,
    )  # fmt: skip


def _last(conditions: Sequence[Condition]) -> Condition | None:
    """The condition that the verdict waits for: a failed one, else the first that leads to `reject`, else the slowest.

    One of unknown length counts as slower than all others. None: nothing is open.
    """
    left = [each for each in conditions if each.more_values != 0]
    if failed := [each for each in left if each.failed]:
        return failed[0]
    bad = [each for each in left if each.leads_to_reject and each.more_pairs is not None]
    if bad:
        return min(bad, key=lambda each: each.more_pairs or 0)
    unknown = [each for each in left if each.more_pairs is None]
    return unknown[0] if unknown else max(left, key=lambda each: each.more_pairs or 0, default=None)


def _sentence(p: Progress) -> str:
    waits = next((each for each in p.open if each.name == p.waits_for), None)
    if waits is None:
        return f"{p.standing}; nothing is open"
    named = f"the gate {waits.name}" if waits.kind == "gate" else f"{waits.kind} {waits.name}"
    if waits.failed:
        if waits.kind == "gate":
            return f"{p.standing}; {named} has failed, and more pairs do not change that"
        return f"{p.standing}; {named} is undecided at its last pair: only a new plan can decide it"
    if p.pairs is None:
        return f"{p.standing}; it is not known yet how long {named} takes"
    left = counted(p.pairs if p.requests is None else p.requests, "pair" if p.requests is None else "request")
    days = "" if p.days is None else f" ({span(p.days)})"
    advice = ""
    if waits.chance is not None and waits.chance < FUTILE:
        advice = f", which decides it with a probability of {waits.chance:.0%} only: stop paying for it"
    until = "reject" if p.until == "reject" else "ship"
    about = "at most" if waits.at_most else "about"
    return f"{p.standing}; {about} {left}{days} to go until {until}, for {named}{advice}"


def _steps(plan: Plan, conditions: Sequence[Condition], last: Condition | None, pace: Pace) -> list[NextStep]:
    """What would shorten it, the largest saving first.

    A change of the plan starts from zero, so the whole new experiment must be shorter than what is left of this one.
    """
    left = pace.requests(None if last is None else last.more_pairs)
    if last is None or last.failed or left is None:
        return []
    found = [
        step
        for step in (
            _scorer_share(last, pace),
            _repeat_control(plan, conditions, last, pace),
            _shadow(plan, last, pace),
            _margin(plan, conditions, last, pace),
        )
        if step is not None and step.requests <= WORTH * left
    ]
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
    """Only where the condition that is waited for has the primary's margin."""
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
