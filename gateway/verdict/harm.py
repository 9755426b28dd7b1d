"""Whether a candidate does enough harm to stop paying for it, before there is a verdict. Pure.

The upper end of the interval that counts calls, not units, lies below minus two margins. Dependence within users or
time makes that interval too narrow, which the distance of a further margin is for (bench/worlds/harm.py has the rates
of false stops). The verdict still waits as its rules say: shadows go on at a twentieth, with a known π.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from gateway.core.plan import UNITS_FIRST_RULES, HarmStop, Plan
from gateway.reports.model import Estimate
from gateway.reports.number_format import number
from gateway.statistics.dependence import BLOCK_S
from gateway.verdict.sequences.difference import DifferenceSequence

FEWEST_PAIRS = 50
FEWEST_UNITS = 50  # of each arm of a split
FEWEST_BLOCKS = 3  # quarters of an hour
MARGINS = 2.0  # that the upper end lies below


def stops_for_harm(plan: Plan) -> bool:
    """Whether the plan's rules stop harmful candidates: requests or served units are at stake. The copies for a guard
    are sent nowhere."""
    return plan.rules >= UNITS_FIRST_RULES and not plan.guarded and bool(plan.primary and plan.margin)


def of_all(stops: Iterable[HarmStop | None]) -> HarmStop | None:
    """The stop of a plan whose candidates all do harm, with the weakest of their evidence; None if one of them does
    not. Where some are harmless the plan goes on for these: fewer shadows would delay them, too."""
    found = list(stops)
    known = [stop for stop in found if stop is not None]
    if not known or len(known) < len(found):
        return None
    weakest = max(known, key=lambda stop: stop.high)
    return replace(weakest, pairs=min(stop.pairs for stop in known), hours=max(stop.hours for stop in known))


def harm_in_pairs(
    plan: Plan, primary: DifferenceSequence | None, times: Iterable[float], now: float
) -> HarmStop | None:
    """The stop that a candidate's pairs ask for; None if they do not. times: of the pairs, in Unix seconds; they are
    read only where the difference asks for a stop."""
    if primary is None or primary.n < FEWEST_PAIRS or primary.rule.method == "betting":
        return None
    high = primary.difference.interval()[1]
    if high >= -MARGINS * plan.margin or len({at // BLOCK_S for at in times}) < FEWEST_BLOCKS:
        return None
    return HarmStop(now, primary.n, high, _hours_until_reject(plan, high, primary.time.covered_s / 3600.0))


def harm_in_split(plan: Plan, difference: Estimate, units: float, now: float) -> HarmStop | None:
    """The stop that served answers ask for; None if they do not. units: of the control and the candidate."""
    high, served = difference.high, (plan.split / len(plan.candidates), 1.0 - plan.split)
    if high is None or high >= -MARGINS * plan.margin or units * min(served) < FEWEST_UNITS * sum(served):
        return None
    return HarmStop(now, int(units), high, 0.0)


def _hours_until_reject(plan: Plan, high: float, hours: float) -> float:
    """Further hours of traffic after which the hours left could not make up for the harm, if the interval stays."""
    return max(0.0, plan.min_hours * plan.margin / -high - hours)


def harm_sentence(plan: Plan, stop: HarmStop) -> str:
    """The stop, for readers, while it lasts."""
    wait = f", and a reject takes about {stop.hours:.1f} more hours of traffic" if stop.hours else ""
    rate = f"shadow is {plan.harmed_shadow:.2g} instead of {plan.shadow:g}{wait}"
    serves = "every unit gets the control"
    parts = [rate] if plan.only_shadows else [serves] if plan.mode == "split" else [rate, serves]
    again = " and begins again with shadows" if plan.ramp is not None else ""
    goes_on = f"`gateway ab resume {plan.name} --reason …` goes on{again}"
    return f"stopped: harm. {_evidence(plan, stop, 'is')}; {'; '.join(parts)}. {goes_on}"


def past_harm_sentence(plan: Plan, stop: HarmStop) -> str:
    """The stop of a plan that has ended."""
    return f"The candidate was stopped for harm. {_evidence(plan, stop, 'was')}."


def _evidence(plan: Plan, stop: HarmStop, verb: Literal["is", "was"]) -> str:
    what = "units" if plan.mode == "split" else "pairs"
    end = number(stop.high, 3, signed=True)
    of_every = " of every candidate" if len(plan.candidates) > 1 else ""
    return f"After {stop.pairs} {what} the difference in {plan.primary}{of_every} {verb} below {end}"
