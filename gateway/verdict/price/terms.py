"""The price of a verdict and a ramp beyond the pairs: hours, units, completeness, served proof, holdout. Pure.

`gateway ab power` shows it before anything is paid. The proof on served answers is one planned look with 0.8 of the
verdict's part of alpha, at the number of units that shows a candidate which is exactly as good to be not worse with a
power of 0.8.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist
from types import MappingProxyType

from gateway.core.horizon import EARLY, MOST_INFLATED, HorizonRange, horizon_range
from gateway.core.plan import BUILT_IN_METRICS, FEEDBACK, NATS_PER_TOKEN, UNBOUNDED_METRICS, UNITS_FIRST_RULES, Plan
from gateway.core.ramp import RampDesign
from gateway.reports.model import Independence
from gateway.reports.number_format import count, counted, span
from gateway.statistics.dependence import FEWEST_UNITS
from gateway.verdict.decision import REJECT_WAITS
from gateway.verdict.gates.completeness import COMPLETENESS
from gateway.verdict.metrics import NEGLIGIBLE
from gateway.verdict.sequences.difference import EARLY_UNITS
from gateway.verdict.sequences.progress import margin_of

ERRORS = "error_rate"
LEAST_ERROR_MARGIN = 0.005  # half a point
_OF_CONTROL = 0.5  # share of the control's error rate that a candidate may add
POWER = 0.8
GUARD = 2.0  # squared deviations that each arm's sum gains: an arm without a failure is not one that cannot fail


def error_margin(plan: Plan, control_rate: float) -> float:
    """Margin for additional failures: the plan's, else half a point or half the control's rate, whichever is more.

    control_rate: share of failures, in [0, 1].
    """
    stated = margin_of(plan, ERRORS)
    return max(LEAST_ERROR_MARGIN, _OF_CONTROL * control_rate) if stated is None else stated


def look_z(alpha: float) -> float:
    """The normal quantile of the planned look. alpha: two-sided, of the whole proof of one metric."""
    return NormalDist().inv_cdf(1 - alpha / 2 * (1 - EARLY))


def wanted_error(margin: float, alpha: float) -> float:
    """The difference's standard error at which the planned look has its power."""
    return margin / (look_z(alpha) + NormalDist().inv_cdf(POWER))


def reached(error: float, margin: float, alpha: float) -> float:
    """The share of the needed units reached so far, from the difference's standard error; 1 or more: all of them."""
    if margin <= 0:
        return 0.0
    return (wanted_error(margin, alpha) / error) ** 2 if error > 0 else math.inf


def proof_units(variance: float, margin: float, alpha: float) -> int | None:
    """Units an arm that the planned look needs. None if no number is enough for a margin of 0.

    variance: of one unit's value, alike in both arms; of failures, rate * (1 - rate). alpha: as look_z takes it.
    """
    if margin <= 0:
        return None
    wanted = wanted_error(margin, alpha) ** 2
    # 2 (variance n + GUARD) / n² = wanted, solved for n
    return math.ceil((variance + math.sqrt(variance**2 + 2 * GUARD * wanted)) / wanted)


def error_proof_units(plan: Plan, control_rate: float) -> int | None:
    """proof_units of errors for a candidate that fails as often as the control."""
    margin = error_margin(plan, control_rate)
    return proof_units(control_rate * (1 - control_rate), margin, plan.verdict_alpha)


def proof_hours(units: int, per_hour: float, design: RampDesign) -> float | None:
    """Hours from the first step until both arms have served this number of units. None if no step serves both, or no
    units arrive.

    per_hour: units that begin, calls or conversations as the plan's unit is. Each step lasts its soak time, the last
    one before all traffic as long as it takes; a step at share s is worth s (1 - s) of its units.
    """
    partial = [share for share in design.steps if share < 1.0]
    if not partial or per_hour <= 0:
        return None
    hours, left = 0.0, units / 2 / per_hour
    for share in partial[:-1]:
        took = min(design.soak_s / 3600, left / (share * (1 - share)))
        hours, left = hours + design.soak_s / 3600, left - took * share * (1 - share)
    return hours + max(design.soak_s / 3600, left / (partial[-1] * (1 - partial[-1])))


ASSUMED_ERRORS = 0.01  # of the control, before there are answers
_WORTH = 0.9  # a lower share of shadows is proposed where it is at most this part of the plan's
GROUPS = 50  # users, keys or conversations from which dependence is checked


@dataclass(frozen=True, slots=True)
class PriceTerm:
    """One thing that a verdict or a ramp also takes."""

    name: str
    says: str


