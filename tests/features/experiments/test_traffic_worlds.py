"""Verdicts in traffic that is not independent, not constant in time, or fails in bursts: with rules 1 and with rules 2.

Each world is played many times at once, on arrays, with a look after every pair, by the rules that the product derives
from a plan; a test holds the arrays to the product's own sequences, pair by pair. The table goes to the terminal. All
seeds are fixed. The short form has a few hundred runs a world, `make test-long` 2 000.

worse: the candidate is worse by exactly one margin, so `ship` is wrong; 0.025 is allowed. equal: it is as good. For
both, `reject` is wrong; 0.025 is allowed a metric. one look: the share of equal candidates that an ideal test would
ship, which looks once, at the pairs that the plan has taken, and knows the distribution of the mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any, Literal
from zlib import crc32

import numpy as np
import pytest
from fixtures.simulated import a_plan
from numpy.typing import NDArray

from gateway.core.horizon import AT_MOST, BURN_IN, EARLY
from gateway.core.plan import Guardrail, Plan
from gateway.core.plan_horizon import horizon_of
from gateway.reports.model import Comparison, Estimate, margin_finding
from gateway.statistics.asymptotic import best_rho
from gateway.statistics.dependence import ALARM, BLOCK_S, BUCKETS, FEWEST_BLOCKS, FEWEST_GROUPS, FEWEST_TERMS
from gateway.statistics.hybrid import TIGHTEST
from gateway.statistics.rare import BETS, WEIGHTS
from gateway.verdict.decision import rejects, share_of_pairs
from gateway.verdict.metrics import Metric, PairOrigin, PairValue
from gateway.verdict.sequences.difference import DifferenceSequence, SequenceRule, rule_of

Values = NDArray[np.float64]
Counts = NDArray[np.int64]
Flags = NDArray[np.bool_]
Z = NormalDist().inv_cdf
MARGIN, DEVIATION, RAIL = 0.05, 0.3, 0.02
QUALITY, FAILED = Metric("quality", "score"), Metric("error_rate", "failed", against="repeat")
HOUR_S, START = 3600.0, 900.0 * 2_000_000


@dataclass(frozen=True)
class Pairs:
    """Pairs of many runs, in order. Each of shape (runs, pairs)."""

    difference: Values
    """Difference in quality."""
    user: Counts
    failed: Values
    """The candidate's failures less the control's; 0 where nothing fails."""
    apart_s: float
    """Seconds between two pairs."""


Draw = Callable[[np.random.Generator, float, tuple[int, int], float], Pairs]


@dataclass(frozen=True)
class TrafficWorld:
    """draw: (rng, mean in margins, (runs, pairs), seconds between pairs) → pairs.

    hours: that the planned pairs take.
    """

    name: str
    draw: Draw
    hours: float = 24.0
    min_hours: float = 24.0
    deviation: float | None = DEVIATION
    """Deviation that the plan knows; None if it guesses a variance of 0.1."""
    rail: float | None = None
    """The margin of the error rate; None if the plan has no guardrail."""
    pairs: int | None = None
    """Pairs in those hours; None: the planned ones."""
    fixed: float = (Z(0.975) + Z(0.8)) ** 2 * DEVIATION**2 / MARGIN**2
    """Pairs of a test with one look, power 0.8, that knows the variance and how the pairs depend on each other."""
    power: float | None = None
    """Least share of equal candidates that ship; None: that of the ideal test, less SHORT_OF_IDEAL."""
    price: float | None = None
    """Largest median of the pairs in units of `fixed`; None if there is no bound."""
    scale: float = 1.0
    """The deviation of one value in units of that of a call."""
    before: Draw | None = None
    """The law that the first rules see; None: the same."""
    short: int = 200
    """Runs of the short form; 0: the long form alone plays it."""
    long: int = 2_000
    """Runs of the long form."""

    def apart_s(self, planned: int) -> float:
        """Seconds between two pairs. planned: the pairs of the plan."""
        return self.hours * HOUR_S / (self.pairs or planned)


def normal(deviation: float) -> Draw:
    def draw(rng: np.random.Generator, mean: float, shape: tuple[int, int], apart_s: float) -> Pairs:
        d = np.clip(rng.normal(mean * MARGIN, deviation, shape), -1, 1)
        return Pairs(d, unrelated(shape), np.zeros(shape), apart_s)

    return draw


def unrelated(shape: tuple[int, int]) -> Counts:
    """A user for each pair."""
    return np.broadcast_to(np.arange(shape[1]), shape)


def ties(share: float) -> Draw:
    def draw(rng: np.random.Generator, mean: float, shape: tuple[int, int], apart_s: float) -> Pairs:
        u, worse = rng.random(shape), (1 - share - mean * MARGIN) / 2
        d = np.where(u < worse, -1.0, np.where(u < 1 - share, 1.0, 0.0))
        return Pairs(d, unrelated(shape), np.zeros(shape), apart_s)

    return draw


def users(calls: int, icc: float, at_once: int = 10) -> Draw:
    """Each user has this many calls whose differences are correlated; a few users are there at any time."""

    def draw(rng: np.random.Generator, mean: float, shape: tuple[int, int], apart_s: float) -> Pairs:
        runs = shape[0]
        lane = rng.integers(0, at_once, shape)
        turn = np.stack([np.cumsum(lane == k, axis=1, dtype=np.int32) for k in range(at_once)])
        mine = (
            np.take_along_axis(turn, lane[None], axis=0)[0]
            - 1
            + rng.integers(0, calls, (runs, at_once))[np.arange(runs)[:, None], lane]
        )
        user = lane + at_once * (mine // calls)
        shared = rng.normal(0, DEVIATION * math.sqrt(icc), (runs, int(user.max()) + 1))
        own = rng.normal(mean * MARGIN, DEVIATION * math.sqrt(1 - icc), shape)
        d = np.clip(own + np.take_along_axis(shared, user, axis=1), -1, 1)
        return Pairs(d, user, np.zeros(shape), apart_s)

    return draw


def over_time(effect: Callable[[Values], Values], period: int) -> Draw:
    """effect: periods so far → margins that are added to the mean."""

    def draw(rng: np.random.Generator, mean: float, shape: tuple[int, int], apart_s: float) -> Pairs:
        place = np.arange(shape[1]) / period
        d = np.clip(rng.normal((mean + effect(place)) * MARGIN, DEVIATION, shape), -1, 1)
        return Pairs(d, unrelated(shape), np.zeros(shape), apart_s)

    return draw


def bursts(length: int, control: float = 0.01) -> Draw:
    """The candidate's failures come in runs of this length, in the control's share and as much more as `mean` says."""

    def failing(rng: np.random.Generator, share: float, shape: tuple[int, int]) -> Flags:
        begins = rng.random(shape) < share / length
        since = np.where(begins, np.arange(shape[1]), -length - shape[1])
        return np.asarray(np.arange(shape[1]) - np.maximum.accumulate(since, axis=1) < length)

    def draw(rng: np.random.Generator, mean: float, shape: tuple[int, int], apart_s: float) -> Pairs:
        d = np.clip(rng.normal(0, DEVIATION, shape), -1, 1)
        candidate = failing(rng, control - mean * RAIL, shape)
        served = rng.random(shape) < control
        return Pairs(d, unrelated(shape), served * 1.0 - candidate, apart_s)

    return draw


def thirds(place: Values) -> Values:
    return np.where(place < 1 / 3, 2.0, -1.0)


def swing(place: Values) -> Values:
    return 2 * np.sin(2 * np.pi * place)


def plan_of(world: TrafficWorld, rules: int) -> Plan:
    rails = () if world.rail is None else (Guardrail("error_rate", world.rail),)
    plan = a_plan(
        method="hybrid", aa="alarm", margin=MARGIN, repeat_control=1.0, auto_horizon=True, rules=rules,
        guardrails=rails, min_hours=world.min_hours if rules >= 2 else 0.0,
    )  # fmt: skip
    variance = None if world.deviation is None else world.deviation**2
    return replace(plan, max_pairs=horizon_of(replace(plan, guardrails=()), variance))


@dataclass
class Groups:
    """gateway.statistics.dependence.Dispersion, of many runs at once."""

    runs: int
    fewest: int
    """Groups with two values before the test may raise an alarm."""
    single: Values = field(init=False)
    alarm: Flags = field(init=False)

    def __post_init__(self) -> None:
        for name in ("single", "squares", "cross", "sizes", "products", "noise", "reach", "peak"):
            setattr(self, name, np.zeros(self.runs))
        self.terms, self.repeated = np.zeros(self.runs), np.zeros(self.runs)
        self.alarm = np.zeros(self.runs, bool)
        self.n = 0

    def take(self, value: Values, mean: Values, size: Values, total: Values) -> None:
        s: Any = self
        after, prior = total + value, size > 0
        s.n += 1
        s.single += value**2
        s.squares += after**2 - total**2
        s.cross += (size + 1) * after - size * total
        s.sizes += 2 * size + 1
        s.peak = np.maximum(s.peak, (value - mean) ** 2)
        before = np.where(prior, total - size * mean, 0.0)
        product = (value - mean) * before
        s.products += product
        s.noise += product**2
        s.reach += before**2
        s.terms += prior
        s.repeated += size == 1
        ready = (s.repeated >= s.fewest) & (s.terms >= FEWEST_TERMS) & ~s.alarm
        if ready.any():
            variance = np.maximum(s.single / s.n - mean**2, 0.0)
            noise = np.maximum(s.noise, variance * s.reach) + 3.4 * variance * s.peak
            rho2 = best_rho(2 * ALARM, 500.0) ** 2
            growth = s.terms * rho2 + 1
            width = np.sqrt(2 * growth * np.log(np.sqrt(growth) / (2 * ALARM)) / rho2)
            s.alarm |= ready & (s.products > np.sqrt(noise / np.maximum(s.terms, 1)) * width)

    def m2(self, mean: Values) -> Values:
        s: Any = self
        groups = np.maximum(s.n**2 / s.sizes, 1.0 + 1e-9)
        df, z = groups - 1, 2.05
        student = (z + (z**3 + z) / (4 * df) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)) / z
        raw = np.maximum(s.squares - 2 * mean * s.cross + mean**2 * s.sizes, 0.0)
        return np.asarray(np.where(groups < 3, np.inf, raw * groups / df * student**2))

    @property
    def largest(self) -> Values:
        s: Any = self
        return np.asarray(s.sizes / s.n)


@dataclass
class ManySequences:
    """The sequence of one metric in many runs at once, hybrid or rare."""

    rule: SequenceRule
    runs: int
    most: int
    scale: float = 1.0

    def __post_init__(self) -> None:
        self.n = np.zeros(self.runs)
        self.mean, self.m2 = np.zeros(self.runs), np.zeros(self.runs)
        self.closed = np.zeros(self.runs, bool)
        self.low, self.high = np.full(self.runs, -np.inf), np.full(self.runs, np.inf)
        self.users, self.blocks = Groups(self.runs, FEWEST_GROUPS), Groups(self.runs, FEWEST_BLOCKS)
        self.size, self.total = np.zeros((self.runs, self.most)), np.zeros((self.runs, self.most))
        self.block, self.in_block, self.of_block = -1, 0.0, np.zeros(self.runs)
        self.more, self.fewer = np.zeros(self.runs), np.zeros(self.runs)

    def add(self, value: Values, user: Counts, at: float, covered_s: float) -> None:
        """The next pair of every run; a run that is closed keeps what it has."""
        going, before = ~self.closed, self.mean
        if self.rule.by_units:
            rows = np.arange(self.runs)
            self.users.take(value, before, self.size[rows, user], self.total[rows, user])
            self.size[rows, user] += 1
            self.total[rows, user] += value
        if self.rule.by_blocks:
            if int(at // BLOCK_S) != self.block:
                self.block, self.in_block, self.of_block = int(at // BLOCK_S), 0.0, np.zeros(self.runs)
            self.blocks.take(value, before, np.full(self.runs, self.in_block), self.of_block)
            self.in_block += 1
            self.of_block = self.of_block + value
        n = self.n + 1
        mean = before + (value - before) / n
        m2 = self.m2 + (value - before) * (value - mean)
        self.n, self.mean, self.m2 = (np.where(going, *of) for of in ((n, self.n), (mean, before), (m2, self.m2)))
        self.more, self.fewer = self.more + (value > 0), self.fewer + (value < 0)
        self._look(going, covered_s)

    def _look(self, going: Flags, covered_s: float) -> None:
        rule, error = self.rule, np.sqrt(guarded(self.m2, self.scale)) / self.n
        wider = [
            (groups.alarm & going, groups.m2(self.mean), floor)
            for groups, floor in ((self.users, np.ones(self.runs)), (self.blocks, self._floor()))
            if groups.alarm.any()
        ]
        if rule.method == "hybrid":
            for alarm, m2, floor in wider:
                error = np.where(alarm, np.maximum(error, np.sqrt(guarded(m2, floor)) / self.n), error)
            self.closed = self.closed | (going & self._ends(error, covered_s))
            half = self._hybrid(self.m2, np.full(self.runs, self.scale))
            for alarm, m2, floor in wider:
                half = np.where(alarm, np.maximum(half, self._hybrid(m2, floor)), half)
            low, high = self.mean - half, self.mean + half
        else:
            low, high = self._with_alarms(*self._rare(-RAIL), wider)
        self.low, self.high = np.where(going, low, self.low), np.where(going, high, self.high)

    def _with_alarms(
        self, low: Values, high: Values, wider: list[tuple[Flags, Values, Values]]
    ) -> tuple[Values, Values]:
        for alarm, m2, floor in wider:
            half = early(self.rule.alpha, self.rule.n_opt, self.n, np.sqrt(guarded(m2, floor)))
            low = np.where(alarm, np.minimum(low, self.mean - half), low)
            high = np.where(alarm, np.maximum(high, self.mean + half), high)
        return low, high

    def rejects(self, margin: float, share: float) -> Flags:
        """gateway.verdict.decision.rejects; share: of the hours that the values cover."""
        bound = -margin / max(share, 1e-9)
        if self.rule.method == "hybrid":
            return np.asarray(self.high < bound)
        if bound <= -1:
            return np.zeros(self.runs, bool)
        wider = [(self.blocks.alarm, self.blocks.m2(self.mean), self._floor())] if self.blocks.alarm.any() else []
        return np.asarray(self._with_alarms(*self._rare(bound), wider)[1] < bound)

    def _floor(self) -> Values:
        return self.blocks.largest if self.blocks.n else np.ones(self.runs)

    def _ends(self, error: Values, covered_s: float) -> Flags:
        if not self.rule.close_from:
            return np.asarray(self.n >= self.rule.horizon)
        late = (self.n >= AT_MOST * self.rule.horizon) | (error <= self.rule.close_at)
        return np.asarray((self.n >= self.rule.close_from) & (covered_s >= self.rule.min_s) & late)

    def _hybrid(self, m2: Values, floor: Values) -> Values:
        total = np.sqrt(guarded(m2, floor))
        last = Z(1 - self.rule.alpha * (1 - EARLY) / 2) * total / self.n
        first = early(self.rule.alpha * EARLY, TIGHTEST * self.rule.horizon, self.n, total)
        return np.asarray(np.where(self.n < BURN_IN, np.inf, np.where(self.closed, last, first)))

    def _rare(self, bound: float) -> tuple[Values, Values]:
        """Bounds that are known to be on one side of `bound` only: just above or below it, or infinite."""

        def shown(m: float, more: Values, fewer: Values) -> Flags:
            bets = np.minimum(BETS, 0.95 / (1.0 - m)) if m < 0 else BETS
            terms = ((more, m - 1.0), (self.n - more - fewer, m), (fewer, m + 1.0))
            logs = sum(count[:, None] * np.log1p(bets * step) for count, step in terms)
            return np.asarray(np.exp(np.minimum(logs, 700.0)) @ WEIGHTS >= 2 / self.rule.alpha)  # e^710 is infinite

        above, below = shown(-bound, self.fewer, self.more), shown(bound, self.more, self.fewer)
        return np.where(above, bound + 1e-9, -np.inf), np.where(below, bound - 1e-9, np.inf)


def guarded(m2: Values, largest: Values | float) -> Values:
    seen = m2 / largest**2
    return np.asarray(m2 + largest**2 * 3.4 * np.minimum(1.0, 7.0 / np.maximum(seen, 1e-12)))


def early(alpha: float, n_star: float, n: Values, total: Values) -> Values:
    rho2 = best_rho(alpha, n_star) ** 2
    growth = n * rho2 + 1
    return np.asarray(total / n / np.sqrt(n) * np.sqrt(2 * growth * np.log(np.sqrt(growth) / alpha) / rho2))


@dataclass(frozen=True)
class Verdicts:
    """Verdicts of many runs."""

    shipped: float
    rejected: float
    pairs: float
    """The median until a verdict or the last look."""
    reject_h: float
    """The median of the hours until `reject`; infinity: fewer than half are rejected."""

    @classmethod
    def of(cls, ship: Values, reject: Values, until: Values, apart_s: float) -> Verdicts:
        """ship, reject: pairs until this verdict, infinite without it."""
        shipped, rejected = (float(np.isfinite(pairs).mean()) for pairs in (ship, reject))
        return cls(shipped, rejected, float(np.median(until)), float(np.median(reject)) * apart_s / HOUR_S)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    world: TrafficWorld
    rules: int
    runs: int
    worse: Verdicts
    equal: Verdicts
    ideal: float
    """Share of equal candidates that the ideal test would ship."""

    @property
    def error(self) -> float:
        """The standard error of the share that is shipped though worse."""
        return math.sqrt(max(self.worse.shipped * (1 - self.worse.shipped), 1e-9) / self.runs)


def played(
    world: TrafficWorld, rules: int, mean: float, runs: int, seed: int, *, reject_waits: bool = True
) -> Verdicts:
    return played_together(world, rules, [(mean, seed)], runs, reject_waits=reject_waits)[0]


def played_together(
    world: TrafficWorld, rules: int, candidates: Sequence[tuple[float, int]], runs: int, *, reject_waits: bool = True
) -> list[Verdicts]:
    """The verdicts of several candidates, in the same arrays. candidates: the mean and the seed of each."""
    plan = plan_of(world, rules)
    planned = plan.max_pairs or 0
    apart_s = world.apart_s(planned)
    most = max(AT_MOST * planned, math.ceil(world.min_hours * HOUR_S / apart_s) + 1) if rules >= 2 else planned
    scale = world.scale if rules >= 2 else 1.0
    draw = world.before if world.before is not None and rules < 2 else world.draw
    pairs = together([draw(np.random.default_rng(seed), mean, (runs, most), apart_s) for mean, seed in candidates])
    every = runs * len(candidates)
    primary = ManySequences(rule_of(plan, QUALITY, MARGIN), every, int(pairs.user.max()) + 1, scale)
    rail = None if world.rail is None else ManySequences(rule_of(plan, FAILED, world.rail), every, most)
    ship, reject = np.full(every, np.inf), np.full(every, np.inf)
    for i in range(most):
        covered_s = i * apart_s
        primary.add(pairs.difference[:, i], pairs.user[:, i], covered_s, covered_s)
        share = min(1.0, covered_s / HOUR_S / plan.min_hours) if plan.min_hours and reject_waits else 1.0
        good, bad = primary.low > -MARGIN, primary.rejects(MARGIN, share)
        if rail is not None:
            rail.add(pairs.failed[:, i], pairs.user[:, i], covered_s, covered_s)
            good, bad = good & (rail.low > -RAIL), bad | rail.rejects(RAIL, share)
        good = good & (covered_s >= plan.min_hours * HOUR_S) & ~bad
        undecided = np.isinf(ship) & np.isinf(reject)
        ship, reject = np.where(undecided & good, i + 1.0, ship), np.where(undecided & bad, i + 1.0, reject)
        if not (np.isinf(ship) & np.isinf(reject) & ~(primary.closed & (i + 1 >= planned))).any():
            break
    until = np.minimum(np.minimum(ship, reject), np.maximum(primary.n, 1.0))
    each = (np.split(values, len(candidates)) for values in (ship, reject, until))
    return [Verdicts.of(shipped, rejected, pairs, apart_s) for shipped, rejected, pairs in zip(*each, strict=True)]


def together(drawn: Sequence[Pairs]) -> Pairs:
    """Pairs of the runs of all of these."""
    difference, user, failed = (
        np.concatenate([getattr(pairs, name) for pairs in drawn]) for name in ("difference", "user", "failed")
    )
    return Pairs(difference, user, failed, drawn[0].apart_s)


AT_A_TIME = 500
SHORT_OF_IDEAL = 0.05
"""The most that looking at every pair costs, where too little has happened to decide the margin; 0.03 by the
formula."""


def one_look(world: TrafficWorld, pairs: int, runs: int, seed: int) -> float:
    """The share of equal candidates that one look at the mean of this number of pairs ships, at an error of exactly
    0.025.

    The test knows how the mean is distributed where the candidate is worse by the margin. A test that has to find that
    out, or that may look earlier, has less power.
    """
    bar = float(np.quantile(means(world, -1.0, (runs, pairs), seed), 0.975))
    return float((means(world, 0.0, (runs, pairs), seed + 1) > bar).mean())


def means(world: TrafficWorld, mean: float, shape: tuple[int, int], seed: int) -> Values:
    """Mean differences of many runs: of failures where the world has a guardrail, else in quality."""
    rng, apart_s = np.random.default_rng(seed), world.apart_s(plan_of(world, 2).max_pairs or 0)
    drawn = (world.draw(rng, mean, (AT_A_TIME, shape[1]), apart_s) for _ in range(shape[0] // AT_A_TIME))
    return np.concatenate([(of.difference if world.rail is None else of.failed).mean(axis=1) for of in drawn])


OF_CONVERSATION = DEVIATION * math.sqrt(0.3 + 0.7 / 15)
"""The deviation of a conversation's mean over 15 calls with an intraclass correlation of 0.3; a call's is DEVIATION."""


def fixed_n(deviation: float) -> float:
    """Pairs of a test with one look: one-sided 0.025, power 0.8."""
    return ((Z(0.975) + Z(0.8)) * deviation / MARGIN) ** 2


OVER_TIME = 0.78 - 3 * math.sqrt(0.78 * 0.22 / 2_000)
"""The mean over the pairs is a little off the planned one, since the plan's end does not fall on the period's."""

BURSTS = TrafficWorld("failures in bursts of 20", bursts(20), rail=RAIL, pairs=2400, short=60)
WORLDS = (
    TrafficWorld("normal (control)", normal(DEVIATION), power=0.78, price=1.15),
    TrafficWorld("sd 0.4 where 0.32 is guessed", normal(0.4), deviation=None, fixed=fixed_n(0.4),
                 power=0.78, price=1.15),
    TrafficWorld("yes or no, 60 % ties, where 90 % are guessed", ties(0.6), deviation=None,
                 fixed=fixed_n(math.sqrt(0.4)), power=0.78, price=1.3),
    TrafficWorld("90 % ties", ties(0.9), deviation=math.sqrt(0.1), fixed=fixed_n(math.sqrt(0.1)), power=0.78,
                 price=1.3),
    TrafficWorld("15 calls a user, ICC 0.3", users(15, 0.3)),
    TrafficWorld("15 calls a conversation, ICC 0.3, with ids", normal(OF_CONVERSATION), deviation=None, pairs=110,
                 fixed=fixed_n(OF_CONVERSATION), power=0.78, price=1.3, before=normal(DEVIATION),
                 scale=OF_CONVERSATION / DEVIATION),
    TrafficWorld("better by a margin for a third, then worse by two", over_time(thirds, 311), power=OVER_TIME),
    TrafficWorld("swings by 2 margins within a week", over_time(swing, 311), hours=168.0, min_hours=168.0,
                 power=OVER_TIME),
    TrafficWorld("worse by two margins for a third, then better by one", over_time(lambda at: -thirds(at), 311),
                 power=OVER_TIME),
    TrafficWorld("swings by 2 margins within a week, low first", over_time(lambda at: -swing(at), 311), hours=168.0,
                 min_hours=168.0, power=OVER_TIME),
    BURSTS,
    TrafficWorld("failures in bursts of 20, a week", bursts(20), hours=168.0, min_hours=168.0, rail=RAIL,
                 pairs=16_800, power=0.78, short=0, long=400),
)  # fmt: skip


def rows_of(length: Literal["short", "long"], versions: Sequence[int]) -> list[Row]:
    """versions: of the rules that plans follow."""
    runs = [world.short if length == "short" else world.long for world in WORLDS]
    return [row_of(i, world, rules, runs[i]) for i, world in enumerate(WORLDS) if runs[i] for rules in versions]


def row_of(i: int, world: TrafficWorld, rules: int, runs: int) -> Row:
    worse, equal = played_together(world, rules, ((-1.0, 11 + i), (0.0, 71 + i)), runs)
    return Row(world, rules, runs, worse, equal, one_look(world, round(equal.pairs), max(2_000, 10 * runs), 900 + i))


def table(rows: list[Row]) -> str:
    lines = [
        "",
        "Traffic worlds, a look after every pair: before (rules 1) and after (rules 2)",
        f"{'world':52} {'rules':5} {'runs':5} {'false ship':>16} {'reject':>7} {'equal: ship':>12} {'one look':>8} "
        f"{'reject':>7} {'pairs':>6} x fixed",
    ]
    for row in rows:
        lines.append(
            f"{row.world.name:52} {row.rules:5d} {row.runs:5d} {row.worse.shipped:8.4f} ({row.error:.4f}) "
            f"{row.worse.rejected:7.4f} {row.equal.shipped:12.3f} {row.ideal:8.3f} {row.equal.rejected:7.4f} "
            f"{row.equal.pairs:6.0f} {row.equal.pairs / row.world.fixed:7.2f}"
        )
    return "\n".join(lines)


def allowed(share: float, runs: int) -> float:
    """The share with three standard errors of this many runs."""
    return share + 3 * math.sqrt(share * (1 - share) / runs)


def check(rows: list[Row], capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(table(rows))  # noqa: T201
    for row in rows:
        if row.rules < 2:
            continue
        assert row.worse.shipped <= allowed(0.025, row.runs), row.world.name
        assert row.equal.rejected <= allowed(0.025, row.runs), row.world.name
        metrics = 1 if row.world.rail is None else 2  # each may be wrong
        assert row.worse.rejected <= allowed(0.025 * metrics, row.runs), row.world.name
        noise = 3 * math.sqrt(0.8 * 0.2 / row.runs) if row.runs < 2000 else 0.0
        least = row.ideal - SHORT_OF_IDEAL if row.world.power is None else row.world.power
        assert row.equal.shipped >= least - noise, row.world.name
        if row.world.price is not None:
            assert row.equal.pairs <= row.world.price * row.world.fixed, row.world.name


def test_traffic_seldom_ships_a_worse_candidate(capsys: pytest.CaptureFixture[str]) -> None:
    check(rows_of("short", (2,)), capsys)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_runs_of_traffic_seldom_ship_a_worse_candidate(capsys: pytest.CaptureFixture[str]) -> None:
    check(rows_of("long", (1, 2)), capsys)


@dataclass(frozen=True)
class Harm:
    """A candidate that is worse all the time. latest_h: a bound on the median of the hours until `reject`."""

    name: str
    margins: float
    latest_h: float
    failures: bool = False

    @property
    def world(self) -> TrafficWorld:
        return TrafficWorld(self.name, bursts(1), rail=RAIL, pairs=2400) if self.failures else WORLDS[0]


HARMS = (
    Harm("worse by 3 margins", -3.0, 18.0),
    Harm("worse by 6 margins", -6.0, 9.0),
    Harm("errors of 7 % against 1 %", -3.0, 15.0, failures=True),
    Harm("errors of 51 % against 1 %", -25.0, 2.0, failures=True),
    Harm("fails every time", -49.5, 1.0, failures=True),
)
"""The least hours, if nothing were left to chance, are 8, 4, 8, 1 and 0.5: 24 h × the margin ÷ the harm."""


def test_a_clearly_worse_candidate_is_rejected_before_the_hours(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"{'a plan of 24 hours':30} {'before':>10} {'now':>6}  hours until reject (median)"]
    for i, harm in enumerate(HARMS):
        before, now = (played(harm.world, rules, harm.margins, 60, 300 + i) for rules in (1, 2))
        lines.append(f"{harm.name:30} {before.reject_h:10.2f} {now.reject_h:6.2f}")
        assert now.rejected >= 0.9, harm.name
        assert now.reject_h <= harm.latest_h, harm.name
    with capsys.disabled():
        print("\n".join(["", *lines]))  # noqa: T201


@pytest.mark.parametrize(
    ("name", "mean", "at_once"),
    [("worse by two margins for a third, then better by one", -1.0, 0.2), (BURSTS.name, 0.0, 0.0)],
)
def test_a_reject_that_does_not_wait_is_wrong_too_often(name: str, mean: float, at_once: float) -> None:
    """0.025 is allowed a metric. at_once: exceeded by one that does not; 300 runs had 0.35 and 0.07."""
    world = next(each for each in WORLDS if each.name == name)
    before, now = (played(world, 2, mean, 60, 500, reject_waits=waits) for waits in (False, True))
    assert before.rejected > at_once
    assert now.rejected <= allowed(0.025 if world.rail is None else 0.05, 60)
    assert now.rejected <= before.rejected


def names_of(users: int) -> list[str]:
    """Names that do not share a bucket, as the arrays have none."""
    found: dict[int, str] = {}
    i = 0
    while len(found) < users:
        found.setdefault(crc32(f"\0u{i}".encode()) % BUCKETS, f"u{i}")
        i += 1
    return list(found.values())


@pytest.mark.parametrize("name", ["15 calls a user, ICC 0.3", "yes or no, 60 % ties, where 90 % are guessed"])
@pytest.mark.parametrize("rules", [1, 2])
def test_the_arrays_of_the_primary_are_the_sequences(name: str, rules: int) -> None:
    world = next(each for each in WORLDS if each.name == name)
    plan, n = replace(plan_of(world, rules), max_pairs=90), 400
    pairs = world.draw(np.random.default_rng(5), -0.5, (1, n), 600.0)
    names = names_of(int(pairs.user.max()) + 1)
    ours = ManySequences(rule_of(plan, QUALITY, MARGIN), 1, len(names))
    theirs = DifferenceSequence(rule_of(plan, QUALITY, MARGIN), bounded=True)
    for i in range(n):
        d, at = float(pairs.difference[0, i]), START + 600.0 * i
        ours.add(pairs.difference[:, i], pairs.user[:, i], at, 600.0 * i)
        if not theirs.closed:
            theirs.add(PairValue(0.5 - d / 2, 0.5 + d / 2, d), None, PairOrigin(at, "", names[pairs.user[0, i]]))
        assert theirs.closed == ours.closed[0]
        if i + 1 >= BURN_IN:
            assert theirs.interval() == pytest.approx((ours.low[0], ours.high[0]), rel=1e-6)
    alarm = theirs.independence.users is not None and theirs.independence.users.sums.alarm
    assert alarm == (rules == 2 and name.startswith("15 calls"))
    assert theirs.closed


@pytest.mark.parametrize(
    ("length", "margins", "n", "verdicts"), [(20, -1.0, 1500, {False}), (1, -25.0, 200, {False, True})]
)
def test_the_arrays_of_failures_are_the_sequences(length: int, margins: float, n: int, verdicts: set[bool]) -> None:
    plan = plan_of(BURSTS, 2)
    pairs = bursts(length)(np.random.default_rng(6), margins, (1, n), 36.0)
    rule = rule_of(plan, FAILED, RAIL)
    ours, theirs = ManySequences(rule, 1, n), DifferenceSequence(rule, bounded=True)
    found, rejected = set(), set()
    for i in range(n):
        d, at = float(pairs.failed[0, i]), START + 36.0 * i
        ours.add(pairs.failed[:, i], pairs.user[:, i], at, 36.0 * i)
        theirs.add(PairValue(max(d, 0.0), max(-d, 0.0), d), None, PairOrigin(at))
        made = failures_of(plan, theirs)
        assert (made.margin_found in ("non_inferior", "equivalent"), made.margin_found == "inferior") == (
            bool(ours.low[0] > -RAIL), bool(ours.high[0] < -RAIL),
        )  # fmt: skip
        assert rejects(made) == bool(ours.rejects(RAIL, made.hours_share)[0])
        rejected.add(rejects(made))
        found.add(theirs.independence.applied() != [])
    assert rejected == verdicts
    assert found == ({True, False} if length > 1 else {False})


def failures_of(plan: Plan, sequence: DifferenceSequence) -> Comparison:
    none, estimate, n = Estimate(None), sequence.estimate(), sequence.n
    return Comparison(
        FAILED.name, "", "guardrail", none, none, estimate, None, n, float(n), RAIL, "unclear",
        margin_finding(estimate, RAIL), hours_share=share_of_pairs(plan, sequence),
    )  # fmt: skip
