"""Rows of stops for harm: how often a candidate that does no harm is stopped, and what a harmful one costs."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from gateway.verdict.harm import harm_in_pairs
from worlds import traffic
from worlds.rows import Row, Run
from worlds.traffic import Draw, Owned, a_few_calls, failing, independent, shares
from worlds.verdict_play import Experiment, plan_of
from worlds.verdicts import BURSTS_H, DAY_S, swing

FALSE_STOPS = 0.01


@dataclass(frozen=True, slots=True)
class HarmWorld:
    """One experiment until it is stopped for harm, or its planned pairs are taken. hours: that these take."""

    draw: Draw
    mean: float
    hours: float = 25.0
    rail: float | None = None

    def __call__(self, seed: int, rules: int) -> Run:
        plan, rng = plan_of(rules, rail=self.rail), np.random.default_rng([seed, 48])
        pairs = plan.max_pairs or 0
        experiment, times = Experiment(plan), list[float]()
        at = traffic.evenly(pairs, 3600 * self.hours / pairs)
        for call, repeat in zip(self.draw(rng, self.mean, at), itertools.cycle((True, False, False, False))):
            experiment.take(call, repeat=repeat)
            times.append(call.at)
            if harm_in_pairs(plan, experiment.sequence("quality"), times, call.at) is not None:
                return Run(True, experiment.pairs)
        return Run(False, experiment.pairs)


def _false(name: str, draw: Draw, **changes: float) -> list[Row]:
    """The world with an equal candidate, and with one that is worse by one margin, of which a stop is not false."""
    equal = HarmWorld(draw, 0.0, **changes)
    worse = HarmWorld(draw, -1.0, **changes)
    return [
        Row(name, "harm", "stopped, equal", equal, "at most", FALSE_STOPS, rules=(3,)),
        Row(name, "harm", "stopped, worse by a margin", worse, rules=(3,)),
    ]


ROWS: list[Row] = [
    *_false("harm: independent calls", independent()),
    *_false("harm: 8 users", Owned(shares((1.0,) * 8), 0.3)),
    *_false("harm: 15 calls a user, ICC 0.3", Owned(a_few_calls(15), 0.3)),
    *_false("harm: failures in bursts of 20", failing(0.01, 20), hours=BURSTS_H, rail=traffic.RAIL),
    *_false("harm: daily swing of two margins", traffic.over_time(swing, DAY_S)),
    Row("harm: worse by three margins", "harm", "stopped", HarmWorld(independent(), -3.0), rules=(3,)),
    Row("harm: worse by six margins", "harm", "stopped", HarmWorld(independent(), -6.0), "at least", 0.99, rules=(3,)),
]