@dataclass(frozen=True, slots=True)
class TrafficPace:
    """Pace of the evidence."""

    pairs: int | None
    """Settled pairs until the verdict, at the planned effect."""
    pairs_a_day: float | None
    requests_a_day: float | None
    """Eligible requests."""
    control_errors: float | None = None
    """Share of the control's answers that fail; None if there are too few to tell."""
    independence: Independence = "assumed"
    """Dependence of calls as estimated from the pairs so far."""
    inflation: float = 1.0
    """The factor of the variance by which the pairs so far say less than independent ones."""
    held_by_units: str | None = None
    """The advice where more pairs of the same units decide nothing."""


def price_terms(
    plan: Plan, pace: TrafficPace, needs: Mapping[str, int | None] = MappingProxyType({})
) -> tuple[PriceTerm, ...]:
    """Terms by importance; none for plans with the first rules.

    needs: metric → settled pairs until it is decided, at the planned effect; None if there are too many to predict.
    """
    if plan.rules < 2:
        return ()
    found = [_horizon(plan, needs, pace.inflation), _hours(plan, pace), _independence(plan, pace), _completeness(plan)]
    if plan.ramp is not None:
        found += [_served_proof(plan, plan.ramp, pace), _holdout(plan.ramp)]
    return tuple(term for term in found if term is not None)


def least_days(plan: Plan) -> float:
    """Days that `ship` takes at least, whatever the evidence."""
    return plan.min_hours / 24.0 if plan.rules >= 2 else 0.0


def range_of(plan: Plan, inflation: float = 1.0) -> HorizonRange | None:
    """The range of the horizon; None if it does not follow the variance. inflation: as TrafficPace has it."""
    if plan.rules < 2 or plan.method != "hybrid" or not (plan.auto_horizon and plan.max_pairs and plan.margin):
        return None
    bounded = plan.primary not in (*UNBOUNDED_METRICS, NATS_PER_TOKEN)
    if not bounded:
        return None
    found = horizon_range(plan.max_pairs, plan.margin, plan.verdict_alpha / len(plan.candidates))
    longer = min(max(inflation, 1.0), MOST_INFLATED) if plan.rules >= UNITS_FIRST_RULES else 1.0
    return replace(found, high=math.ceil(longer * found.high))


def _horizon(plan: Plan, needs: Mapping[str, int | None], inflation: float) -> PriceTerm | None:
    found, parts = range_of(plan, inflation), list(_beyond_the_end(plan, needs, inflation))
    if found is not None:
        low, expected, high = (count(n) for n in (found.low, found.expected, found.high))
        parts.insert(
            0,
            f"the last look follows the variance: {low} pairs if the arms hardly differ, {expected} as planned, {high} "
            f"at most{_if_alike(plan, inflation)}",
        )
    return PriceTerm("horizon", "; ".join(parts)) if parts else None


def _if_alike(plan: Plan, inflation: float) -> str:
    """ ", and up to 4 times that where calls of a unit are alike"; "" where that is measured, or is not counted."""
    declared = plan.independent and plan.population is None
    if plan.rules < UNITS_FIRST_RULES or declared or inflation > 1.0:
        return ""
    return f", and up to {MOST_INFLATED:g} times that where calls of a unit are alike"


def _beyond_the_end(plan: Plan, needs: Mapping[str, int | None], inflation: float) -> Iterator[str]:
    """Metrics that the plan's end comes too early for, and what decides them."""
    if plan.method != "hybrid" or plan.max_pairs is None or plan.mode == "split":
        return
    found, primary = range_of(plan, inflation), needs.get(plan.primary or "")
    most = plan.max_pairs if found is None else found.high
    end = max(plan.max_pairs, min(primary or most, most))
    for metric, pairs in needs.items():
        last = most if metric == plan.primary else end
        if pairs is None or pairs <= last:
            continue
        yield (
            f"{metric} needs about {count(pairs)} pairs, and the plan ends at {count(last)}: widen its margin, or set "
            f"`max_pairs: {rounded_up(pairs)}`"
        )


def rounded_up(pairs: float) -> int:
    """Rounds up to two significant digits: a number of pairs for a config."""
    step = int(10 ** max(0, len(str(math.ceil(pairs))) - 2))
    return math.ceil(pairs / step) * step


def _hours(plan: Plan, pace: TrafficPace) -> PriceTerm:
    ramped = plan.ramp is not None and plan.rules >= 3
    if not plan.min_hours:
        also = ", and the ramp's step to all traffic waits for none of them" if ramped else ""
        return PriceTerm("hours", f"min_hours is 0: the verdict says nothing about other hours of the day{also}")
    says = f"`ship` waits for {plan.min_hours:g} hours of traffic; {REJECT_WAITS}"
    if ramped:
        says += "; the ramp's step to all traffic waits until each hour of the day with calls has been served"
    if plan.mode != "split" and pace.pairs and pace.pairs_a_day and pace.pairs / pace.pairs_a_day < least_days(plan):
        took = pace.pairs / pace.pairs_a_day
        lower = max(0.001, plan.shadow * took / least_days(plan))
        if lower < _WORTH * plan.shadow:
            says += f"; the pairs come in {span(took)}: `shadow: {lower:.2g}` spreads them over these hours"
    return PriceTerm("hours", says)


