"""What plain users get: how often an experiment is decided rightly, after how many pairs, hours and dollars.

Each world is played by the product's default, by its always-valid interval (`method: anytime`), and by a fixed t-test
that looks once: at the number of pairs that it needs for a power of 0.8. Two calls a second come for three days. As
`ab start` spreads them, the planned pairs take a little more than `min_hours`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gateway.statistics.special import student_quantile
from worlds import traffic
from worlds.rows import Row, Run
from worlds.traffic import Call, Draw, Lacking, Owned, TheseUsers, failing, independent, shares
from worlds.verdict_play import plan_of, play
from worlds.verdicts import BURSTS_H, OF_THESE, TWO_HEAVY

Method = Literal["default", "always valid", "t-test"]
METHODS: tuple[Method, ...] = ("default", "always valid", "t-test")
GROUP, THREE_DAYS_H, SPREAD_H = "answer rates", 72.0, 25.0
DOLLARS_A_CALL = 0.01
"""USD of a request to the candidate, or of a repeat to the control: 1 000 tokens at 10 dollars a million."""
REPEATS = 0.25
"""Repeats of the control a pair; a t-test has none."""
ALPHA, Z = 0.05, 1.96 + 0.8416
TRUTHS: Mapping[str, float] = {
    "equal": 0.0, "better by a margin": 1.0, "worse by 2 margins": -2.0, "worse by a margin": -1.0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PlainWorld:
    """rail: margin of the error rate, which is a guardrail. failing: share of the calls that both arms fail."""

    draw: Draw
    hours: float = SPREAD_H
    rail: float | None = None
    failing: float = 0.0
    plan: tuple[tuple[str, Any], ...] = ()

    @property
    def fixed(self) -> int:
        """Pairs of a test with one look that knows the variances of independent calls."""
        n = (Z * traffic.DEVIATION / traffic.MARGIN) ** 2
        if self.rail is not None:
            n = max(n, 2 * self.failing * (1 - self.failing) * (Z / self.rail) ** 2)
        return math.ceil(n)


WORLDS: Mapping[str, PlainWorld] = {
    "2 calls a second": PlainWorld(Owned(shares((1.0,) * 5_000), 0.1)),
    "failures in bursts of 20": PlainWorld(failing(0.01, 20), BURSTS_H, traffic.RAIL, 0.01),
    "two heavy users": PlainWorld(Owned(shares(TWO_HEAVY), 0.3)),
    "two heavy users, population: these": PlainWorld(TheseUsers(TWO_HEAVY, 0.3), plan=OF_THESE),
    "a judge that fails in 5 %": PlainWorld(Lacking(independent(), (0.05, "timeout"), (0.05, "timeout"))),
}


@dataclass(frozen=True, slots=True)
class AnswerWorld:
    """The event: the right verdict within three days. Worse by 2 margins asks for a reject, the others for a ship.
    Of a candidate that is worse by exactly one margin, it is a ship, which is wrong."""

    name: str
    truth: str
    method: Method

    def __call__(self, seed: int, rules: int) -> Run:
        world, rng = WORLDS[self.name], np.random.default_rng([seed, 49])
        plan = plan_of(rules, rail=world.rail, **(dict(world.plan) if rules >= 3 else {}))
        planned = plan.max_pairs or 1
        most = round(planned * THREE_DAYS_H / world.hours)
        calls = world.draw(rng, TRUTHS[self.truth], traffic.evenly(most, 3600 * world.hours / planned))
        if self.method == "t-test":
            return _tested(world, self._is_worse, calls)
        if self.method == "always valid":
            plan = replace(plan, method="anytime", auto_horizon=False, max_pairs=None)
        outcome = play(plan, calls, itertools.cycle((True, False, False, False)))
        return Run(outcome.verdict == "reject" if self._is_worse else outcome.ships, outcome.pairs)

    @property
    def _is_worse(self) -> bool:
        return TRUTHS[self.truth] < -1.0


def _tested(world: PlainWorld, worse: bool, calls: Iterable[Call]) -> Run:
    first = list(itertools.islice(calls, world.fixed))
    quality = np.array([call.b - call.a for call in first if not (call.a_lacks or call.b_lacks or call.b_failed)])
    ends = [(*_student(quality), traffic.MARGIN)]
    if world.rail is not None:
        failures = np.array([float(call.a_failed) - float(call.b_failed) for call in first])
        ends.append((*_student(failures), world.rail))
    ships = all(low > -margin for low, _, margin in ends)
    return Run(any(high < -margin for _, high, margin in ends) if worse else ships, len(first))


def _student(values: NDArray[np.float64]) -> tuple[float, float]:
    half = student_quantile(1 - ALPHA / 2, len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return float(values.mean()) - half, float(values.mean()) + half


def answer_row(name: str, truth: str, method: Method) -> Row:
    rules = (2, 3) if method == "default" else (3,)
    event = "ships falsely" if TRUTHS[truth] == -1.0 else "right verdict"
    return Row(f"{name}, {truth}: {method}", GROUP, event, AnswerWorld(name, truth, method), runs=400, rules=rules)


ROWS: list[Row] = [answer_row(*asked) for asked in itertools.product(WORLDS, TRUTHS, METHODS)]
Rate = tuple[float, float | None]
"""(share of right verdicts, median of their pairs)."""


def answer_table(found: Mapping[str, Rate]) -> Iterator[str]:
    """Lines of a table of the methods next to each other. found: by the name of the row, with the newest rules."""
    heads = [f"{method}: share, hours, pairs, dollars" for method in METHODS]
    yield f"| traffic | candidate | counted | {' | '.join(heads)} |"
    yield "|---|---|---|" + "---|" * len(METHODS)
    for name, truth in itertools.product(WORLDS, TRUTHS):
        cells = [_cell(name, method, found.get(answer_row(name, truth, method).name)) for method in METHODS]
        if any(cells):
            counted = answer_row(name, truth, "default").event
            yield f"| {name} | {truth} | {counted} | {' | '.join(cells)} |"


def _cell(name: str, method: Method, rate: Rate | None) -> str:
    if rate is None or rate[1] is None:
        return "" if rate is None else f"{rate[0]:.2f}"
    share, pairs = rate
    hours = pairs * WORLDS[name].hours / (plan_of(rail=WORLDS[name].rail).max_pairs or 1)
    dollars = DOLLARS_A_CALL * pairs * (1 + (0.0 if method == "t-test" else REPEATS))
    return f"{share:.2f}, {hours:.0f} h, {pairs:.0f}, {dollars:.2f}"
