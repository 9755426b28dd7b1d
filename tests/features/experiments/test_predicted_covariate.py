"""The prediction of the served answer as a covariate: what it saves where it is right; where not, nothing breaks.

A pairwise judge is the primary, so the served answer's own score is not a covariate. The table goes to the terminal.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from fixtures.simulation_bounds import most_misses

from gateway.verdict.metrics import PairValue
from gateway.verdict.sequences.difference import DifferenceSequence, SequenceRule

BESIDE = 4  # requests without a pair for each pair: a shadow of 0.2
HORIZON = 200
LONG = (pytest.mark.long, pytest.mark.timeout(1200))


def difference(rng: np.random.Generator, easy: float) -> float:
    """Mean 0: the candidate wins on hard requests as often as it loses on easy ones."""
    return float(np.clip(0.8 * (0.5 - easy) + 0.2 * rng.normal(), -1.0, 1.0))


def guess(world: str, rng: np.random.Generator, easy: float, at: float) -> float:
    """The prediction for a served answer to a request that is so easy."""
    if world == "good":
        return easy
    if world == "wrong sign":
        return 1.0 - easy
    if world == "drifting":
        return easy * (1.0 - at)
    if world == "begins late":
        return easy if at > 0.5 else 0.5
    return float(rng.random())


def run(world: str, seed: int) -> tuple[bool, float, float]:
    """(the interval ever missed the mean 0, its last half-width, the same without the adjustment)."""
    rng = np.random.default_rng(seed)
    ours = DifferenceSequence(SequenceRule("hybrid", 0.05, horizon=HORIZON, compared=BESIDE), True)
    plain = DifferenceSequence(SequenceRule("hybrid", 0.05, horizon=HORIZON), True)
    missed = False
    for i in range(HORIZON):
        for _ in range(BESIDE):
            ours.see((0.0, 3.0, 4.0, guess(world, rng, rng.random(), i / HORIZON)), 1.0, 0.0)
        easy = rng.random()
        taken = PairValue(0.5, 0.5, difference(rng, easy))
        ours.add(taken, (0.0, 3.0, 4.0, guess(world, rng, easy, i / HORIZON)))
        plain.add(taken)
        low, high = ours.interval()
        missed |= not low <= 0.0 <= high
    return missed, _half(ours), _half(plain)


def _half(sequence: DifferenceSequence) -> float:
    low, high = sequence.interval()
    return (high - low) / 2.0


@pytest.mark.parametrize("world", ["good", "wrong sign", "drifting", "begins late", "noise"])
@pytest.mark.parametrize("runs", [pytest.param(4, id="quick"), pytest.param(1000, marks=LONG, id="large")])
def test_errors_stay_what_they_are_and_a_right_prediction_saves_pairs(
    world: str, runs: int, request: pytest.FixtureRequest
) -> None:
    missed, half, plain = (np.array(column) for column in zip(*(run(world, seed) for seed in range(runs)), strict=True))
    saved = 1.0 - float((half**2).mean() / (plain**2).mean())
    line = f"| {world} | {missed.mean():.3f} | {half.mean():.4f} | {plain.mean():.4f} | {saved:.2f} |"
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        reporter.write_line("")
        reporter.write_line(line)
    assert missed.mean() <= most_misses(0.05, runs)
    assert math.isclose(saved, 0.0, abs_tol=0.05) if world == "noise" else saved > (0.3 if world == "good" else 0.0)
