"""In a split, no caller's failures count for more than a fifth, and none decides alone what failures show."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from gateway.features.experiments.rows.queries import ServedAnswer
from gateway.features.experiments.split_callers import outstanding, thinned_values, without


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


def test_the_outstanding_caller_is_the_one_that_makes_the_difference() -> None:
    rows = traffic({"mallory": 100, **{f"team{i}": 100 for i in range(5)}})
    failed = np.array([float(r.caller == "mallory" and r.arm == "candidate") for r in rows])
    assert outstanding(rows, failed, 1.0) == "mallory", "without it, the candidate fails less"
    assert outstanding(rows, failed, -1.0) != "mallory"
    left = without(rows, failed, "mallory")
    assert kept(rows, left) == {"mallory": 0, **{f"team{i}": 100 for i in range(5)}}
    assert outstanding(traffic({"only": 50}), np.zeros(50), 1.0) is None
