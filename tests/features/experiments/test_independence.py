"""Which groups a sequence checks, and what is known from it."""

from __future__ import annotations

import json
import random

import orjson
import pytest

from gateway.features.experiments.independence import IndependenceCheck
from gateway.features.experiments.metrics import NOWHERE, PairOrigin
from gateway.statistics.dependence import BLOCK_S


def test_a_user_is_one_of_its_key() -> None:
    """Two keys may give their users the same names."""
    check, rng = IndependenceCheck.of(True, False), random.Random(1)
    for i in range(120):
        check.add(rng.random(), PairOrigin(float(i), f"key {i % 2}", f"user {i % 60 // 2}"), 0.5)
    assert check.users is not None
    assert check.keys is not None
    assert (check.users.repeated, check.keys.repeated) == (60, 2)
    assert check.finding(declared=False) == "checked"


def test_pairs_from_nowhere_are_taken_as_independent() -> None:
    check = IndependenceCheck.of(True, True)
    for i in range(120):
        check.add(0.1 * (i % 3), NOWHERE, 0.1)
    assert (check.finding(declared=False), check.finding(declared=True)) == ("assumed", "declared")
    assert check.alarms() == []


@pytest.mark.parametrize("blocks", [True, False])
def test_bursts_need_a_floor_of_a_whole_block(blocks: bool) -> None:
    check = IndependenceCheck.of(False, blocks)
    for i in range(600):
        failed = float(200 <= i < 220)
        check.add(-failed, PairOrigin(i * BLOCK_S / 20, "key"), -0.03)
    found = [(name, round(floor, 1)) for name, _, floor in check.alarms()]
    assert found == ([("block", 20.0)] if blocks else [])
    assert check.finding(declared=False) == "assumed", "blocks say nothing about users"


def test_only_what_is_checked_has_a_state() -> None:
    for of in ((True, True), (True, False), (False, True), (False, False)):
        check = IndependenceCheck.of(*of)
        check.add(0.5, PairOrigin(1e9, "key", "user"), 0.0)
        assert IndependenceCheck.from_state(json.loads(json.dumps(check.state()))).state() == check.state()
        assert bool(check.state()) is any(of)


def test_the_state_of_a_plan_with_many_users_stays_small() -> None:
    """100 000 users and conversations: the sums of a plan that decides by four metrics take less than 1 MB."""
    rng, check = random.Random(2), IndependenceCheck.of(True, True)
    for i in range(100_000):
        check.add(rng.random() - 0.5, PairOrigin(60.0 * i, f"key {i % 40}", f"u{i}", f"c{i}"), 0.0)
    assert 4 * len(orjson.dumps(check.state())) < 1_000_000
    assert check.finding(declared=False) == "checked", "nearly every user has one pair"
