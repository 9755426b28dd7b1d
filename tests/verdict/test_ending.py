"""When a plan has nothing left to decide, and when it takes no more pairs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gateway.core.plan import StoredPlan
from gateway.store.plan_evidence import StoredEvidence
from gateway.verdict.ending import all_decided, is_closed, is_decided


def test_a_plan_closes_at_its_horizon_and_not_before(begin_experiment: Any, simulation: Any) -> None:
    experiment = begin_experiment(method="hybrid", max_pairs=60, repeat_control=0.0, guardrails=())
    stored = StoredPlan(experiment.plan, experiment.hash, "running", 1.0)
    ends = []
    for first in (0, 30):
        experiment.add(
            simulation.a_pair(i, simulation.seen(0.5), candidate=simulation.seen(0.5 + (-1) ** i * 0.4))
            for i in range(first, first + 30)
        )
        with experiment.engine.connect() as connection:
            ends.append((is_closed(StoredEvidence(connection, stored)), is_decided(StoredEvidence(connection, stored))))
    assert ends == [(False, False), (True, False)]


def test_the_best_of_several_leaves_nothing_to_decide(simulation: Any) -> None:
    plan = simulation.a_plan()
    assert not all_decided(plan, ["ship", "hold"])
    assert all_decided(plan, ["ship", "reject"])
    assert all_decided(replace(plan, family="best", candidates=plan.candidates * 2), ["ship", "hold"])
