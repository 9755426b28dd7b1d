"""Rows of shadow verdicts: whose calls they are, when quality moves, what is missing, what fails."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gateway.core.horizon import AT_MOST
from gateway.core.plan import Plan
from worlds import traffic
from worlds.rows import Row, Run, Side
from worlds.traffic import Draw, Lacking, Owned, TheseUsers, a_few_calls, failing, independent, shares
from worlds.verdict_play import Outcome, plan_of, play

Event = Literal["ships falsely", "ships", "decided"]
WORSE, EQUAL = -1.0, 0.0
FALSE, THESE = 0.025, 0.05  # bounds of a false ship: of users, and where the units seen are all there are
_REPEATS = (True, False, False, False)


@dataclass(frozen=True, slots=True)
class ShadowWorld:
    """One experiment in a world. hours: that the planned pairs take."""

    draw: Draw
    mean: float
    event: Event
    hours: float = 25.0
    deviation: float | None = traffic.DEVIATION
    rail: float | None = None
    most: int = AT_MOST
    """Times the planned pairs for which calls come."""
    plan: tuple[tuple[str, Any], ...] = ()
    more: bool = False
    """The operator says `--more` whenever the plan has ended."""

    def design(self, rules: int) -> Plan:
        changes = dict(self.plan) if rules >= 3 else {}
        return plan_of(rules, self.deviation, self.rail, **changes)

    def __call__(self, seed: int, rules: int) -> Run:
        plan, rng = self.design(rules), np.random.default_rng([seed, 47])
        pairs = plan.max_pairs or 0
        at = traffic.evenly(self.most * pairs + 1, 3600 * self.hours / pairs)
        outcome = play(plan, self.draw(rng, self.mean, at), _asked_again(), self.more)
        return Run(self._happened(outcome), outcome.pairs)

    def _happened(self, outcome: Outcome) -> bool:
        return outcome.decided if self.event == "decided" else outcome.ships


def _asked_again() -> Iterator[bool]:
    return itertools.cycle(_REPEATS)


def _both(name: str, draw: Draw, bound: float, ships: float | None = None, **changes: Any) -> list[Row]:
    """The world with a candidate that is worse by one margin, and with an equal one."""
    side: Side = "measured" if ships is None else "at least"
    return [
        Row(name, "verdict", "ships falsely", ShadowWorld(draw, WORSE, "ships falsely", **changes), "at most", bound),
        Row(name, "verdict", "ships", ShadowWorld(draw, EQUAL, "ships", **changes), side, ships or 0.0),
    ]


def swing(place: NDArray[np.float64]) -> NDArray[np.float64]:
    return 2 * np.sin(2 * np.pi * place)


def thirds(place: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(place % 1.0 < 1 / 3, 2.0, -1.0)


def _failures(share: float) -> Row:
    """Both arms fail at this share of the guardrail's margin."""
    world = ShadowWorld(failing(share * 0.01, rail=0.01), EQUAL, "decided", rail=0.01)
    side: Side = "at least" if share <= 0.5 else "measured"
    return Row(f"both fail at {share:g} of the guardrail's margin", "answers", "decided", world, side, 0.8)


def _missing(name: str, draw: Draw, mean: float, event: Event, side: Side, bound: float) -> Row:
    return Row(name, "missing", event, ShadowWorld(draw, mean, event), side, bound)


def _more(event: Event, mean: float, side: Side = "measured", bound: float = 0.0, name: str = "independent calls",
          draw: Draw | None = None) -> Row:  # fmt: skip
    world = ShadowWorld(draw or independent(), mean, event, more=True)
    return Row(f"{name}, always --more", "more", event, world, side, bound, rules=(3,))


def blocks(minutes: int) -> tuple[tuple[str, Any], ...]:
    """Changes of a plan whose values may depend on each other within this time."""
    return (("blocks_min", float(minutes)),)


