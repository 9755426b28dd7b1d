"""Rows of the sequences that are valid at any look: betting, empirical Bernstein, asymptotic, a look after each pair.

The truth lies exactly one margin below the control, so a bound on either side of it is an error: 0.05 for both.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gateway.core.plan import Method
from gateway.reports.model import margin_finding
from gateway.verdict.metrics import Metric, PairOrigin, PairValue
from gateway.verdict.sequences.difference import DifferenceSequence, rule_of
from worlds import traffic
from worlds.rows import Row, Run
from worlds.traffic import MARGIN, Call, Draw, Values, independent, repeated, scored
from worlds.verdict_play import plan_of

PAIRS, HOURS = 600, 25.0


def _drawn(rng: np.random.Generator, at: Values, differences: Values) -> Iterator[Call]:
    a, b = scored(differences)
    again = repeated(rng, 0.0, len(at))
    for values in zip(at.tolist(), a.tolist(), b.tolist(), again.tolist(), strict=True):
        yield Call(*values)


def ties(rng: np.random.Generator, mean: float, at: Values) -> Iterator[Call]:
    """Nearly all pairs tie; the rest lose or win all: 9 % lose, 4 % win where the mean is −1 margin."""
    drawn = rng.random(len(at))
    lost, won = 0.065 - mean * MARGIN / 2, 0.065 + mean * MARGIN / 2
    differences = np.where(drawn < lost, -1.0, np.where(drawn < lost + won, 1.0, 0.0))
    yield from _drawn(rng, at, differences)


def catastrophes(rng: np.random.Generator, mean: float, at: Values) -> Iterator[Call]:
    """All of the mean is in rare and total losses."""
    yield from _drawn(rng, at, np.where(rng.random(len(at)) < -mean * MARGIN, -1.0, 0.0))


def widening(rng: np.random.Generator, mean: float, at: Values) -> Iterator[Call]:
    """The deviation grows from 0.05 to 0.4 over the pairs: early looks know too small a variance."""
    deviations = np.linspace(0.05, 0.4, len(at))
    yield from _drawn(rng, at, rng.normal(mean * MARGIN, deviations))


def skewed(rng: np.random.Generator, mean: float, at: Values) -> Iterator[Call]:
    """Small gains, and losses with a long tail."""
    loss = np.minimum(rng.pareto(3.0, len(at)) * 0.2, 1.0)
    centre = 0.2 * (0.5 - _TAIL)  # E min(0.2 X, 1) for a Lomax X with shape 3
    yield from _drawn(rng, at, mean * MARGIN + centre - loss)


_TAIL = 0.5 / 36.0  # E (X − 5)+ = 6^(−2) / 2


QUALITY = Metric("quality", "score", "1 c1")


@dataclass(frozen=True, slots=True)
class LookedAt:
    """The primary's sequence in a plan with this method. The event: it comes to lie on one side of the margin."""

    draw: Draw
    method: Method

    def __call__(self, seed: int, rules: int) -> Run:
        plan = plan_of(rules, method=self.method, auto_horizon=False, max_pairs=PAIRS)
        sequence = DifferenceSequence(rule_of(plan, QUALITY, MARGIN), bounded=True)
        calls = self.draw(np.random.default_rng([seed, 50]), -1.0, traffic.evenly(PAIRS, 3600 * HOURS / PAIRS))
        for i, call in enumerate(calls, 1):
            sequence.add(PairValue(call.a, call.b, call.b - call.a), None, PairOrigin(call.at, f"k{i}", f"u{i}"))
            if margin_finding(sequence.estimate(), MARGIN) != "unclear":
                return Run(True, i)
        return Run(False, PAIRS)


DRAWS: dict[str, Draw] = {
    "normal": independent(), "87 % ties": ties, "rare total losses": catastrophes, "the deviation grows": widening,
    "losses with a long tail": skewed,
}  # fmt: skip
METHODS: tuple[Method, ...] = ("guaranteed", "stationary", "anytime")
ROWS: list[Row] = [
    Row(
        f"{method}: {name}",
        "sequences",
        "is wrong at any look",
        LookedAt(draw, method),
        "at most",
        0.05,
        runs=1_000,
        rules=(3,),
    )
    for method, (name, draw) in itertools.product(METHODS, DRAWS.items())
]
