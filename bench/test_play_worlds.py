"""The worlds play the product's own decision, and a row's rate is held to its bound."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the benchmark is not a package: its programs are run as scripts
from play_worlds import ROWS
from worlds.rows import Row, Run
from worlds.traffic import independent
from worlds.verdicts import ShadowWorld

RUNS = 40


def row(name: str, event: str) -> Row:
    return next(row for row in ROWS if (row.name, row.event) == (name, event))


def rate(row: Row) -> float:
    return sum(row.play(seed, 3).event for seed in range(RUNS)) / RUNS


@pytest.mark.parametrize("event", ["ships falsely", "ships"])
def test_independent_calls_keep_their_bound(event: str) -> None:
    asked = row("independent calls", event)
    assert asked.allows(rate(asked), RUNS)


def test_a_much_worse_candidate_does_not_ship() -> None:
    """The truth reaches the decision: three margins worse, no run ships, and most of them reject."""
    world = ShadowWorld(independent(), -3.0, "decided")
    assert not any(replace(world, event="ships")(seed, 3).event for seed in range(10))
    assert sum(world(seed, 3).event for seed in range(10)) >= 8


def test_a_seed_decides_the_run() -> None:
    asked = row("independent calls", "ships")
    assert asked.play(7, 3) == asked.play(7, 3)


def test_names_and_events_are_unique() -> None:
    keys = [(row.name, row.event) for row in ROWS]
    assert len(keys) == len(set(keys))


def test_a_bound_has_room_for_chance_alone() -> None:
    asked = Row("x", "verdict", "ships falsely", lambda seed, rules: Run(True, 1.0), "at most", 0.025)
    assert asked.allows(0.035, 2_000)
    assert not asked.allows(0.036, 2_000)
