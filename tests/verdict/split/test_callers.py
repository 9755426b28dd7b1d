"""No caller weighs more than a fifth, from five callers on, and nobody loses more than that takes."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.served_answer import ServedAnswer
from gateway.verdict.split.callers import (
    CAP,
    CAPPED_FROM,
    LEFT,
    decisive_caller,
    may_be_left_out,
    thinned,
    thinned_values,
    without,
)


@given(st.lists(st.integers(0, 10_000), max_size=40))
def test_no_caller_has_more_than_its_share(units: list[int]) -> None:
    weights = thinned(units)
    left = [n * w for n, w in zip(units, weights, strict=True)]
    assert all(0.0 < w <= 1.0 for w in weights)
    if min(weights, default=1.0) < 1.0:
        assert max(left) <= CAP * sum(left) * (1 + 1e-9)
        assert sum(left) >= LEFT * sum(units) * (1 - 1e-9)
        largest = max(left)
        assert all(w == 1.0 or n == pytest.approx(largest) for n, w in zip(left, weights, strict=True)), "no more cut"


@pytest.mark.parametrize(
    ("units", "weights"),
    [
        ([100], [1.0]),
        ([100, 1, 1, 1], [1.0] * 4),
        ([50, 50, 50, 50, 50], [1.0] * 5),
        ([400, 50, 50, 50, 50], [0.125, 1.0, 1.0, 1.0, 1.0]),
        ([100, *[10] * 10], [0.25, *[1.0] * 10]),
        ([10_000, 1, 1, 1, 1], [1.0] * 5),
        ([0, 400, 50, 50, 50, 50], [1.0, 0.125, 1.0, 1.0, 1.0, 1.0]),
    ],
    ids=["one", "fewer than five", "equal", "five", "one of eleven", "nothing would be left", "one without units"],
)
def test_known_cases_of_thinning(units: list[int], weights: list[float]) -> None:
    assert CAPPED_FROM == 5
    assert thinned(units) == pytest.approx(weights)


def test_a_caller_with_half_of_the_calls_is_the_traffic() -> None:
    assert may_be_left_out({"one": 10}) == []
    assert may_be_left_out({"a": 50, "b": 50}) == []
    assert may_be_left_out({"a": 80, "b": 20}) == ["b"]
    assert may_be_left_out({"a": 40, "b": 40, "c": 20}) == ["a", "b", "c"]


def row(i: int, caller: str, arm: str, unit: str | None = None) -> ServedAnswer:
    cell = (arm, "chat", f"a/{arm}", "split:swap")
    return ServedAnswer(f"e{i}", arm, unit or f"u{i}", cell, "ok", 200, 1.0, None, 5, None, 1.0, 100, caller=caller)


def traffic(sizes: dict[str, int]) -> list[ServedAnswer]:
    rng, rows = random.Random(1), []
    for caller, n in sizes.items():
        rows += [row(len(rows) + i, caller, "candidate" if rng.random() < 0.5 else "control") for i in range(n)]
    return rows


def kept(rows: list[ServedAnswer], values: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for each, value in zip(rows, values.tolist(), strict=True):
        found[each.caller] = found.get(each.caller, 0) + (value == value)
    return found


def test_the_units_of_a_large_caller_are_thinned() -> None:
    sizes = {"mallory": 4000, **{f"team{i}": 200 for i in range(10)}}
    rows = traffic(sizes)
    left = kept(rows, thinned_values(rows, np.zeros(len(rows))))
    assert {left[f"team{i}"] for i in range(10)} == {200}
    assert abs(left["mallory"] - 500) < 6 * 500**0.5  # false alarm: 2e-9


def test_all_answers_of_a_unit_stay_or_go_together() -> None:
    rows = [row(i, "mallory", "control", f"m{i // 4}") for i in range(4000)]
    rows += [row(10_000 + i, f"team{i % 10}", "control") for i in range(400)]
    values = thinned_values(rows, np.ones(len(rows)))
    by_unit: dict[str, set[bool]] = {}
    for each, value in zip(rows, values.tolist(), strict=True):
        by_unit.setdefault(each.unit, set()).add(value == value)
    assert all(len(states) == 1 for states in by_unit.values())


@pytest.mark.parametrize("sizes", [{"a": 10, "b": 1000}, {f"t{i}": 100 for i in range(8)}], ids=["few", "alike"])
def test_nothing_is_thinned_where_nobody_stands_out(sizes: dict[str, int]) -> None:
    rows = traffic(sizes)
    values = np.ones(len(rows))
    assert thinned_values(rows, values) is values


def test_the_decisive_caller_is_the_one_that_makes_the_difference() -> None:
    rows = traffic({"mallory": 100, **{f"team{i}": 100 for i in range(5)}})
    failed = np.array([float(r.caller == "mallory" and r.arm == "candidate") for r in rows])
    assert decisive_caller(rows, failed, 1.0) == "mallory", "without it, the candidate fails less"
    assert decisive_caller(rows, failed, -1.0) != "mallory"
    left = without(rows, failed, "mallory")
    assert kept(rows, left) == {"mallory": 0, **{f"team{i}": 100 for i in range(5)}}
    assert decisive_caller(traffic({"only": 50}), np.zeros(50), 1.0) is None
