"""The variance of a mean whose values depend on each other within groups, and the test of whether they do."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest

from gateway.statistics.dependence import BLOCK_S, BUCKETS, CHECKED_GROUPS, BlockDispersion, UnitDispersion

Values = list[float]
Draw = Callable[[np.random.Generator, int], Values]


def unit_sums(values: Values, units: list[str | None]) -> tuple[UnitDispersion, float]:
    """The sums of these values, and their mean."""
    sums, mean = UnitDispersion(), 0.0
    for i, (value, unit) in enumerate(zip(values, units, strict=True), 1):
        sums.add(value, unit, mean)
        mean += (value - mean) / i
    return sums, mean


def test_the_variance_is_that_of_sums_by_group() -> None:
    rng = np.random.default_rng(1)
    units = [f"u{i}" for i in rng.integers(0, 40, 400)]
    shared = {unit: float(rng.normal()) for unit in sorted(set(units))}
    values = [shared[unit] + float(rng.normal()) for unit in units]
    sums, mean = unit_sums(values, [*units])
    by_unit = {u: sum(v - mean for v, w in zip(values, units, strict=True) if u == w) for u in shared}
    plain = sum(each**2 for each in by_unit.values())
    groups = sums.sums.groups
    student = (sums.sums.m2(mean) / (plain * groups / (groups - 1))) ** 0.5
    assert 1.02 < student < 1.08, "Student's quantile of some 36 degrees of freedom, in units of the normal one"
    assert sums.sums.correlation(mean) == pytest.approx(0.5, abs=0.15)


def test_values_without_a_unit_are_their_own_groups() -> None:
    values = [float(v) for v in np.random.default_rng(2).normal(0, 1, 500)]
    sums, mean = unit_sums(values, [None] * 500)
    assert sums.sums.m2(mean) == pytest.approx(sum((v - mean) ** 2 for v in values), rel=0.01)
    assert (sums.sums.alarm, sums.checked, sums.sums.correlation(mean)) == (False, False, None)


def test_two_groups_bound_nothing() -> None:
    sums, mean = unit_sums([0.1, 0.3] * 40, ["a", "b"] * 40)
    assert math.isinf(sums.sums.m2(mean))
    assert not sums.checked


def normal(rng: np.random.Generator, n: int) -> Values:
    return [float(v) for v in rng.normal(0.02, 0.3, n)]


def heavy(rng: np.random.Generator, n: int) -> Values:
    return [float(v) for v in rng.standard_t(2, n)]


def rare(rng: np.random.Generator, n: int) -> Values:
    return [float(v) for v in -(rng.random(n) < 0.02).astype(float)]


def ties(rng: np.random.Generator, n: int) -> Values:
    return [float(v) for v in rng.choice([-1.0, 0.0, 1.0], n, p=[0.02, 0.96, 0.02])]


@pytest.mark.parametrize("draw", [normal, heavy, rare, ties])
def test_independent_values_seldom_raise_an_alarm(draw: Draw) -> None:
    """Alarms are counted at any of 400 looks, in 120 runs: at the nominal 0.05, more than 18 have a probability below
    1e-4 (normal: 0.036 in 1 000 runs)."""
    rng, alarms = np.random.default_rng(3), 0
    for _ in range(120):
        units: list[str | None] = [f"u{i}" for i in rng.integers(0, 27, 400)]
        alarms += unit_sums(draw(rng, 400), units)[0].sums.alarm
    assert alarms <= 18


def test_dependent_values_raise_an_alarm() -> None:
    """15 values of a unit with a correlation of 0.3, from 40 units: found in every one of 40 runs."""
    rng = np.random.default_rng(4)
    for _ in range(40):
        shared = rng.normal(0, 0.3 * math.sqrt(0.3), 40)
        units = rng.permutation(np.repeat(np.arange(40), 15))
        values = shared[units] + rng.normal(0, 0.3 * math.sqrt(0.7), units.size)
        sums, mean = unit_sums([float(v) for v in values], [f"u{i}" for i in units])
        assert sums.sums.alarm
        assert sums.sums.m2(mean) > 3 * float(((values - values.mean()) ** 2).sum())


def test_units_beyond_the_buckets_share_them() -> None:
    rng = np.random.default_rng(5)
    n = 20 * BUCKETS
    units: list[str | None] = [f"u{i}" for i in rng.integers(0, 10 * BUCKETS, n)]
    sums, mean = unit_sums([float(v) for v in rng.normal(0, 1, n)], units)
    assert len(sums.rows) == BUCKETS
    assert sums.sums.m2(mean) == pytest.approx(n, rel=0.25)
    assert len(json.dumps(sums.state())) < 100_000
    assert sums.checked


@pytest.mark.parametrize(
    ("units", "checked"),
    [
        ([f"u{i // 2}" for i in range(2 * CHECKED_GROUPS)], True),
        ([f"u{i // 2}" for i in range(2 * CHECKED_GROUPS - 2)], False),
        ([f"u{i}" for i in range(CHECKED_GROUPS)], True),
        ([f"u{i // 2}" for i in range(2 * CHECKED_GROUPS)] + [None] * (2 * CHECKED_GROUPS + 1), False),
        (["one key"] * 500, False),
    ],
)
def test_fifty_units_check_it(units: list[str | None], checked: bool) -> None:
    rng = np.random.default_rng(6)
    assert unit_sums([float(v) for v in rng.normal(0, 1, len(units))], units)[0].checked is checked


def test_a_block_is_a_quarter_of_an_hour_of_unix_time() -> None:
    """A block holds the same 900 seconds at the end of daylight saving, and after a gap of a day."""
    fall = 1_792_890_000.0  # 2026-10-25 01:00 UTC: Berlin sets its clocks back
    sums = BlockDispersion()
    for i in range(8):
        sums.add(1.0, fall + i * BLOCK_S / 2, 0.0)
    assert (sums.repeated, sums.sums.squares) == (4, 16.0)
    sums.add(1.0, fall + 86_400.0, 0.0)
    assert (sums.size, sums.sums.squares) == (1, 17.0)
    sums.add(1.0, fall, 0.0)
    assert (sums.size, sums.block) == (2, int((fall + 86_400.0) // BLOCK_S)), "one that is late"


def test_a_burst_of_failures_raises_an_alarm() -> None:
    rng = np.random.default_rng(7)
    values = -(rng.random(2400) < 0.002).astype(float)
    values[1000:1020] = -1.0
    sums, mean = BlockDispersion(), 0.0
    for i, value in enumerate(values):
        sums.add(float(value), 36.0 * i, mean)
        mean += (float(value) - mean) / (i + 1)
    assert sums.sums.alarm


def test_sums_continue_from_their_state() -> None:
    rng = np.random.default_rng(8)
    values = [float(v) for v in rng.normal(0, 1, 300)]
    whole, part, blocks, half = UnitDispersion(), UnitDispersion(), BlockDispersion(), BlockDispersion()
    for i, value in enumerate(values):
        if i == 117:
            part = UnitDispersion.from_state(json.loads(json.dumps(part.state())))
            half = BlockDispersion.from_state(json.loads(json.dumps(half.state())))
        for units in (whole, part):
            units.add(value, f"u{i % 31}" if i % 5 else None, 0.1)
        for each in (blocks, half):
            each.add(value, 400.0 * i, 0.1)
    assert part.state() == whole.state()
    assert half.state() == blocks.state()
