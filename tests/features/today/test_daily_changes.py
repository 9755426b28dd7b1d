"""The error rate of Today in stable worlds, and its delay in finding a true drop. All seeds are fixed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from fixtures.today_worlds import NOW, TodayWorld, four_standard_errors

from gateway.features.today.changes import FigureKey, daily_figures
from gateway.features.today.daily_changes import HISTORY_DAYS, DailySeries, changes, compare, day_interval
from gateway.features.today.rows import WeightedSums

MONTH = 30
STABLE = {
    "independent calls": TodayWorld(),
    "failures in bursts of 15": TodayWorld(burst=15),
    "20 calls a user, ICC 0.1": TodayWorld(icc=0.1),
    "20 calls a user, ICC 0.3": TodayWorld(icc=0.3),
    "days differ by sd 0.01": TodayWorld(day_sd=0.01, a_day=20_000),
}
HARDEST = ("20 calls a user, ICC 0.3", "days differ by sd 0.01")
"""The worlds of `make test`, in which most figures change by chance; `make test-long` has all."""


def figures(world: TodayWorld, looks: int, seed: int) -> Mapping[FigureKey, DailySeries]:
    days = looks + HISTORY_DAYS
    return daily_figures(world.hours(days, seed), NOW, {}, days).series


def is_worse(key: FigureKey, rises: bool) -> bool:
    return rises != (key.measure == "score")


def false_alarms(world: TodayWorld, looks: int, seed: int) -> tuple[int, int]:
    """("worse" with four standard errors of independent calls, as it is now), one look a day."""
    series = figures(world, looks, seed)
    before = sum(
        is_worse(key, z > 0) and abs(z) >= 4
        for key, of in series.items()
        for day in range(looks)
        for z in [four_standard_errors(of.days[day], of.days[day + 1])]
    )
    found = changes(series, looks)
    return before, sum(is_worse(key, entry.rises) for key, of in found.items() for entry in of.entries)


def found_drops(world: TodayWorld, seed: int) -> int:
    """Counts how many of the two scores that fell are listed by the look at their hour."""
    found = changes(figures(world, 1, seed), 1)
    fell = [of.open for key, of in found.items() if key.measure == "score" and key.group[1] == "local/m0"]
    return sum(entry is not None and not entry.rises for entry in fell)


def print_row(name: str, before: float, now: float, months: int) -> None:
    sys.stdout.write(f'{name:<28} false "worse" a month: {before / months:6.1f} before, {now / months:.2f} now\n')


@pytest.mark.parametrize("name", [n if n in HARDEST else pytest.param(n, marks=pytest.mark.long) for n in STABLE])
def test_a_stable_world_changes_once_a_month_at_most(name):
    """110 figures, one look a day. The rate measured over many months is below 0.1, so that two by chance in this month
    have a probability below 0.005 by Poisson; the seed is fixed."""
    before, now = false_alarms(STABLE[name], MONTH, 0)
    print_row(name, before, now, 1)
    assert now <= 1


@pytest.mark.parametrize("name", HARDEST)
def test_a_drop_of_half_a_deviation_is_found_in_a_day(name):
    assert found_drops(replace(STABLE[name], drop=0.5, groups=4), 1000) == 2


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", STABLE)
def test_over_many_months_changes_are_rarely_false(name):
    """Twenty months: at most one a month, and the drop is found after 24 hours in each of forty tries."""
    months = [false_alarms(STABLE[name], MONTH, seed) for seed in range(20)]
    print_row(name, sum(before for before, _ in months), sum(now for _, now in months), 20)
    assert sum(now for _, now in months) <= 20
    hours = {
        h: sum(found_drops(replace(STABLE[name], drop=0.5, drop_h=h), 1000 + s) for s in range(20)) for h in (6, 12, 24)
    }
    sys.stdout.write(f"{name:<28} drop of half a deviation found, by hours since it began: {hours}, of 40\n")
    assert hours[24] == 40


def series(*days: tuple[float, ...], n: float = 50.0) -> DailySeries:
    """A score by day, the newest first: a mean for each hour, or one for all."""
    random = np.random.default_rng(1)
    means = np.array([np.resize(day, 24) for day in days]) + random.normal(0, 0.01, (len(days), 24))
    weights = np.full(means.shape, n)
    sums = [WeightedSums(1, n * 24, n * 24, n * day.sum(), n * (day * day + 0.04).sum(), n * day.sum(),
                         n * (day * day + 0.04).sum()) for day in means]  # fmt: skip
    return DailySeries(weights, means * weights, sums)


def listed(of: DailySeries, looks: int) -> list[tuple[int, int | None]]:
    """(day of the look that found it, day that ended it), days before the newest."""
    return [(entry.opened, entry.ended) for entry in changes({"x": of}, looks)["x"].entries]


def test_a_change_is_one_entry_until_it_ends():
    steady = [(0.8,)] * 28
    assert listed(series((0.8,), (0.5,), (0.5,), (0.5,), *steady), 4) == [(3, 0)]
    assert listed(series((0.5,), (0.5,), *steady), 2) == [(1, None)]


def test_a_change_that_lasts_a_week_is_the_new_usual():
    assert listed(series(*[(0.5,)] * 10, *[(0.8,)] * 28), 10) == [(9, 2)]


def test_days_of_a_change_are_not_usual():
    """Two incidents within a week are both found: the first does not widen what is usual."""
    quiet = [(0.8,)] * 3
    assert len(listed(series((0.5,), *quiet, (0.5,), *quiet, *[(0.8,)] * 25), 5)) == 2


def test_weekends_that_differ_are_usual_after_two_weeks():
    week = [(0.8,)] * 5 + [(0.6,)] * 2
    assert listed(series(*week * 5), 7) == []
    compared = compare(series(*week * 5), 0)
    assert compared.weekly
    assert compare(series(*week), 0).weekly is False


def test_a_difference_that_does_not_matter_is_not_reported():
    slightly = series((0.79,), *[(0.8,)] * 28, n=1e6)
    assert listed(slightly, 1) == []
    assert listed(replace(slightly, floor=0.005), 1) == [(0, None)], "a plan's margin says that it matters"


def test_one_burst_is_not_a_change_and_a_step_is():
    burst = (0.8,) * 23 + (0.0,)
    step = (0.8,) * 20 + (0.0,) * 4
    assert listed(series(burst, *[(0.8,)] * 28), 1) == []
    assert listed(series(step, *[(0.8,)] * 28), 1) == [(0, None)]


@pytest.mark.parametrize("count", [1, 19])
def test_few_calls_have_no_interval_and_no_change(count):
    few = series((0.1,), (0.8,), n=count / 24)
    assert listed(few, 1) == []
    assert day_interval(few, 0) is None


def test_an_interval_is_as_wide_as_hours_differ():
    """Coverage of the day's mean over 2 000 days of 24 hours whose means differ: 0.95, within three standard errors."""
    random, hits = np.random.default_rng(2), 0
    for _ in range(2000):
        hourly = random.normal(0.7, 0.1, 24)
        w = np.full((1, 24), 10.0)
        total = WeightedSums(
            240, 240, 240, 10 * hourly.sum(), 10 * (hourly**2).sum(), 10 * hourly.sum(), 10 * (hourly**2).sum()
        )
        found = day_interval(DailySeries(w, w * hourly, [total]), 0)
        hits += found is not None and found[0] <= 0.7 <= found[1]
    assert hits / 2000 >= 0.95 - 3 * (0.95 * 0.05 / 2000) ** 0.5
