"""Next step of an undecided plan, in one sentence, with its price: pairs, hours and dollars."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from gateway.core.harm_stop import harm_stored
from gateway.core.plan import FAILURE_METRICS
from gateway.reports.model import Comparison, GateResult, Progress
from gateway.reports.number_format import counted, dollars, span
from gateway.verdict.conditions import progress_of
from gateway.verdict.continuation import CONTINUED_RULES, MorePrice, few_units_refusal, more_price, usd_of_a_pair
from gateway.verdict.decision import HARMLESS
from gateway.verdict.findings import Finding
from gateway.verdict.gates.completeness import COMPLETENESS, JUDGE
from gateway.verdict.price.held_by_units import held_by_units
from gateway.verdict.price.terms import rounded_up
from gateway.verdict.states import SequenceStates
from gateway.verdict.traffic_facts import HOURS

_CLOSED_BY_PAIRS = (COMPLETENESS, JUDGE)


def progress_with_step(found: Finding, look: SequenceStates) -> Progress:
    """The progress to a verdict, with the next step. Plans of older rules have none."""
    progress, plan = progress_of(found, look), found.stored_plan.plan
    stop = harm_stored(look.evidence.states, found.stored_plan.hash)
    if stop is not None and stop.cleared is None and found.stored_plan.state == "running":
        return replace(progress, requests=None, days=None)  # they come at another rate than before; the stop has hours
    if found.decision.verdict != "hold" or plan.rules < CONTINUED_RULES or plan.mode == "split" or plan.segments:
        return progress
    return replace(progress, next_step=_step(found, look, progress))


def _step(found: Finding, look: SequenceStates, progress: Progress) -> str | None:
    """The step that the bottleneck asks for; its last part, after a semicolon, is one as well."""
    primary, name = found.primary, found.stored_plan.plan.name
    if primary is None or not primary.pairs or found.pairs.joined == 0:
        return None
    red = next((gate for gate in found.gates if gate.state < 0), None)
    if red is not None:
        return f"more pairs do not change the gate {red.name}; mend its cause, and start a new plan"
    open_ = primary.margin_found not in HARMLESS
    units = held_by_units(look.primary(found.candidate), found.stored_plan.plan.margin) if open_ else None
    if not primary.closed or found.stored_plan.state == "running":
        return units or _go_on(found, look, progress)
    asked = None if units or few_units_refusal(look) else more_price(look.evidence)
    more = units if asked is None else f"{_price(asked)}: `gateway ab start {name} --more`"
    parts = [*_larger_margins(found), *_open_gates(found), *([more] if more and _needs_pairs(found) else [])]
    return "; ".join(parts) or None


def _go_on(found: Finding, look: SequenceStates, progress: Progress) -> str | None:
    """The pairs that are left to the last look."""
    if progress.pairs is None and found.stored_plan.state == "running":
        return None
    price = MorePrice(progress.pairs or 0, True, progress.requests, None, None)
    usd = usd_of_a_pair(look)
    hours = None if progress.days is None else 24.0 * progress.days
    price = replace(price, hours=hours, usd=None if usd is None else usd * price.pairs)
    if found.stored_plan.state == "running":
        return f"wait for {_price(price)}" if price.pairs else None
    return f"it has not taken its last look; it goes on with `gateway ab start {found.stored_plan.plan.name}`"


def _needs_pairs(found: Finding) -> bool:
    metrics = [c for c in (found.primary, *found.guardrails) if c is not None]
    undecided = any(c.margin_found not in HARMLESS for c in metrics)
    return undecided or any(gate.state == 0 and gate.name in _CLOSED_BY_PAIRS for gate in found.gates)


def _larger_margins(found: Finding) -> Iterator[str]:
    """The smallest margins that the pairs so far would have shown, of the metrics that are undecided."""
    for c in (found.primary, *found.guardrails):
        if c is None or c.margin is None or c.margin_found in HARMLESS or c.difference.low is None:
            continue
        shown = _rounded(-c.difference.low)
        if c.role == "primary":
            yield f"a margin of {shown:g} in place of {c.margin:g} would have been shown"
        else:
            yield f"{_rates(c)}a margin of {shown:g} on {c.metric} would have been shown: set it, or take more pairs"


def _rates(c: Comparison) -> str:
    """ "both fail in about 0.5 %: "; "" of other metrics."""
    if c.metric not in FAILURE_METRICS or c.b.value is None or c.a.value is None:
        return ""
    shares = [1.0 - v if c.metric == "completion" else v for v in (c.a.value, c.b.value)]
    return f"both fail in about {100 * max(shares):.2g} %: "


def _open_gates(found: Finding) -> Iterator[str]:
    for gate in found.gates:
        if gate.state == 0 and gate.name not in _CLOSED_BY_PAIRS:
            yield f"the gate {gate.name} is open: {_remedy(found, gate)}"


def _remedy(found: Finding, gate: GateResult) -> str:
    plan = found.stored_plan.plan
    if gate.name == HOURS:
        return f"a lower `shadow`, or `min_hours` below {plan.min_hours:g}, starts a new plan that can close it"
    return gate.says


def _rounded(margin: float) -> float:
    """Rounds up to two significant digits."""
    if margin <= 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(margin)) - 1)
    return round(math.ceil(margin / step - 1e-9) * step, 12)


def _price(price: MorePrice) -> str:
    """ "about 12 000 more pairs (8 hours, about $3.10)"."""
    parts = [span(price.hours / 24.0)] if price.hours is not None else []
    parts += [f"about {dollars(price.usd)}"] if price.usd is not None else []
    cost = f" ({', '.join(parts)})" if parts else ""
    pairs = price.pairs if price.pairs < 1000 else rounded_up(price.pairs)
    return f"{'about' if price.enough else 'at least'} {counted(pairs, 'more pair')}{cost}"
