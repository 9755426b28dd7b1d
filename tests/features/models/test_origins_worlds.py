"""Deployments in which nothing changes for four months: how often a rotating backend is taken for a new one, and how
soon a new one is noticed. The figures go to the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from gateway.features.models.origins import DAY_H, KEPT_H, NewValue, Series, ValueCounts, new_values

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]
DEPLOYMENTS, SWAPS, ALIASES, DAYS, SWAP_DAY, GROWS_DAY = 50, 20, 20, 134, 100, 70
QUARTERS = DAYS / 90
TIDES = (0.5, 1.0, 1.6, 0.9)


@dataclass(frozen=True)
class World:
    """One alias: up to six backends with unequal shares, whose mixture of an hour varies; a wave of days and weeks,
    bursts of six times the calls, a customer who begins later, and traffic that grows fivefold."""

    series: Series
    shares: np.ndarray
    level: float
    start: int
    growth: float

    @classmethod
    def drawn(cls, number: int, generator: np.random.Generator) -> World:
        shares = generator.dirichlet(np.full(int(generator.integers(1, 7)), 0.7))
        level = float(np.exp(generator.uniform(np.log(0.3), np.log(40.0))))
        start, growth = int(generator.choice([0, 0, 0, 30, 60])), float(generator.choice([1.0, 1.0, 5.0]))
        return cls(Series(f"a{number}", "u", "m", "fingerprint"), shares, level, start, growth)

    def counts(self, day: int, part: int, generator: np.random.Generator, new: float = 0.0) -> ValueCounts:
        """The answers of six hours. new: share of a value that was never seen."""
        week = 0.4 if day % 7 > 4 else 1.0
        growth = self.growth if day > GROWS_DAY else 1.0
        burst = float(generator.choice([1.0] * 20 + [6.0]))
        calls = int(generator.poisson(6 * self.level * week * growth * burst * TIDES[part]))
        shares = generator.dirichlet(30.0 * self.shares + 1e-6)
        made = ValueCounts()
        drawn = generator.multinomial(calls, [*(shares * (1 - new)), new])
        for number, of_value in enumerate(drawn):
            name = "new" if number == len(self.shares) else f"fp{number}"
            made.add(name if of_value else None, int(of_value), float(of_value))
        return made


def found_in(seed: int, new: float = 0.0) -> Iterator[tuple[int, NewValue]]:
    """The days with the values that are new on them. new: share of another value of the first alias, from SWAP_DAY."""
    generator = np.random.default_rng(seed)
    worlds = [World.drawn(number, generator) for number in range(ALIASES)]
    history: dict[int, dict[Series, ValueCounts]] = {}
    for day in range(DAYS):
        for part in range(4):
            changed = [new if world is worlds[0] and day >= SWAP_DAY else 0.0 for world in worlds]
            history[day * DAY_H + 6 * part] = {
                world.series: world.counts(day, part, generator, share)
                for world, share in zip(worlds, changed, strict=True)
                if day >= world.start
            }
        hour = day * DAY_H + DAY_H - 1
        history = {at: counts for at, counts in history.items() if at > hour - KEPT_H}
        for value in new_values(history, hour):
            yield day, value


def test_rotating_backends_are_hardly_ever_new(capsys: pytest.CaptureFixture[str]) -> None:
    """One notice a quarter would be the bound of the watch; 50 deployments of 20 aliases."""
    counts = [
        len({(new.series, new.value, new.first_hour) for _, new in found_in(seed)}) for seed in range(DEPLOYMENTS)
    ]
    rate = sum(counts) / DEPLOYMENTS / QUARTERS
    with capsys.disabled():
        sys.stdout.write(f"\n{sum(counts)} notices, {rate:.3f} a quarter and deployment, at most {max(counts)}\n")
    assert rate < 0.1
    assert max(counts) <= 2


def test_a_swap_is_noticed_on_its_day(capsys: pytest.CaptureFixture[str]) -> None:
    days = []
    for seed in range(SWAPS):
        seen = [day for day, new in found_in(seed, 1.0) if new.value == "new"]
        days.append(min(seen) - SWAP_DAY if seen else DAYS)
    with capsys.disabled():
        sys.stdout.write(f"days until noticed: median {sorted(days)[SWAPS // 2]}, never {days.count(DAYS)}\n")
    assert sorted(days)[SWAPS // 2] == 0
    assert days.count(DAYS) <= SWAPS // 5, "aliases with hardly 20 calls on any day"
