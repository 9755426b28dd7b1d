"""Pairs in order to sequences that move: the same in one run or in many, and of a cluster one increment."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.sequence import SequenceName
from gateway.verdict.metrics import Metric
from gateway.verdict.sequences.progress import PlanProgress, margin_of


def pairs(simulation: Any, n: int, cluster: Any = None) -> list[Any]:
    rng = random.Random(4)
    return [
        simulation.a_pair(
            i, simulation.seen(rng.random()), cluster(i) if cluster else None,
            candidate=simulation.seen(None if i % 9 == 4 else rng.random(), distance=rng.random()),
            **({"repeat": simulation.seen(rng.random(), distance=rng.random())} if i % 2 else {}),
        )
        for i in range(n)
    ]  # fmt: skip


def gone_over(plan: Any, made: list[Any], cuts: list[int]) -> tuple[Any, list[Any]]:
    """Goes through runs that end at these positions, each beginning with the state that the previous one stored."""
    states: dict[SequenceName, Any] = {}
    taken: set[tuple[SequenceName, str]] = set()
    increments: list[Any] = []
    for start, end in zip([0, *cuts], [*cuts, len(made)], strict=True):
        progress = PlanProgress(plan, plan.hash, states, taken)
        for place, pair in enumerate(made[start:end], start + 1):
            progress.take(place, pair)
        changes = progress.changes()
        states |= {name: state for name, (_, state) in changes.states.items()}
        increments += changes.increments
        taken |= {(each.name, each.cluster) for each in changes.increments if each.cluster}
    return states, increments


@settings(max_examples=8)
@given(cuts=st.lists(st.integers(0, 30), max_size=5))
def test_one_run_or_many_give_the_same_bits(simulation: Any, cuts: list[int]) -> None:
    plan, made = simulation.a_plan(), pairs(simulation, 30, lambda i: f"c{i // 3}" if i % 2 else None)
    assert gone_over(plan, made, sorted(cuts)) == gone_over(plan, made, [])


def test_the_first_pair_of_a_cluster_with_a_value_counts(simulation: Any) -> None:
    plan = simulation.a_plan()
    made = [
        simulation.a_pair(0, simulation.seen(0.5), "c", candidate=simulation.seen(None)),
        simulation.a_pair(1, simulation.seen(0.5), "c", candidate=simulation.seen(0.7)),
        simulation.a_pair(2, simulation.seen(0.5), "c", candidate=simulation.seen(0.9)),
    ]
    progress = PlanProgress(plan, plan.hash, {})
    for place, pair in enumerate(made, 1):
        progress.take(place, pair)
    changes = progress.changes()
    assert [(e.pair, e.difference) for e in changes.increments if e.name.metric == "quality"] == [("p1", 0.7 - 0.5)]
    withheld = {(reason, arm): n for (name, reason, arm), n in changes.withheld.items() if name.metric == "quality"}
    assert withheld == {("lost", "candidate"): 1, ("same_cluster", ""): 1}


def test_each_candidate_has_its_part_of_the_error(simulation: Any) -> None:
    one = simulation.a_plan()
    two = simulation.a_plan(candidates=(*one.candidates, ("other", one.control)))
    for plan, alpha in ((one, 0.05), (two, 0.025)):
        progress = PlanProgress(plan, plan.hash, {})
        progress.take(1, pairs(simulation, 1)[0])
        (sequence,) = [s for n, s in progress.sequences.items() if (n.candidate, n.metric) == ("candidate", "quality")]
        assert sequence.rule.alpha == alpha


def test_margins_are_of_the_primary_the_guardrails_and_the_gates(simulation: Any) -> None:
    plan = simulation.a_plan()
    assert margin_of(plan, "quality") == 0.1
    assert margin_of(plan, "error_rate") == 0.02
    assert margin_of(plan, "total_s") is None
    assert margin_of(plan, Metric("lost", "lost")) == 0.1
