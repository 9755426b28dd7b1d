"""`gateway ab start NAME --more`: a plan that closed without a verdict goes on after its last look.

The command checks the plan against the store and puts it in force again, with a number of pairs. The consumer that
advances the experiments then lets its sequences go on, once for each such start.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from gateway.core.errors import CannotRun
from gateway.core.plan import Plan, PlanState, StoredPlan, current_plan, running_rival
from gateway.core.sequence import SequenceChanges
from gateway.store import sequences as kept
from gateway.store.engine import Transaction
from gateway.store.pairs import next_index
from gateway.store.plan_evidence import StoredEvidence
from gateway.store.plans import stored_plans
from gateway.store.query import Reading
from gateway.stream.shared_state import SharedState
from gateway.verdict.continuation import MorePrice, continuation_refusal, continued, goes_on, more_price
from gateway.verdict.sequences.difference import DifferenceSequence
from gateway.verdict.states import continued_name


@dataclass(frozen=True, slots=True)
class ContinuedPlan:
    """A closed plan that may go on."""

    plan: StoredPlan
    price: MorePrice


def continuation(connection: Reading, wanted: Plan) -> ContinuedPlan:
    """The newest plan of an experiment, with the price of going on. wanted: as the config has it now.

    Raises CannotRun with the reason why it cannot go on.
    """
    name = wanted.name
    stored = current_plan(stored_plans(connection, name))
    if stored is None:
        raise CannotRun(f"{name}: no plan has been started, so none can go on; `gateway ab start {name}` starts one")
    evidence = StoredEvidence(connection, stored)
    refusal = _changed(stored, wanted) or continuation_refusal(evidence)
    price = None if refusal else more_price(evidence)
    if refusal or price is None:
        raise CannotRun(f"{name}: {refusal or 'no pair has a value of its primary'}")
    return ContinuedPlan(stored, price)


def _changed(stored: StoredPlan, wanted: Plan) -> str | None:
    changed = stored.plan.changed_settings(wanted)
    if not changed or set(changed) <= {"rules"}:
        return None
    names = ", ".join(each for each in changed if each != "rules")
    return (
        f"the config has changed since plan {stored.hash} was started ({names}), and a changed plan starts from zero: "
        f"`gateway ab start {stored.plan.name}`; to go on, put the settings back"
    )


async def start_more(states: SharedState, wanted: ContinuedPlan, others: Iterable[str]) -> PlanState:
    """Puts the plan in force again. Raises CannotRun, StreamDown.

    others: the experiments of the config.
    """
    plan, every = wanted.plan.plan, await states.plans()
    known = every.get(plan.name)
    if known is None or known.plan.hash != wanted.plan.hash or known.running:
        raise CannotRun(f"{plan.name}: another plan is in force; see `gateway ab status {plan.name}`")
    if rival := running_rival(plan, every, others):
        raise CannotRun(
            f"{plan.name}: experiment {rival} is running on {plan.model}; stop it first: gateway ab stop {rival}"
        )
    state = PlanState(
        known.plan,
        "running",
        time.time(),
        dropped=known.dropped,
        more=wanted.price.pairs,
        harm=known.harm,
        shipped=known.shipped,
    )
    if not await states.set_plan(state, known):
        raise CannotRun(
            f"{plan.name}: another command changed it at the same time; see `gateway ab status {plan.name}`"
        )
    return state


def go_on(connection: Transaction, started: PlanState, now: float) -> None:
    """Lets the sequences of a plan go on that was started for more pairs; once for each start."""
    plan, name = started.plan, continued_name(started.plan.hash)
    texts = kept.state_texts(connection, plan.hash)
    if orjson.loads(texts.get(name, "{}")).get("since") == started.since:
        return
    found = {
        each: DifferenceSequence.from_state(orjson.loads(text)) for each, text in texts.items() if goes_on(plan, each)
    }
    moved = continued(plan, found, started.more)
    states = {each: (found[each].n, found[each].state()) for each in moved}
    record = {"since": started.since, "until": next_index(connection, plan.hash) - 1 + started.more}
    kept.save(connection, SequenceChanges({**states, name: (len(moved), record)}, [], {}, []), now)
