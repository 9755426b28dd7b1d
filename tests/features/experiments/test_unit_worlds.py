"""Verdicts of rules 3 where few or heavy users send the calls: how often a candidate that is worse by one margin ships.

Each run feeds the product's own sequence of the primary, with a look after every few pairs and at the last one. The
difference of a call is the user's own plus noise; `icc` is the user's share of its variance. A verdict about others
errs in 0.025, one about the units seen in 0.05, since its units repeat. For independent users, the price is held to
that of rules 2. The short form has few runs a world, `make test-long` 400. All seeds are fixed; the rates go to the
terminal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

import numpy as np
import pytest
from fixtures.simulated import a_plan

from gateway.core.horizon import planned_pairs
from gateway.core.plan import Plan, Population
from gateway.reports.model import margin_finding
from gateway.verdict.metrics import Metric, PairOrigin, PairValue
from gateway.verdict.sequences.difference import DifferenceSequence, rule_of

MARGIN, DEVIATION, START = 0.05, 0.3, 1_790_000_000.0
QUALITY = Metric("quality", "score")
PLANNED = planned_pairs(DEVIATION, MARGIN, 0.05)
PLAN = a_plan(rules=3, method="hybrid", aa="alarm", auto_horizon=True, max_pairs=PLANNED, margin=MARGIN, guardrails=())
FIXED = (1.96 + 0.8416) ** 2 * DEVIATION**2 / MARGIN**2
"""Pairs of a test with one look and power 0.8 that knows the variance of independent calls."""


@dataclass(frozen=True, slots=True)
class UnitWorld:
    """shares: of the calls, by user; empty: every call has a user of its own."""

    name: str
    shares: tuple[float, ...]
    icc: float = 0.0
    named: Literal["user", "key"] = "user"
    population: Population | None = None
    allowed: float = 0.025
    """Share of wrong ships that the rule promises."""
    short: int = 60
    price: float | None = None
    """Largest median of the pairs of equal candidates, in units of those of rules 2; None: no bound."""


def equal_users(n: int) -> tuple[float, ...]:
    return (1.0 / n,) * n


WORLDS = (
    UnitWorld("two heavy users and 40", (0.3, 0.3, *(0.01,) * 40), 0.3),
    UnitWorld("two heavy users and 5", (0.3, 0.3, *(0.08,) * 5), 0.3),
    UnitWorld("8 equal users", equal_users(8), 0.1),
    UnitWorld("60 calls a user, ICC 0.05", equal_users(4 * PLANNED // 60), 0.05, short=0),
    UnitWorld("15 calls a user, ICC 0.3", equal_users(4 * PLANNED // 15), 0.3, short=0),
    UnitWorld("60 independent users", equal_users(60), price=1.15),
    UnitWorld("a user for each call", (), price=1.15),
    UnitWorld("25 keys, these", equal_users(25), named="key", allowed=0.05, price=1.0),
    UnitWorld("8 users, these", equal_users(8), population="these", allowed=0.05, short=0, price=1.0),
)


@dataclass(frozen=True, slots=True)
class Played:
    verdict: Literal["ship", "reject", "hold"]
    pairs: int


def played(world: UnitWorld, plan: Plan, mean: float, seed: int, look: int) -> Played:
    """One run. look: pairs between two looks."""
    sequence = DifferenceSequence(rule_of(plan, QUALITY, MARGIN), bounded=True)
    rng, most = np.random.default_rng(seed), 4 * PLANNED + 1
    users = rng.choice(len(world.shares), most, p=world.shares) if world.shares else np.arange(most)
    own = rng.normal(0.0, DEVIATION * math.sqrt(world.icc), users.max() + 1)
    drawn = own[users] + rng.normal(mean, DEVIATION * math.sqrt(1.0 - world.icc), most)
    for i, (user, value) in enumerate(zip(users.tolist(), np.clip(drawn, -1.0, 1.0).tolist(), strict=True), 1):
        named = ("key", f"u{user}") if world.named == "user" else (f"key {user}", None)
        origin = PairOrigin(START + 60.0 * i, *named)
        sequence.add(PairValue(0.5, min(max(0.5 + value, 0.0), 1.0), value), None, origin)
        if i % look and not sequence.closed:
            continue
        found = margin_finding(sequence.estimate(), MARGIN)
        if found != "unclear":
            return Played("reject" if found == "inferior" else "ship", i)
        if sequence.closed:
            break
    return Played("hold", sequence.n)


def held(world: UnitWorld, runs: int, look: int) -> str:
    """Plays a world, and returns its line of the table."""
    plan = replace(PLAN, population=world.population)
    worse = [played(world, plan, -MARGIN, seed, look) for seed in range(runs)]
    wrong, rejected = (sum(run.verdict == verdict for run in worse) / runs for verdict in ("ship", "reject"))
    assert wrong <= world.allowed + 3.0 * math.sqrt(world.allowed * (1.0 - world.allowed) / runs)
    line = f"{world.name:28} worse ships {wrong:.3f}, is rejected {rejected:.3f}"
    if world.price is None and look > 1:
        return line
    equal = [played(world, plan, 0.0, seed, look) for seed in range(runs)]
    before = [played(world, replace(PLAN, rules=2), 0.0, seed, look) for seed in range(runs)]
    pairs, pairs_before = (median(run.pairs for run in found) for found in (equal, before))
    assert world.price is None or pairs <= world.price * pairs_before
    ships = sum(run.verdict == "ship" for run in equal) / runs
    return f"{line}; equal ships {ships:.2f}, fixed n {pairs / FIXED:.2f}, rules 2 {pairs / pairs_before:.2f}"


@pytest.mark.parametrize("world", [world for world in WORLDS if world.short], ids=lambda world: world.name)
def test_few_and_heavy_users_ship_nothing_wrong(world: UnitWorld, capsys: pytest.CaptureFixture[str]) -> None:
    line = held(world, world.short, 20)
    with capsys.disabled():
        print(f"\n{line}")  # noqa: T201


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_few_and_heavy_users_in_many_runs(world: UnitWorld, capsys: pytest.CaptureFixture[str]) -> None:
    line = held(world, 400, 1)
    with capsys.disabled():
        print(f"\n{line}")  # noqa: T201
