"""One metric of one arm as pairs come: the difference with an interval that is valid at every look. Restartable.

On live traffic an empirical-Bernstein confidence sequence, for differences in [−1, 1]; betting where a plan says that
the mean does not move; an asymptotic one for what has no bounds (latency, cost, tokens), never for scores: a run of
equal ones has no variance, and its interval would be a point.
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
BURN_IN = 100.0  # pairs before an asymptotic interval is given: latency and cost have long tails
_GUESS = 0.1  # variance of a difference of scores, when nothing is known
_RARE = 0.03  # the same of failures
_FAILURES = ("failed", "completed", "lost", "judge")


@dataclass(frozen=True, slots=True)
class SequenceRule:
    """How a sequence is laid; from the plan alone, never from the values. v_opt, n_opt: where it is tightest."""

    method: Method
    alpha: float
    v_opt: float = 10.0
    n_opt: float = 500.0


def rule_of(metric: Metric, alpha: float, margin: float | None, stationary: bool) -> SequenceRule:
    """Tightest where an effect of the size of the margin is about decided, for the variance that is to be expected."""
    if not metric.bounded:
        return SequenceRule("asymptotic", alpha)
    guess = _RARE if metric.source in _FAILURES else _GUESS
    v_opt = 9.0 * (guess / margin) ** 2 if margin else 10.0
    return SequenceRule("betting" if stationary else "bernstein", alpha, min(max(v_opt, 10.0), 1e4))


class DifferenceSequence:
    """a, b: of the arms; difference: what is decided on. test: of distances: "is the candidate like the control?".
    preference: the values are a pairwise judge's."""

    def __init__(self, rule: SequenceRule, bounded: bool, distance: bool = False, preference: bool = False) -> None:
        self.rule = rule
        self.preference = preference
        self.difference = _begun(rule)
        self.bounded = bounded
        self.a, self.b = _arm(rule, bounded), _arm(rule, bounded)
        self.moments = Moments()  # of the differences
        self.test = BettingTest(0.5, rule.alpha) if distance else None

    @property
    def n(self) -> int:
        return self.difference.n

    def add(self, taken: PairValue) -> None:
        """Takes the next pair (of a cluster the one that counts), in order."""
        self.difference.add((taken.difference + 1) / 2 if self.rule.method == "betting" else taken.difference)
        self.a.add(taken.a)
        self.b.add(taken.b)
        self.moments = self.moments.add(taken.difference)
        if self.test is not None:
            self.test.add(aa_increment(taken.b, taken.a))

    def estimate(self) -> Estimate:
        """The difference with its interval, valid at any time. A bound that says nothing is None."""
        if not self.n:
            return Estimate(None)
        low, high = self.interval()
        return Estimate(self.moments.mean, *(v if math.isfinite(v) else None for v in (low, high)))

    def interval(self) -> tuple[float, float]:
        low, high = self.difference.interval()
        if self.rule.method != "betting":
            return low, high
        return (2 * low - 1, 2 * high - 1) if low <= high else (-1.0, 1.0)  # no constant mean fits: nothing is claimed

    def arm(self, which: Literal["a", "b"]) -> Estimate:
        """The mean in one arm, with an interval of the same kind."""
        sequence = self.a if which == "a" else self.b
        if not sequence.n:
            return Estimate(None)
        low, high = sequence.interval()
        return Estimate(sequence.mean, *(v if math.isfinite(v) else None for v in (low, high)))

    def log_evalue(self) -> float:
        """ln of the current evidence against "no difference"; 0.0 while there is none."""
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
        """A JSON-able dict from which from_state continues with the same bits."""
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
        """Raises ValueError or KeyError if the state is of another kind."""
        made = cls(SequenceRule(*state["rule"]), state["bounded"], preference=state["preference"])
        made.difference = type(made.difference).from_state(state["difference"])
        made.a, made.b = (type(made.a).from_state(state[name]) for name in ("a", "b"))
        made.moments = Moments(*state["spread"])
        made.test = BettingTest.from_state(state["test"]) if state["test"] is not None else None
        return made


def trail_point(n: int) -> bool:
    """Whether the interval after n pairs is kept: the first ten, then about 24 in each tenfold."""
    at_least("n", n, 1)
    return n <= 10 or math.floor(24 * math.log10(n)) != math.floor(24 * math.log10(n - 1))


def _begun(rule: SequenceRule) -> EmpiricalBernstein | BettingMean | AsymptoticMean:
    one_of("method", rule.method, METHOD_NAMES)
    if rule.method == "betting":
        return BettingMean(rule.alpha)
    if rule.method == "asymptotic":
        return AsymptoticMean(rule.alpha, rule.n_opt, BURN_IN)
    return EmpiricalBernstein(rule.alpha, -1.0, 1.0, rule.v_opt)


def _arm(rule: SequenceRule, bounded: bool) -> EmpiricalBernstein | AsymptoticMean:
    return EmpiricalBernstein(rule.alpha) if bounded else AsymptoticMean(rule.alpha, rule.n_opt, BURN_IN)
