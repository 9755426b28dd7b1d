"""One metric of one arm over the course of an experiment: the difference, with an interval valid at every look.

On live traffic this is an empirical-Bernstein confidence sequence for differences in [−1, 1]; betting where the plan
says that the mean does not move; an asymptotic sequence for unbounded values (latency, cost, tokens). Scores never
use the asymptotic one: a run of equal scores has no variance, and its interval would be a point. A sequence can be
saved and restored at any pair.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gateway.evals.experiments.metrics import Metric, PairValue
from gateway.evals.experiments.report import Estimate
from gateway.evals.statistics.asymptotic import AsymptoticMean
from gateway.evals.statistics.betting import BettingMean
from gateway.evals.statistics.domains import at_least, one_of
from gateway.evals.statistics.empirical_bernstein import EmpiricalBernstein
from gateway.evals.statistics.evalues import BettingTest, aa_increment
from gateway.evals.statistics.moments import Moments
from gateway.evals.statistics.state import State

Method = Literal["bernstein", "betting", "asymptotic"]
METHOD_NAMES = {
    "bernstein": "empirical-Bernstein confidence sequence",
    "betting": "betting confidence sequence, the mean taken as constant",
    "asymptotic": "asymptotic confidence sequence",
}
BURN_IN = 100.0  # pairs before an asymptotic interval: latency and cost have long tails
_GUESS = 0.1  # assumed variance of a difference of scores
_RARE = 0.03  # assumed variance of a difference of failures
_FAILURES = ("failed", "completed", "lost", "judge")


@dataclass(frozen=True, slots=True)
class SequenceRule:
    """The method and tuning of a sequence; fixed by the plan alone, never by the values."""

    method: Method
    alpha: float
    v_opt: float = 10.0  # the variance sum at which bernstein is tightest
    n_opt: float = 500.0  # the number of pairs at which asymptotic is tightest


def rule_of(metric: Metric, alpha: float, margin: float | None, stationary: bool) -> SequenceRule:
    """The rule that is tightest about where an effect of the margin's size is decided, at the expected variance.

    margin: None: the metric has none. stationary: the plan says that the mean does not move.
    """
    if not metric.bounded:
        return SequenceRule("asymptotic", alpha)
    guess = _RARE if metric.source in _FAILURES else _GUESS
    v_opt = 9.0 * (guess / margin) ** 2 if margin else 10.0
    return SequenceRule("betting" if stationary else "bernstein", alpha, min(max(v_opt, 10.0), 1e4))


class DifferenceSequence:
    """The sequence of one metric: its difference, which the verdict is based on, and both arms' means.

    bounded: values and differences are in [0, 1] and [−1, 1]. distance: the values are distances, so the sequence also
    tests "is the candidate like the control?". preference: the values are a pairwise judge's.
    """

    def __init__(self, rule: SequenceRule, bounded: bool, distance: bool = False, preference: bool = False) -> None:
        self.rule = rule
        self.preference = preference
        self.difference = _empty_sequence(rule)
        self.bounded = bounded
        self.a, self.b = _empty_mean(rule, bounded), _empty_mean(rule, bounded)
        self.moments = Moments()  # of the differences, in the metric's unit
        self.test = BettingTest(0.5, rule.alpha) if distance else None

    @property
    def n(self) -> int:
        return self.difference.n

    def add(self, taken: PairValue) -> None:
        """Takes the next pair, in order."""
        self.difference.add((taken.difference + 1) / 2 if self.rule.method == "betting" else taken.difference)
        self.a.add(taken.a)
        self.b.add(taken.b)
        self.moments = self.moments.add(taken.difference)
        if self.test is not None:
            self.test.add(aa_increment(taken.b, taken.a))

    def estimate(self) -> Estimate:
        """The difference with its interval, valid at any time. An infinite bound is None."""
        if not self.n:
            return Estimate(None)
        low, high = self.interval()
        return Estimate(self.moments.mean, *(v if math.isfinite(v) else None for v in (low, high)))

    def interval(self) -> tuple[float, float]:
        low, high = self.difference.interval()
        if self.rule.method != "betting":
            return low, high
        return (2 * low - 1, 2 * high - 1) if low <= high else (-1.0, 1.0)  # no constant mean fits: no claim

    def arm(self, which: Literal["a", "b"]) -> Estimate:
        """The mean of one arm with its interval."""
        sequence = self.a if which == "a" else self.b
        if not sequence.n:
            return Estimate(None)
        low, high = sequence.interval()
        return Estimate(sequence.mean, *(v if math.isfinite(v) else None for v in (low, high)))

    def log_evalue(self) -> float:
        """ln of the current e-value against "no difference"; 0.0 before the first pair."""
        if not self.n:
            return 0.0
        if isinstance(self.difference, EmpiricalBernstein):
            return self.difference.log_e_value(0.0)
        if isinstance(self.difference, AsymptoticMean):
            return self.difference.log_e_value()
        half = self.difference.cells // 2
        state = self.difference.state()
        up, down = state["log_up"][half], state["log_down"][half]
        return float(max(up, down) + math.log1p(math.exp(-abs(up - down))) - math.log(2.0))

    def state(self) -> State:
        """A JSON-able dict from which from_state continues bit-identically."""
        return {
            "rule": [self.rule.method, self.rule.alpha, self.rule.v_opt, self.rule.n_opt],
            "bounded": self.bounded,
            "preference": self.preference,
            "difference": self.difference.state(),
            "a": self.a.state(),
            "b": self.b.state(),
            "spread": [self.moments.n, self.moments.mean, self.moments.m2],
            "test": self.test.state() if self.test is not None else None,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> DifferenceSequence:
        """Raises ValueError or KeyError if a field is missing, unknown or outside its domain."""
        sequence = cls(SequenceRule(*state["rule"]), state["bounded"], preference=state["preference"])
        sequence.difference = type(sequence.difference).from_state(state["difference"])
        sequence.a, sequence.b = (type(sequence.a).from_state(state[name]) for name in ("a", "b"))
        sequence.moments = Moments(*state["spread"])
        sequence.test = BettingTest.from_state(state["test"]) if state["test"] is not None else None
        return sequence


def trail_point(n: int) -> bool:
    """Whether the interval after n pairs is stored: after each of the first ten, then about 24 times per decade."""
    at_least("n", n, 1)
    return n <= 10 or math.floor(24 * math.log10(n)) != math.floor(24 * math.log10(n - 1))


def _empty_sequence(rule: SequenceRule) -> EmpiricalBernstein | BettingMean | AsymptoticMean:
    one_of("method", rule.method, METHOD_NAMES)
    if rule.method == "betting":
        return BettingMean(rule.alpha)
    if rule.method == "asymptotic":
        return AsymptoticMean(rule.alpha, rule.n_opt, BURN_IN)
    return EmpiricalBernstein(rule.alpha, -1.0, 1.0, rule.v_opt)


def _empty_mean(rule: SequenceRule, bounded: bool) -> EmpiricalBernstein | AsymptoticMean:
    return EmpiricalBernstein(rule.alpha) if bounded else AsymptoticMean(rule.alpha, rule.n_opt, BURN_IN)