def _independence(plan: Plan, pace: TrafficPace) -> PriceTerm:
    if pace.held_by_units is not None:
        return PriceTerm("units", pace.held_by_units)
    if pace.independence != "alarm" and plan.rules >= UNITS_FIRST_RULES and plan.mode != "split":
        return PriceTerm("units", _population(plan))
    if pace.independence == "alarm":
        return PriceTerm(
            "units", "the calls of one user or key are alike: the pairs above carry correspondingly less information"
        )
    if pace.independence == "checked":
        return PriceTerm("units", "whether the calls of one user or key are alike is checked: they are not so far")
    if plan.independent:
        return PriceTerm("units", "`unit: request` declares calls as independent of each other")
    return PriceTerm(
        "units",
        f"dependence within users and keys is checked from {GROUPS} of a kind on; where it is found, the interval "
        "widens and more pairs are needed. Send `x-gateway-user` or `metadata.conversation_id` to have it checked",
    )


def _population(plan: Plan) -> str:
    """The population that the price is for."""
    if plan.population == "these":
        return "`population: these`: the verdict is about the users or keys seen, as they use it now"
    if plan.independent and plan.population is None:
        return "`unit: request` declares calls as independent of each other"
    counts = (
        f"the first of conversation, user and key that half of the calls name is counted: the last look takes "
        f"{FEWEST_UNITS:g} effective ones, earlier looks {EARLY_UNITS:g}"
    )
    if plan.population == "others":
        return f"`population: others`: {counts}"
    return (
        f"where calls name users or conversations, {counts}; where they name keys alone, the verdict is about these "
        "keys as they use it now. `x-gateway-user` or `metadata.conversation_id` makes it one about others"
    )


def _completeness(plan: Plan) -> PriceTerm | None:
    if plan.primary is None or plan.likelihood or plan.primary in UNBOUNDED_METRICS:
        return None
    empty = "an empty answer counts as failed" if plan.empty == "failed" else "an empty answer counts as an answer"
    if plan.mode == "split":
        return None if plan.primary in BUILT_IN_METRICS or plan.primary.startswith(FEEDBACK) else _of_split(plan, empty)
    return PriceTerm(
        COMPLETENESS,
        f"{empty}; where more than {NEGLIGIBLE * plan.margin:.2%} of the pairs have a value of {plan.primary} on one "
        "arm only, `ship` must also hold with these counted as the worst for the candidate",
    )


def _of_split(plan: Plan, empty: str) -> PriceTerm:
    return PriceTerm(
        COMPLETENESS,
        f"{empty}; where {plan.primary} does not apply to more than {NEGLIGIBLE * plan.margin:.2%} of the answers "
        "(both arms together), `ship` must also hold with these counted as the worst for the candidate, or the arms "
        "must be shown to be alike in that",
    )


def _served_proof(plan: Plan, ramp: RampDesign, pace: TrafficPace) -> PriceTerm:
    rate = ASSUMED_ERRORS if pace.control_errors is None else pace.control_errors
    units = error_proof_units(plan, rate)
    if units is None:
        return PriceTerm("served proof", "a margin of 0 on error_rate cannot be shown on served answers")
    known = "assumed" if pace.control_errors is None else "so far"
    says = (
        f"before all traffic, served answers must show an error rate at most {100 * error_margin(plan, rate):.3g} "
        f"points higher: about {counted(units, 'unit')} an arm ({plan.unit}) at {rate:.2%} errors of the control "
        f"({known})"
    )
    hours = proof_hours(units, pace.requests_a_day / 24.0, ramp) if pace.requests_a_day else None
    if hours is not None and math.isfinite(hours):
        calls = "" if plan.unit == "request" else f" with one call a {plan.unit}, and longer with more"
        says += f"; {span(hours / 24.0)} from the first step{calls}"
    return PriceTerm("served proof", says)


def _holdout(ramp: RampDesign) -> PriceTerm:
    if not ramp.holdout:
        return PriceTerm("holdout", "none: the effect of the switch cannot be measured after the promotion")
    says = f"{ramp.holdout:.3g} of the units keep the control for {ramp.holdout_days:g} days after the promotion"
    return PriceTerm("holdout", says)
