"""Measures how often the rule ships a decision model that is worse, over many simulated experiments with a look after
each pair. All seeds are fixed.

A decision model may agree with the control as often as the control agrees with itself, and be right as often, and err
on one option: only a guardrail that counts this option alone finds it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from fixtures.simulated import a_plan
from fixtures.simulation_bounds import most_misses

from gateway.statistics.domains import Floats
from gateway.statistics.empirical_bernstein import bernstein_bound
from gateway.verdict.metrics import Metric, PairValue
from gateway.verdict.sequences.difference import DifferenceSequence, rule_of

ALPHA, MARGIN, GUARDED = 0.05, 0.1, 0.15
"""Margins of the primary, and of the guardrail on the rare option."""
RARE, RIGHT = 0.25, 0.9
"""Share of the calls whose right answer is the rare option; how often the control is right about either."""


@dataclass(frozen=True)
class Decider:
    """A decision model, by how often it is right where each option is."""

    name: str
    usual: float
    rare: float

    @property
    def right(self) -> float:
        return (1 - RARE) * self.usual + RARE * self.rare


EQUAL = Decider("equal", 0.9, 0.9)
WRONG = Decider("wrong", 0.4, 0.4)
BIASED = Decider("biased", 1.0, 0.6)
EDGE = Decider("biased by the margin", 0.95, 0.75)


@dataclass(frozen=True)
class Played:
    """The differences of one kind, and the pairs that count."""

    differences: Floats
    counts: Floats


def play(world: Decider, runs: int, pairs: int, seed: int) -> dict[str, Played]:
    """The pairs of each metric: shape (runs, pairs)."""
    rng = np.random.default_rng(seed)
    rare = rng.random((runs, pairs)) < RARE
    control, again = (rng.random((runs, pairs)) < RIGHT for _ in range(2))
    candidate = rng.random((runs, pairs)) < np.where(rare, world.rare, world.usual)
    right = candidate.astype(np.float64) - control
    agrees = (candidate == control).astype(np.float64) - (again == control)  # of two options, both wrong is the same
    everywhere = np.ones_like(right)
    return {
        "decision_right": Played(right, everywhere),
        "decision_agrees": Played(agrees, everywhere),
        "rare option": Played(right, rare.astype(np.float64)),
    }


def bounds(played: Played, margin: float) -> tuple[Floats, Floats]:
    """(low, high) of the mean difference of the pairs that count, after each pair."""
    rule = rule_of(a_plan(alpha=ALPHA), Metric("quality", "score"), margin)
    n = np.cumsum(played.counts, axis=1)
    x = played.differences * played.counts
    totals, known = np.cumsum(x, axis=1), np.maximum(n, 1.0)
    v = np.cumsum(played.counts * (played.differences - (totals - x) / known) ** 2, axis=1)
    grid = np.geomspace(1e-3, v.max() + 1, 1500)
    half = np.interp(v, grid, [bernstein_bound(float(at), ALPHA, 2.0, rule.v_opt) for at in grid]) / known
    half[n == 0] = np.inf
    return totals / known - half, totals / known + half


def ships(metrics: dict[str, float], played: dict[str, Played]) -> float:
    """The share of experiments in which each of these metrics has excluded a loss by its margin before one of them has
    shown it. metrics: the margin of each."""
    limits = {name: bounds(played[name], margin) for name, margin in metrics.items()}
    good = np.all([low > -metrics[name] for name, (low, _) in limits.items()], axis=0)
    bad = np.any([high < -metrics[name] for name, (_, high) in limits.items()], axis=0)
    first_good, first_bad = (np.where(hit.any(axis=1), hit.argmax(axis=1), hit.shape[1]) for hit in (good, bad))
    return float((first_good < first_bad).mean())


ALONE = {"decision_right": MARGIN}
AGREES = {"decision_agrees": MARGIN}
GUARD = {"decision_right": MARGIN, "rare option": GUARDED}


def test_the_arrays_are_the_sequences_of_pairs_that_count() -> None:
    played = play(BIASED, 1, 300, 1)["rare option"]
    rule = rule_of(a_plan(alpha=ALPHA), Metric("quality", "score"), GUARDED)
    sequence = DifferenceSequence(rule, bounded=True)
    low, high = bounds(played, GUARDED)
    for i, difference in enumerate(played.differences[0]):
        if played.counts[0, i]:
            sequence.add(PairValue(0.0, max(0.0, float(difference)), float(difference)))
        if i % 50 == 49:
            assert sequence.interval() == pytest.approx((max(-1, low[0, i]), min(1, high[0, i])), abs=1e-4)


def rows(runs: int, pairs: int) -> list[list[float]]:
    """Shares that ship: one row for each world, one column for each rule."""
    return [
        [ships(metrics, play(world, runs, pairs, seed)) for metrics in (AGREES, ALONE, GUARD)]
        for seed, world in enumerate((EQUAL, WRONG, BIASED, EDGE))
    ]


def check(runs: int, pairs: int) -> str:
    """The table of shares that ship, whose errors are within their bound."""
    made, most = rows(runs, pairs), most_misses(ALPHA, runs)
    equal, wrong, biased, edge = made
    assert min(equal) >= 0.9, "an equal model ships"
    assert max(wrong) <= most
    assert biased[2] <= most, "the guardrail finds the bias"
    assert edge[2] <= most, "also at its margin"
    assert min(biased[:2]) >= 0.9, "neither mean sees it"
    head = f"{runs} experiments of at most {pairs} pairs, a look after each; false ships at most {most:.4f}"
    lines = ["| decision model | right | decision_agrees | decision_right | with a guardrail on the rare option |"]
    lines += ["|---|---|---|---|---|"]
    for world, row in zip((EQUAL, WRONG, BIASED, EDGE), made, strict=True):
        shares = " | ".join(f"{share:.4f}" for share in row)
        lines.append(f"| {world.name} ({world.usual:g}; {world.rare:g}) | {world.right:g} | {shares} |")
    return "\n".join([head, "", *lines])


def test_a_bias_that_the_mean_hides_is_found_by_its_guardrail() -> None:
    check(200, 2_000)


@pytest.mark.long
def test_two_thousand_experiments_of_each_world(capsys: pytest.CaptureFixture[str]) -> None:
    text = check(2_000, 3_000)
    with capsys.disabled():
        print(f"\n{text}")  # noqa: T201 - the table of the evidence
