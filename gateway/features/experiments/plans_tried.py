"""The plans that were tried of one swap. Each has an alpha of its own, so their errors add up over the plans."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gateway.core.plan import Plan
from gateway.features.experiments.findings import finding_at
from gateway.features.experiments.rows.queries import pair_counts
from gateway.features.experiments.sequences import AlphaShare
from gateway.reports.model import TriedPlans
from gateway.store.plans import StoredPlan, stored_plans
from gateway.store.query import Reading

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")


def earlier_plans(connection: Reading, plan: Plan) -> int:
    """Other plans of the same model, control and candidate that have taken evidence, under any name."""
    swap, own = _swap(plan), plan.hash
    others = [each for each in stored_plans(connection) if each.hash != own and _swap(each.plan) & swap]
    return sum(each.plan.mode == "split" or pair_counts(connection, each.hash).joined > 0 for each in others)


def _swap(plan: Plan) -> set[tuple[str, str, str]]:
    return {(plan.model, str(plan.control), str(target)) for _, target in plan.candidates}


def tried_plans(connection: Reading, plan: StoredPlan, candidate: str) -> TriedPlans | None:
    """What this verdict is if all plans of the swap share one alpha evenly; None: this is the only plan.

    Source: Bonferroni's inequality over the plans so far.
    """
    number = earlier_plans(connection, plan.plan) + 1
    if number == 1:
        return None
    shared = plan.plan.alpha / number
    stricter = replace(plan, plan=replace(plan.plan, alpha=shared))
    found = finding_at(connection, stricter, candidate, AlphaShare(1 / number, 1 / number))
    return TriedPlans(number, plan.plan.alpha, shared, found.decision.verdict)


def tried_sentence(of: TriedPlans) -> str:
    """ "Third plan of this swap: …; with one alpha of 0.05 shared over the 3, the verdict is hold."."""
    chance = f"{of.alpha * of.number:.2g}"
    return (
        f"{ordinal(of.number).capitalize()} plan of this swap: each has an alpha of {of.alpha:g} of its own, so a "
        f"wrong verdict among them has a chance of up to {chance}. With one alpha of {of.alpha:g} shared over the "
        f"{of.number}, this verdict is: {of.verdict}."
    )


def tried_cautions(connection: Reading, plan: Plan) -> Iterator[str]:
    """Before a plan starts: that it is not the first of its swap, and how to share one alpha."""
    number = earlier_plans(connection, plan) + 1
    if number > 1:
        yield (
            f"experiment {plan.name}: this is the {ordinal(number)} plan of this swap, with an alpha of its own; a "
            f"wrong verdict among them has a chance of up to {plan.alpha * number:.2g}. The report also says what the "
            f"verdict is with one alpha shared over all; `alpha: {plan.alpha / number:.2g}` plans for that"
        )


def ordinal(number: int) -> str:
    return _ORDINALS[number - 1] if number <= len(_ORDINALS) else f"{number}th"