DAY_S = 86_400.0
BURSTS_H = 7.83  # hours of the planned pairs at 100 an hour: a burst of 20 is within a quarter of an hour or two
TWO_HEAVY = (0.3, 0.3, *(0.01,) * 40)
OF_THESE = (("population", "these"),)
HEAVY = (0.55, *(0.45 / 40,) * 40)
ROWS: list[Row] = [
    *_both("independent calls", independent(), FALSE, 0.78),
    *_both("users with one call each", Owned(a_few_calls(1), 0.0), FALSE, 0.78),
    *_both("60 independent users", Owned(shares((1.0,) * 60), 0.0), FALSE),
    *_both("one user with 55 % of the calls", Owned(shares(HEAVY), 0.3), FALSE),
    *_both("two users with 30 % each, and 40", Owned(shares(TWO_HEAVY), 0.3), FALSE),
    *_both("two users with 30 % each, and 5", Owned(shares((0.3, 0.3, *(0.08,) * 5)), 0.3), FALSE),
    *_both("two users with 30 % each, and 40, population: these", TheseUsers(TWO_HEAVY, 0.3), THESE, plan=OF_THESE),
    *_both("8 users", Owned(shares((1.0,) * 8), 0.3), FALSE),
    *_both("60 calls a user, ICC 0.05", Owned(a_few_calls(60), 0.05), FALSE),
    *_both("15 calls a user, ICC 0.3", Owned(a_few_calls(15), 0.3), FALSE),
    *_both("25 keys, no ids", Owned(shares((1.0,) * 25), 0.0, "key"), THESE, 0.78),
    *_both("40 prompts, many users", Owned(shares((1.0,) * 40), 0.3, "prompt"), THESE),
    *_both("quality drifts, memory 1 h", traffic.drifting(3600.0), THESE),
    *_both("quality drifts, memory 3 h", traffic.drifting(10_800.0), THESE),
    *_both("quality drifts, memory 1 h, blocks of 120 min", traffic.drifting(3600.0), THESE, plan=blocks(120)),
    *_both("quality drifts, memory 3 h, blocks of 360 min", traffic.drifting(10_800.0), THESE, plan=blocks(360)),
    *_both("daily swing of two margins", traffic.over_time(swing, DAY_S), FALSE),
    *_both("better for a third of each day", traffic.over_time(thirds, DAY_S), FALSE),
    *_both("failures in bursts of 20", failing(0.01, 20), FALSE, rail=traffic.RAIL, hours=BURSTS_H),
    *_both("failures in bursts of 3", failing(0.01, 3), FALSE, rail=traffic.RAIL, hours=BURSTS_H),
    *(_failures(share) for share in (0.2, 0.3, 0.5, 0.7)),
    _missing("scorer fails in 1 %", Lacking(independent(), (0.01, "timeout"), (0.01, "timeout")), EQUAL, "decided",
             "at least", 0.8),
    _missing("scorer fails in 5 %", Lacking(independent(), (0.05, "timeout"), (0.05, "timeout")), EQUAL, "decided",
             "at least", 0.8),
    _missing("scorer fails in 5 %, worse", Lacking(independent(), (0.05, "timeout"), (0.05, "timeout")), WORSE,
             "ships falsely", "at most", FALSE),
    _missing("not applicable 5 % where bad, control's timeouts 5 %",
             Lacking(independent(), (0.05, "timeout"), (0.05, "not_applicable"), where_bad=True), WORSE,
             "ships falsely", "at most", FALSE),
    _missing("scorer fails on the worst 5 %, control's by chance 5 %",
             Lacking(independent(), (0.05, "timeout"), (0.05, "timeout"), where_bad=True), WORSE, "ships falsely",
             "measured", 0.0),
    _more("ships falsely", WORSE, "at most", FALSE),
    _more("ships", EQUAL),
    _more("ships falsely", WORSE, "at most", FALSE, "8 users", Owned(shares((1.0,) * 8), 0.3)),
]  # fmt: skip
