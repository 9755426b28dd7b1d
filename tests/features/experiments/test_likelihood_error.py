"""Error rate and number of pairs of likelihood experiments, over simulated differences of calls."""

from __future__ import annotations

import random
from collections.abc import Callable
from statistics import median

import pytest
from fixtures.likelihoods import likelihood_plan

from gateway.reports.model import margin_finding
from gateway.verdict.metrics import Metric, PairValue
from gateway.verdict.sequences.difference import DifferenceSequence, rule_of

MARGIN = 0.02
PLAN = likelihood_plan(margin=MARGIN)
RULE = rule_of(PLAN, Metric("nats_per_token", "likelihood"), MARGIN)
Draw = Callable[[random.Random], float]

# The loss of a call in margins, with a mean of 1: as bad as the margin says.
WORLDS: dict[str, Draw] = {
    "normal, deviation 0.5": lambda rng: rng.gauss(1.0, 0.5),
    "normal, deviation 2": lambda rng: rng.gauss(1.0, 2.0),
    "normal, deviation 4": lambda rng: rng.gauss(1.0, 4.0),
    "exponential": lambda rng: rng.expovariate(1.0),
    "gamma, skewed": lambda rng: rng.gammavariate(0.25, 4.0),
    "a fifth of the calls differ by 5": lambda rng: 5.0 if rng.random() < 0.2 else 0.0,
}
# A rare part of the traffic differs by more than the floor allows for: stated, not bounded.
RARE: dict[str, Draw] = {
    "a tenth of the calls differ by 10": lambda rng: 10.0 if rng.random() < 0.1 else 0.0,
    "one call in 50 differs by 50": lambda rng: 50.0 if rng.random() < 0.02 else 0.0,
}


def verdict(draw: Draw, seed: int) -> tuple[str, int]:
    """("ship", "reject" or "hold", pairs), with a look after every pair."""
    rng, sequence = random.Random(seed), DifferenceSequence(RULE, bounded=False)
    while not sequence.closed:
        loss = MARGIN * draw(rng)
        sequence.add(PairValue(0.5, 0.5 + loss, -loss))
        found = margin_finding(sequence.estimate(), MARGIN)
        if found != "unclear":
            return ("reject" if found == "inferior" else "ship"), sequence.n
    return "hold", sequence.n


def rates(draw: Draw, runs: int) -> tuple[float, float, float]:
    """(share of ship, share of reject, median pairs)."""
    found = [verdict(draw, seed) for seed in range(runs)]
    shares = (sum(each == wanted for each, _ in found) / runs for wanted in ("ship", "reject"))
    ship, reject = shares
    return ship, reject, median(n for _, n in found)


@pytest.mark.parametrize("world", ["normal, deviation 2", "a fifth of the calls differ by 5"])
def test_a_candidate_as_bad_as_the_margin_is_rarely_shipped(world: str) -> None:
    """α is 0.05 over both sides. 120 runs: above 0.11 with a probability below 1e-4 at the true rate of 0.03."""
    ship, reject, _ = rates(WORLDS[world], 120)
    assert ship <= 0.11
    assert reject <= 0.11


@pytest.mark.parametrize(
    ("draw", "wanted", "most"),
    [
        (lambda rng: rng.gauss(0.0, 0.3), "ship", 70),
        (lambda rng: rng.gauss(0.3, 0.7), "ship", 135),
        (lambda rng: rng.gauss(10.0, 5.0), "reject", 30),
    ],
)
def test_clear_candidates_take_some_tens_of_pairs(draw: Draw, wanted: str, most: int) -> None:
    found = [verdict(draw, seed) for seed in range(20)]
    assert all(each == wanted for each, _ in found)
    assert median(n for _, n in found) <= most


@pytest.mark.long
def test_the_error_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    as_bad = {name: rates(draw, 1000) for name, draw in {**WORLDS, **RARE}.items()}
    means = ((0.0, 0.1), (0.0, 1.0), (0.25, 1.0), (0.5, 1.0), (2.0, 1.0), (5.0, 3.0), (15.0, 8.0))
    others = {
        f"{mean:g} ± {deviation:g}": rates(lambda rng, m=mean, d=deviation: rng.gauss(m, d), 300)  # type: ignore[misc]
        for mean, deviation in means
    }
    with capsys.disabled():
        print("\nA call's loss in margins (mean 1): shipped, rejected, median pairs; a look after each pair")  # noqa: T201
        for name, (ship, reject, pairs) in {**as_bad, **others}.items():
            print(f"{name:36} {ship:.3f} {reject:.3f} {pairs:5.0f}")  # noqa: T201
    for name in WORLDS:
        assert as_bad[name][0] <= 0.05 + 0.02, name  # 1 000 runs: 0.02 is three standard errors
