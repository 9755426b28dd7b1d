"""One step of a plan in one transaction: places for the next pairs, and the sequences that they move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from gateway.evals.experiments.progress import PlanProgress
from gateway.evals.experiments.split import looked_at, ratio_name, shares
from gateway.evals.store.experiments import sequences as kept
from gateway.evals.store.experiments.evidence import evidence
from gateway.evals.store.experiments.pairs import SettledPair, give_places, next_place, still_open
from gateway.evals.store.experiments.plans import StoredPlan, hold
from gateway.evals.store.experiments.split import assigned

LEASE = "experiments"


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """Who asks. keep_s: how long the lease is kept from now."""

    holder: str
    keep_s: float


class LeaseLost(Exception):
    """Another consumer has the lease: nothing of this step is stored."""


def advance(
    connection: Connection, leader: LeaseHolder, plan: StoredPlan, found: Sequence[SettledPair], now: float
) -> None:
    """Moves the plan's sequences over these pairs, which are the next in order. Raises Deposed.

    The lease is renewed in the same transaction, so that one who lost it while it slept stores nothing.
    """
    if not hold(connection, LEASE, leader.holder, now, leader.keep_s):
        raise LeaseLost
    if not still_open(connection, [pair.id for pair in found]):
        raise LeaseLost
    clusters = [pair.cluster for pair in found if pair.cluster is not None]
    taken = kept.clusters_taken(connection, plan.hash, clusters) if clusters else set()
    states_of_arms = {name: state for name, state in kept.states(connection, plan.hash).items() if name.candidate}
    progress = PlanProgress(plan.plan, plan.hash, states_of_arms, taken)
    first = next_place(connection, plan.hash)
    joined = evidence(connection, found)
    for place, pair in enumerate(joined, first):
        progress.take(place, pair)
    kept.save(connection, progress.changes(), now)
    states = [{arm: seen.state for arm, seen in pair.arms.items()} for pair in joined]
    give_places(connection, first, list(zip(found, states, strict=True)))


def keep_ratio(connection: Connection, plan: StoredPlan, now: float) -> None:
    """Notes the largest evidence against the planned shares so far, so that an alarm stays one."""
    name = ratio_name(plan)
    stored = kept.states(connection, plan.hash).get(name)
    before = stored["log_peak"] if stored else 0.0
    counts = assigned(connection, plan.hash, plan.plan)
    n = sum(counts.values())
    if n and len([share for share in shares(plan.plan).values() if share > 0]) > 1:
        peak = looked_at(plan.plan, counts, before).log_peak
        if peak > before:
            kept.save(connection, kept.SequenceChanges({name: (n, {"log_peak": peak})}, [], {}, []), now)
