"""Whether recent traffic names the units that a verdict about others would count, before a plan starts. Reads the
store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.core.plan import UNITS_FIRST_RULES, Plan
from gateway.features.experiments.rows.traffic import UnitSizes, recent_units, unit_sizes
from gateway.features.experiments.start.cautions import DAY_S, FEWEST
from gateway.statistics.dependence import FEWEST_UNITS
from gateway.store.query import Reading
from gateway.verdict.sequences.difference import EARLY_UNITS

_SEND = "send `x-gateway-user` or `metadata.conversation_id`"


@dataclass(frozen=True, slots=True)
class CountedUnits:
    """The units of the last day that a plan's interval would count."""

    kind: str
    sizes: UnitSizes


def population_refusal(connection: Reading, plan: Plan, now: float) -> str | None:
    """Reason why a plan about others must not start: calls name no unit, so that no interval could be computed. None if
    it may. now: Unix seconds."""
    found = _counted(connection, plan, now)
    if plan.population != "others" or found is None or found.kind != "key" or found.sizes.effective >= FEWEST_UNITS:
        return None
    return (
        f"experiment {plan.name}: population others, but none of the last day's {found.sizes.calls} recorded calls of "
        f"{plan.model} names its user or conversation, and they have {_effective(found)}, of which "
        f"{FEWEST_UNITS:g} are needed: {_SEND}, or set `population: these`"
    )


def population_cautions(connection: Reading, plan: Plan, now: float) -> Iterator[str]:
    """Cautions about a population whose units calls do not name, or of which there are too few for a verdict. now: Unix
    seconds."""
    found = _counted(connection, plan, now)
    if found is None or population_refusal(connection, plan, now) is not None:
        return
    about = f"the last day's {found.sizes.calls} recorded calls of {plan.model}"
    if found.kind == "key" and plan.population == "others":
        yield (
            f"experiment {plan.name}: population others, but {about} name no users or conversations, so that the "
            f"verdict counts {_effective(found)}: {_SEND}, or set `population: these`"
        )
    elif found.kind == "user" and found.sizes.effective < FEWEST_UNITS:
        yield (
            f"experiment {plan.name}: {about} have {_effective(found)}, of which a verdict about others takes "
            f"{FEWEST_UNITS:g}: set `population: these` for one about these users only"
        )
    elif found.sizes.effective < EARLY_UNITS and found.kind == "user":
        yield (
            f"experiment {plan.name}: {about} have {_effective(found)}: looks before the last take {EARLY_UNITS:g}, "
            "and the last counts these few. More users, not more pairs, decide it; or set `population: these`"
        )


def _effective(found: CountedUnits) -> str:
    return f"{found.sizes.effective:.2g} effective {found.kind}s"


def _counted(connection: Reading, plan: Plan, now: float) -> CountedUnits | None:
    """The coarsest units that may be counted; None where calls are, where conversations are named, or too few calls are
    recorded."""
    declared = plan.independent and plan.population is None
    if plan.rules < UNITS_FIRST_RULES or plan.mode == "split" or plan.population == "these" or declared:
        return None
    recent = recent_units(connection, plan, now - DAY_S)
    if recent.calls < FEWEST or 2 * recent.conversations >= recent.calls:
        return None
    kind = "user" if 2 * recent.users >= recent.calls else "key"
    return CountedUnits(kind, unit_sizes(connection, plan, now - DAY_S, of_users=kind == "user"))
