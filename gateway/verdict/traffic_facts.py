"""The users and the hours behind the pairs of a verdict: the gate, the first lines, and the facts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date, timedelta
from typing import Literal

from gateway.core.plan import DEFAULT_BLOCKS_MIN, UNITS_FIRST_RULES, Plan
from gateway.reports.model import Comparison, DayDifference, GateResult, GroupDependence, Independence, TrafficFacts
from gateway.reports.number_format import with_sign
from gateway.statistics.dependence import FEWEST_UNITS, BlockDispersion, UnitDispersion
from gateway.verdict.decision import SHIPS, Decision
from gateway.verdict.metrics import ALONE
from gateway.verdict.sequences.difference import EARLY_UNITS, DifferenceSequence
from gateway.verdict.sequences.independence import MOST_NAMES, IndependenceCheck
from gateway.verdict.sequences.traffic_time import SLOPE_ALPHA

HOURS, CALLS, UNITS = "hours", "calls", "units"
Group = Literal["user", "key", "conversation", "prompt", "block"]
DRIFT_ALPHA = 0.05  # of one look
_HOUR_S = 3600.0
ASSUMED = "It treats calls as independent; send `x-gateway-user` or `metadata.conversation_id` to have that checked."
TOO_FEW = "It treats calls as independent: too few users or keys have several calls to check that."
UNITS_ASSUMED = "It treats calls as independent; with `unit: user` and calls that name them, users count, not calls."
DEPENDENT = "The calls of one user or key are alike, so the interval counts users and keys."
UNITS_COUNTED = (
    "The interval counts {}s, so that calls of one may be alike, and holds for others like them; calls that name none "
    "count as units."
)
UNPROVED = "Its owner lets decisions answer clients before an experiment has shipped them (`facade: unproved`)."
NO_HOURS = "With min_hours 0 it says nothing about other hours of the day."


def hours_gate(plan: Plan, primary: DifferenceSequence | None) -> GateResult | None:
    """Whether the pairs cover enough hours of traffic for `ship`. None if the plan asks for none."""
    if plan.rules < 2 or not plan.min_hours:
        return None
    hours = primary.time.covered_s / _HOUR_S if primary else 0.0
    if hours >= plan.min_hours:
        return GateResult(HOURS, 1, f"the pairs cover {hours:.3g} hours of traffic", hours)
    says = hours_needed(plan, hours)
    if primary is not None and primary.closed:
        says = f"needs {plan.min_hours:g} hours of traffic; its {primary.n} pairs cover {hours:.2g}: lower `shadow`"
    return GateResult(HOURS, 0, says, hours)


def hours_needed(plan: Plan, hours: float) -> str:
    """Reason of the open gate. hours: covered so far."""
    return f"needs {plan.min_hours:g} hours of traffic; {hours:.2g} so far"


def units_gate(primary: DifferenceSequence | None) -> GateResult | None:
    """Whether there are enough units for an interval. None if the verdict is not about others than the units seen."""
    if primary is None or primary.independence.population != "others":
        return None
    kind, counted = primary.independence.unit, primary.independence.counted
    if kind is None or counted is None:
        says = "no call names its user, conversation or key: send `x-gateway-user`, or set `population: these`"
        return GateResult(UNITS, 0, says, 0.0)
    n = counted.sums.groups
    if n < FEWEST_UNITS:
        says = (
            f"{n:.2g} effective {kind}s so far; {FEWEST_UNITS:g} are needed; `population: these` speaks about these "
            f"{kind}s only"
        )
        return GateResult(UNITS, 0, says, n)
    once = n < EARLY_UNITS and primary.rule.method == "hybrid" and not primary.closed
    early = f"; before the last look {EARLY_UNITS:g} are needed" if once else ""
    return GateResult(UNITS, 1, f"{n:.3g} effective {kind}s{early}", n)


def in_conversations(primary: DifferenceSequence) -> bool:
    """Whether some values of the sequence are means of conversations."""
    return primary.conversations.calls > primary.n


def calls_gate(plan: Plan, primary: DifferenceSequence | None) -> GateResult | None:
    """Gate: is the difference also not worse by the margin if every call counts equally?

    Where long conversations are worse, most calls lose though most conversations do not. None if there are no
    conversations, or no margin.
    """
    by_calls = None if primary is None or not in_conversations(primary) else primary.conversations.by_calls
    if by_calls is None or primary is None or not plan.margin:
        return None
    says = (
        f"counting every call alike, the difference is {with_sign(by_calls)} over {primary.conversations.calls} calls"
    )
    if by_calls > -plan.margin:
        return GateResult(CALLS, 1, says, by_calls)
    return GateResult(CALLS, 0, f"{says}: worse than by conversation, by the margin or more", by_calls)


def calls_gate_of_moved(gates: Iterable[GateResult], moved: Comparison) -> tuple[GateResult, ...]:
    """The gates of a verdict that leaves some traffic with the control: calls that stay there count no more. moved: the
    primary over the calls that move."""
    mean = moved.difference.value
    if mean is None or not moved.margin or mean <= -moved.margin:
        return tuple(gates)
    says = f"counting every call that moves alike, the difference is {with_sign(mean)} over {moved.pairs} calls"
    return tuple(GateResult(CALLS, 1, says, mean) if gate.name == CALLS else gate for gate in gates)


def facts_of(plan: Plan, by_metric: Mapping[str, DifferenceSequence]) -> TrafficFacts | None:
    """The facts of one candidate's pairs. by_metric: its sequences. None if the plan's rules do not ask for them."""
    if plan.rules < 2:
        return None
    primary = by_metric.get(plan.primary or "")
    groups = tuple(
        group
        for metric in (plan.primary, *(m for m in (*plan.decides, ALONE) if m != plan.primary))
        if metric is not None and metric in by_metric
        for group in _groups(metric, by_metric[metric])
    )
    independence: Independence = "declared" if plan.independent else "assumed"
    if primary is not None:
        independence = primary.independence.finding(plan.independent)
    hours = primary.time.covered_s / _HOUR_S if primary else 0.0
    facts = TrafficFacts(independence, groups, hours, plan.min_hours, "the mean over compared calls")
    if plan.rules >= UNITS_FIRST_RULES:
        facts = replace(facts, blocks_min=plan.blocks_min)
    if primary is not None and primary.independence.about:
        facts = _with_population(facts, primary.independence)
    if primary is not None and in_conversations(primary):
        facts = replace(facts, estimand=_BY_CONVERSATION, by_calls=primary.conversations.by_calls)
    return facts if primary is None else _with_days(facts, primary)


def _with_population(facts: TrafficFacts, check: IndependenceCheck) -> TrafficFacts:
    """The facts with the population of the verdict. One about units seen is about the users that it names, or about
    keys."""
    unit = check.unit
    if check.population == "these" and unit == "conversation":
        unit = "user" if check.names.get("user") else "key" if check.names.get("key") else None
    units = len(check.names.get(unit or "", ()))
    drift_p = check.drift.p if check.drift is not None and check.counted_blocks is None else None
    return replace(
        facts, population=check.population, unit=unit, units=units, prompts=check.these_prompts, drift_p=drift_p
    )


def _with_days(facts: TrafficFacts, primary: DifferenceSequence) -> TrafficFacts:
    days = sorted(primary.days.days.items())
    found = replace(facts, days=tuple(DayDifference(day, m.n, m.mean) for day, m in days))
    slope = primary.days.slope(primary.inflation)
    return found if slope is None else replace(found, slope=slope.per_day, slope_p=slope.p)


def _groups(metric: str, sequence: DifferenceSequence) -> list[GroupDependence]:
    check, mean = sequence.independence, sequence.moments.mean
    found = []
    kinds: tuple[tuple[Group, UnitDispersion | BlockDispersion | None], ...] = (
        ("user", check.users),
        ("key", check.keys),
        ("conversation", check.conversations),
        ("prompt", check.prompts),
        ("block", check.blocks),
    )
    always = {each.group for each in check.applied() if each.always}
    for group, kind in kinds:
        if kind is not None and kind.sums.terms and _has_names(kind):
            made = _group(metric, group, kind, mean, sequence.moments.m2)
            found.append(replace(made, alarm=made.alarm or group in always))
    return found


def _has_names(kind: UnitDispersion | BlockDispersion) -> bool:
    return isinstance(kind, BlockDispersion) or kind.named > 0


def _group(
    metric: str, group: Group, kind: UnitDispersion | BlockDispersion, mean: float, m2: float
) -> GroupDependence:
    sums = kind.sums
    known = m2 > 0 and sums.groups >= 3
    return GroupDependence(
        metric=metric,
        group=group,
        groups=sums.groups,
        repeated=kind.repeated,
        correlation=sums.correlation(mean),
        factor=sums.m2(mean) / m2 if known else None,
        alarm=sums.alarm,
    )


def with_proof(decision: Decision, plan: Plan) -> Decision:
    """The decision, which says where decisions answer clients that no experiment has shipped."""
    return replace(decision, sentence=f"{decision.sentence} {UNPROVED}") if plan.unproved else decision


def with_first_lines(decision: Decision, facts: TrafficFacts | None) -> Decision:
    """The decision with the assumptions of a verdict other than hold, at the end of its first line."""
    if facts is None or decision.verdict == "hold":
        return decision
    lines = {"assumed": [_assumed(facts)], "alarm": [DEPENDENT]}.get(facts.independence, [])
    lines = [_these(facts)] if these_units(facts) else lines
    lines = [*lines, *([_these_prompts(facts)] if facts.prompts else [])]
    lines = [*lines, *([NO_HOURS] if decision.verdict in SHIPS and not facts.min_hours else [])]
    return replace(decision, sentence=" ".join([decision.sentence, *lines]))


def _assumed(facts: TrafficFacts) -> str:
    """The assumption that calls are independent, with what would have it checked: no id where the calls have one."""
    if facts.source == "served":
        return UNITS_ASSUMED
    return TOO_FEW if _named(facts) else ASSUMED


def these_units(facts: TrafficFacts | None) -> str:
    """The users or keys that a verdict is about, "these 25 keys"; "" if it is about others, or they are not named."""
    if facts is None or facts.population != "these" or facts.unit is None:
        return ""
    n, kind = facts.units, facts.unit
    many = f"more than {MOST_NAMES}" if n >= MOST_NAMES else f"{n}"
    return f"this {kind}" if n == 1 else f"these {many} {kind}s"


def _these(facts: TrafficFacts) -> str:
    """The users or keys that a verdict is about, and what would make it one about others."""
    use = "it uses it" if facts.units == 1 else "they use it"
    how = "`population: others` asks for one about others" if facts.unit == "user" else _SEND
    return f"It holds for {these_units(facts)} as {use} now; {how}."


def _these_prompts(facts: TrafficFacts) -> str:
    """The prompts that a verdict is about."""
    n = facts.prompts
    which = "this prompt" if n == 1 else f"these {n} prompts" if n <= _FEW_PROMPTS else "these prompts"
    return f"It holds for {which}, since a few make up most calls; other prompts may differ."


_FEW_PROMPTS = 30  # that are counted in a sentence; where more are seen, a few of them make up most calls
_SEND = "for one about others, send `x-gateway-user` or `metadata.conversation_id`"


def _named(facts: TrafficFacts) -> bool:
    """Whether calls name their users or conversations."""
    return any(each.group in ("user", "conversation") for each in facts.groups)


def dependence_line(facts: TrafficFacts) -> str | None:
    """States the assumption about the dependence of calls, and a way to check it; None if it was checked."""
    if these_units(facts):
        return f"about these: {_these(facts)[:-1]}"
    if facts.independence == "assumed":
        how = "send `x-gateway-user` or `metadata.conversation_id`, and that is checked"
        if facts.source == "served":
            how = "with `unit: user` and calls that name them, users are counted"
        elif _named(facts):
            how = "once more users have several calls, they are compared, and that is checked"
        return f"assumed: calls do not depend on each other; {how}"
    return f"dependent: {DEPENDENT[0].lower()}{DEPENDENT[1:-1]}" if facts.independence == "alarm" else None


def sentences(facts: TrafficFacts) -> Iterator[str]:
    """The facts, for readers."""
    yield f"The difference is {facts.estimand}."
    if facts.by_calls is not None:
        yield f"Counting every call alike, it is {with_sign(facts.by_calls)}."
    served = facts.source == "served"
    yield _of_independence(facts)
    if facts.prompts:
        yield _these_prompts(facts)
    for each in facts.groups:
        if each.factor is not None and each.repeated:
            counts = "which counts" if each.alarm else "which does not count, since chance explains it"
            yield (
                f"{each.metric}, by {_group_name(facts, each.group)}: the variance of the mean is {each.factor:.2g} "
                f"times that of independent calls, {counts} ({each.repeated} with several pairs)."
            )
    needed = f"{facts.min_hours:g} are needed for ship" if facts.min_hours else "the plan needs none for ship"
    yield f"{'The answers of both arms' if served else 'The pairs'} cover {facts.hours:.3g} hours of traffic; {needed}."
    if len(facts.days) > 1:
        days = ", ".join(
            f"{_date(each.day)} {with_sign(each.difference)} ({each.pairs})" for each in facts.days[-_MOST_DAYS:]
        )
        yield f"The difference by day (UTC), with its {'units' if served else 'pairs'}: {days}."


def _group_name(facts: TrafficFacts, group: Group) -> str:
    longer = group == "block" and facts.blocks_min > DEFAULT_BLOCKS_MIN
    return f"block of {facts.blocks_min:g} minutes" if longer else _GROUPS[group]


def _of_independence(facts: TrafficFacts) -> str:
    if these_units(facts):
        return _these(facts)
    if facts.independence == "units" and facts.population == "others":
        return UNITS_COUNTED.format(facts.unit or "unit")
    return _assumed(facts) if facts.independence == "assumed" else _INDEPENDENCE[facts.independence]


def slope_caution(facts: TrafficFacts | None) -> Iterator[str]:
    """Caution if the difference moves from day to day: its past average need not be its future."""
    if facts is not None and facts.slope is not None and facts.slope_p is not None and facts.slope_p < SLOPE_ALPHA:
        yield (
            f"The difference changes by {with_sign(facts.slope, 2)} a day (p = {facts.slope_p:.1g}, one look): its "
            f"average over {len(facts.days)} days need not be what comes next."
        )


def drift_caution(facts: TrafficFacts | None) -> Iterator[str]:
    """Caution if pairs that are close in time are alike: an interval by call, user or prompt is then too narrow."""
    if facts is not None and facts.drift_p is not None and facts.drift_p < DRIFT_ALPHA:
        yield (
            f"The difference drifts over hours (p = {facts.drift_p:.1g}, one look): pairs that are close in time are "
            "alike, which the interval does not count. Set `dependence: {blocks_min: 120}` and start the plan again."
        )


def _date(day: int) -> str:
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()


_MOST_DAYS = 14
_BY_CONVERSATION = "the mean over conversations of each one's mean over its compared calls; a call without an id is one"
_GROUPS = {
    "user": "user",
    "key": "key",
    "conversation": "conversation",
    "prompt": "prompt",
    "block": "quarter of an hour",
}
_INDEPENDENCE: dict[Independence, str] = {
    "checked": "Whether the calls of one user or key are alike was checked, and they are not shown to be.",
    "declared": "The plan declares that calls do not depend on each other (`unit: request`).",
    "alarm": DEPENDENT,
    "units": "The interval counts units, so that calls of one unit may be alike; calls that name none count as units.",
}
