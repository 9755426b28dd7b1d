"""Verdicts on guards as candidates: nearly all pairs are tied, and hits come alone or in bursts.

The product's own sequences of the primary, by the rule that a plan with a guard has, with a look every 50 pairs once
the hours of the plan are over. worse: the guard costs exactly one margin, so `ship` is wrong; harmless: right and wrong
refusals balance. 0.025 is allowed. All seeds are fixed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pytest
from fixtures.simulated import a_plan
from numpy.typing import NDArray

from gateway.core.exchange import Target
from gateway.core.guards import GUARD
from gateway.core.plan import Plan
from gateway.verdict.metrics import Metric, PairOrigin, PairValue
from gateway.verdict.sequences.difference import DifferenceSequence, rule_of

MARGIN, LOOK, HOURS = 0.05, 50, 24.0
QUALITY = Metric("quality", "score")
START = 900.0 * 2_000_000
Verdict = Literal["ship", "reject", "hold"]


@dataclass(frozen=True)
class GuardWorld:
    """A guard whose hits come in bursts, each right or wrong as a whole."""

    name: str
    size: float = 1.0
    """Change of the score by a hit."""
    wrong: float = 1.0
    """Share of its hits that cost, less the share that help, where it is worse by the margin."""
    length: int = 1
    """Pairs of a burst."""
    days: float = 4.0
    pairs: int = 1_400
    """Pairs in these days."""

    def differences(self, mean: float, runs: int, seed: int) -> NDArray[np.float64]:
        """Shape (runs, pairs). mean: in margins."""
        rng, shape, place = np.random.default_rng(seed), (runs, self.pairs), np.arange(self.pairs)
        begins = rng.random(shape) < MARGIN / self.size / self.wrong / self.length
        last = np.maximum.accumulate(np.where(begins, place, -self.length - self.pairs), axis=1)
        drawn = np.take_along_axis(rng.random(shape), np.clip(last, 0, None), axis=1)
        right = drawn < (1 + mean * self.wrong) / 2
        return np.where(place - last < self.length, np.where(right, self.size, -self.size), 0.0)


WORLDS = (
    GuardWorld("hits 5 %, all of them wrong"),
    GuardWorld("hits 10 %, each costs half", size=0.5),
    GuardWorld("hits 20 %, five of eight wrong", wrong=0.25, pairs=4_000, days=2.0),
    GuardWorld("hits 5 % in bursts of 20", length=20, pairs=7_200, days=3.0),
)


def plan() -> Plan:
    made = a_plan(method="guaranteed", margin=MARGIN, repeat_control=0.0, rules=2, min_hours=HOURS)
    return replace(made, candidates=(("candidate", Target(GUARD, "own", "digest")),))


def played(world: GuardWorld, mean: float, runs: int, seed: int) -> Iterator[tuple[Verdict, int]]:
    """The verdict of each run, and its pairs."""
    apart_s = 86_400 * world.days / world.pairs
    for differences in world.differences(mean, runs, seed):
        sequence = DifferenceSequence(rule_of(plan(), QUALITY, MARGIN), bounded=True)
        yield verdict(sequence, differences.tolist(), apart_s)


def verdict(sequence: DifferenceSequence, differences: list[float], apart_s: float) -> tuple[Verdict, int]:
    for i, d in enumerate(differences, 1):
        at = START + apart_s * i
        sequence.add(PairValue(0.5 - d / 2, 0.5 + d / 2, d), None, PairOrigin(at))
        low, high = sequence.interval() if i % LOOK == 0 and apart_s * i >= 3600 * HOURS * 0.999 else (None, None)
        if low is not None and low > -MARGIN:
            return "ship", i
        if high is not None and high < -MARGIN:
            return "reject", i
    return "hold", len(differences)


def allowed(runs: int) -> float:
    """0.025 with three standard errors of this many runs."""
    return 0.025 + 3 * math.sqrt(0.025 * 0.975 / runs)


def check(worlds: tuple[GuardWorld, ...], runs: int, say: Callable[..., Any]) -> None:
    lines = ["", f"{f'guards, {runs} runs':34} {'ship: worse':>11} {'harmless':>9} {'reject':>7} {'pairs':>6}"]
    for i, world in enumerate(worlds):
        worse, harmless = (list(played(world, mean, runs, seed + i)) for mean, seed in ((-1.0, 100), (0.0, 200)))
        shipped, fine, wrong = share(worse, "ship"), share(harmless, "ship"), share(harmless, "reject")
        median = np.median([n for _, n in harmless])
        lines.append(f"{world.name:34} {shipped:11.4f} {fine:9.3f} {wrong:7.4f} {median:6.0f}")
        assert shipped <= allowed(runs), world.name
        assert share(worse, "reject") <= allowed(runs), world.name
        assert wrong <= allowed(runs), world.name
        assert fine >= 0.8 - 3 * math.sqrt(0.16 / runs), world.name
    with say():
        print("\n".join(lines))  # noqa: T201


def share(found: list[tuple[Verdict, int]], wanted: Verdict) -> float:
    return sum(each == wanted for each, _ in found) / len(found)


def test_a_guard_that_costs_its_margin_is_seldom_shipped(capsys: pytest.CaptureFixture[str]) -> None:
    check(WORLDS[:2], 40, capsys.disabled)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_guards_that_cost_their_margin_are_seldom_shipped(capsys: pytest.CaptureFixture[str]) -> None:
    check(WORLDS, 400, capsys.disabled)


def test_bursts_of_hits_widen_the_interval() -> None:
    """Quarters of an hour are the blocks where no user, key or conversation ties the calls together."""
    world = WORLDS[-1]
    (differences,) = world.differences(0.0, 1, 7)
    ours = DifferenceSequence(rule_of(plan(), QUALITY, MARGIN), bounded=True)
    alone = DifferenceSequence(replace(rule_of(plan(), QUALITY, MARGIN), by_blocks=False), bounded=True)
    for sequence in (ours, alone):
        for i, d in enumerate(differences.tolist()):
            sequence.add(PairValue(0.5 - d / 2, 0.5 + d / 2, d), None, PairOrigin(START + 36.0 * i))
    assert [each.group for each in ours.independence.applied()] == ["block"]
    wide, narrow = ours.interval(), alone.interval()
    assert wide[0] < narrow[0]
    assert wide[1] > narrow[1]
