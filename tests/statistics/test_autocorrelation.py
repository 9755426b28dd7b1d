"""Values that are close in time are alike, or not; values of one unit are left out."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator

import pytest

from gateway.statistics.autocorrelation import FEWEST_PRODUCTS, MEMORY_S, Autocorrelation

Value = tuple[float, float, str | None]


def fed(values: Iterator[Value]) -> Autocorrelation:
    test = Autocorrelation()
    for value, at, unit in values:
        test.add(value, at, unit)
    return test


def drifting(rng: random.Random, n: int, moves: float) -> Iterator[Value]:
    level, keep = 0.0, math.exp(-300 / 3600)
    for i in range(n):
        level = keep * level + rng.gauss(0, moves * math.sqrt(1 - keep**2))
        yield level + rng.gauss(0, 1), 300.0 * i, None


def test_few_values_show_nothing() -> None:
    rng = random.Random(1)
    assert fed(drifting(rng, FEWEST_PRODUCTS, 1.0)).p is None
    assert fed(drifting(rng, FEWEST_PRODUCTS + 1, 1.0)).p is not None
    assert fed((0.0, 60.0 * i, None) for i in range(99)).p is None


def test_p_values_of_independent_values_are_uniform_enough() -> None:
    """Four standard errors of 400 runs: a false alarm below 1e-4, with a fixed seed."""
    rng = random.Random(2)
    low = sum((fed(drifting(rng, 300, 0.0)).p or 1.0) < 0.05 for _ in range(400)) / 400
    assert low <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 400)


def test_a_drift_has_a_small_p() -> None:
    rng = random.Random(3)
    assert sum((fed(drifting(rng, 300, 0.5)).p or 1.0) < 0.05 for _ in range(40)) >= 36


def test_values_of_one_unit_are_not_compared() -> None:
    rng = random.Random(4)
    effects = {f"u{i}": rng.gauss(0, 1) for i in range(30)}
    sessions = [
        (effects[u] + rng.gauss(0, 0.3), 60.0 * (20 * i + j), u) for i, u in enumerate(effects) for j in range(20)
    ]
    assert (fed(iter(sessions)).p or 0.0) > 0.001
    assert (fed((value, at, None) for value, at, _ in sessions).p or 1.0) < 1e-6
    assert fed((value, at, "one") for value, at, _ in sessions).n == 0


def test_units_that_left_are_forgotten() -> None:
    test = fed((1.0, MEMORY_S * i, f"u{i}") for i in range(200))
    assert len(test.rows) < 30


@pytest.mark.parametrize("n", [0, 1, 80])
def test_a_restored_test_goes_on(n: int) -> None:
    values = [(value, at, f"u{i % 7}") for i, (value, at, _) in enumerate(drifting(random.Random(5), 160, 0.5))]
    whole, part = fed(iter(values)), fed(iter(values[:n]))
    restored = Autocorrelation.from_state(json.loads(json.dumps(part.state())))
    for value, at, unit in values[n:]:
        restored.add(value, at, unit)
    assert restored.state() == whole.state()
