"""Verdicts on guards as candidates: nearly all pairs are tied, and hits come alone or in bursts.

A look after every pair of a plan of 24 hours, by the harness of test_traffic_worlds.py. worse: the guard costs exactly
one margin, so `ship` is wrong; 0.025 is allowed. All seeds are fixed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gateway.core.horizon import BURN_IN
from gateway.features.experiments.metrics import PairOrigin, PairValue
from gateway.features.experiments.sequences import DifferenceSequence, rule_of
from tests.features.experiments.test_traffic_worlds import (
    MARGIN,
    QUALITY,
    START,
    Draw,
    ManySequences,
    Pairs,
    TrafficWorld,
    allowed,
    plan_of,
    played,
    unrelated,
)


def hits(size: float, of: float = 1.0, length: int = 1) -> Draw:
    """Each hit changes the score by `size` up or down, so often down as `mean` says. of: share of the hits that change
    it, where nothing else does; length: pairs of one burst, which are all right or all wrong."""

    def draw(rng: np.random.Generator, mean: float, shape: tuple[int, int], apart_s: float) -> Pairs:
        place = np.arange(shape[1])
        begins = rng.random(shape) < MARGIN / size / of / length
        last = np.maximum.accumulate(np.where(begins, place, -length - shape[1]), axis=1)
        right = np.take_along_axis(rng.random(shape), np.clip(last, 0, None), axis=1) < (1 + mean * of) / 2
        d = np.where(place - last < length, np.where(right, size, -size), 0.0)
        return Pairs(d, unrelated(shape), np.zeros(shape), apart_s)

    return draw


WORLDS = (
    TrafficWorld("hits 5 %, all of them wrong", hits(1.0), deviation=None, guarded=True),
    TrafficWorld("hits 10 %, each costs half", hits(0.5), deviation=None, guarded=True),
    TrafficWorld("hits 20 %, five of eight wrong", hits(1.0, of=0.25), deviation=None, guarded=True),
    TrafficWorld("hits 5 % in bursts of 5", hits(1.0, length=5), deviation=None, pairs=2_400, guarded=True),
    TrafficWorld("hits 5 % in bursts of 20", hits(1.0, length=20), deviation=None, pairs=2_400, guarded=True),
)


def check(runs: int, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        "",
        f"{'guards, ' + str(runs) + ' runs':34} {'ship: worse':>11} {'equal':>6} {'reject: equal':>13} {'pairs':>6}",
    ]
    for i, world in enumerate(WORLDS):
        worse, equal = (played(world, 2, mean, runs, seed + i) for mean, seed in ((-1.0, 100), (0.0, 200)))
        shares = f"{worse.shipped:11.4f} {equal.shipped:6.3f} {equal.rejected:13.4f} {equal.pairs:6.0f}"
        lines.append(f"{world.name:34} {shares}")
        assert worse.shipped <= allowed(0.025, runs), world.name
        assert worse.rejected <= allowed(0.025, runs), world.name
        assert equal.rejected <= allowed(0.025, runs), world.name
    with capsys.disabled():
        print("\n".join(lines))  # noqa: T201


def test_a_guard_that_costs_its_margin_is_seldom_shipped(capsys: pytest.CaptureFixture[str]) -> None:
    check(200, capsys)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_many_guards_that_cost_their_margin_are_seldom_shipped(capsys: pytest.CaptureFixture[str]) -> None:
    check(2_000, capsys)


def test_the_arrays_of_a_guard_are_the_sequences() -> None:
    """The dependence by quarters of an hour widens both alike."""
    world = WORLDS[-1]
    plan, n = replace(plan_of(world, 2), max_pairs=10_000), 2_000
    pairs = world.draw(np.random.default_rng(7), -0.5, (1, n), 36.0)
    ours = ManySequences(rule_of(plan, QUALITY, MARGIN), 1, n)
    theirs = DifferenceSequence(rule_of(plan, QUALITY, MARGIN), bounded=True)
    for i in range(n):
        d, at = float(pairs.difference[0, i]), START + 36.0 * i
        ours.add(pairs.difference[:, i], pairs.user[:, i], at, 36.0 * i)
        theirs.add(PairValue(0.5 - d / 2, 0.5 + d / 2, d), None, PairOrigin(at))
        if i + 1 >= BURN_IN:
            assert theirs.interval() == pytest.approx((ours.low[0], ours.high[0]), rel=1e-6)
    assert [name for name, _, _ in theirs.independence.alarms()] == ["block"]
