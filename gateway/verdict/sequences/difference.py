"""One metric of one arm over the course of an experiment: the difference, with an interval valid at every look.

A plan's method chooses it. hybrid: the primary has an asymptotic sequence that ends in a fixed-n interval at the
horizon; guardrails stay valid at any look. anytime: the same without an end. guaranteed: empirical Bernstein.
stationary: betting. Values without bounds (latency, cost, tokens) always have an asymptotic sequence. For scores it has
a floor: a run of equal scores has no variance, and its interval would be a point. A sequence can be saved and restored
at any pair.

The primary's differences may be adjusted for facts known about the request (statistics/past_adjustment.py). With the
first rules, a horizon that was computed from the margin then comes earlier by the saving: the sequence takes its last
look once its interval is as narrow as the unadjusted one would be at the horizon. With rules 2, such a horizon follows
the variance: the last look is the first with the standard error that decides the margin. Both times depend on variances
only.

With rules 2, metrics that decide also have the interval that holds if the values of a user, of a key or (failures) of a
quarter of an hour depend on each other (statistics/dependence.py). It applies, where it is the wider one, from the
first alarm that they do. With rules 3, a verdict about other users counts units from the first pair on, with Student's
quantile at as many degrees of freedom as their effective number less one: none below FEWEST_UNITS of them, and before
the last look none below EARLY_UNITS. The exact interval of failures counts events from the first pair on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Sequence as Numbers
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from gateway.core import plan as plans
from gateway.core.horizon import (
    AT_MOST,
    EARLY,
    FOLLOWED,
    MOST_INFLATED,
    guarded,
    likelihood_scale,
    planned_pairs,
    precision,
)
from gateway.core.horizon import BURN_IN as FEWEST
from gateway.core.plan import CANDIDATE, REPEAT, UNITS_FIRST_RULES, Plan
from gateway.reports.model import Comparison, Estimate
from gateway.statistics.asymptotic import SKEW_FROM, AsymptoticMean, SkewedMean, Tuning, half_width, log_e_value
from gateway.statistics.betting import BettingMean
from gateway.statistics.dependence import BLOCK_S
from gateway.statistics.domains import at_least, one_of
from gateway.statistics.empirical_bernstein import EmpiricalBernstein
from gateway.statistics.evalues import BettingTest, aa_increment
from gateway.statistics.hybrid import TIGHTEST, GuardedMean, HybridMean, guarded_half_width
from gateway.statistics.hybrid import half_width as hybrid_half_width
from gateway.statistics.moments import Moments
from gateway.statistics.past_adjustment import PastAdjustment
from gateway.statistics.rare import RareDifference
from gateway.statistics.special import student_ratio, two_sided_z
from gateway.statistics.stored_state import State
from gateway.verdict.metrics import ALONE, AT_WORST, EXCESS_RULES, NOWHERE, Metric, PairOrigin, PairValue, counts_alone
from gateway.verdict.sequences.independence import About, AppliedSums, ConversationMeans, IndependenceCheck
from gateway.verdict.sequences.traffic_time import DayEffects, TrafficTime

Sequence = EmpiricalBernstein | BettingMean | AsymptoticMean | HybridMean | GuardedMean | RareDifference
Method = Literal["bernstein", "betting", "asymptotic", "skewed", "hybrid", "guarded", "rare"]
METHOD_NAMES: dict[Method, str] = {
    "bernstein": "empirical-Bernstein confidence sequence",
    "betting": "betting confidence sequence, the mean assumed to be constant",
    "asymptotic": "asymptotic confidence sequence",
    "skewed": "asymptotic confidence sequence, without a bound on the side of a long tail that few values show",
    "hybrid": "asymptotic confidence sequence with a fixed-n interval at the horizon, for independent pairs",
    "guarded": "asymptotic confidence sequence with a floor for ties, for independent pairs",
    "rare": "exact confidence sequence for failures, the rates assumed to be constant",
}
METHODS: dict[plans.Method, Method] = {
    "hybrid": "hybrid",
    "anytime": "guarded",
    "guaranteed": "bernstein",
    "stationary": "betting",
}
"""The sequence that the primary has with each method of a plan."""
AA_ALPHA = 0.01  # the probability that the A/A alarm is false, over all looks
BURN_IN = 100.0  # pairs before an asymptotic interval: latency and cost have long tails
_GUESS = 0.1  # assumed variance of a difference of scores
_RARE = 0.03  # assumed variance of a difference of failures
OF_ALONE = 0.8  # share of a failure metric's error for metrics.ALONE, which decides where failures are rare
_FAILURES = ("failed", "completed", "lost", "judge", "missing")
ADJUSTABLE = ("score", "preference", "distance")  # sources of a primary whose differences may be adjusted
OF_CONVERSATIONS = ("score", "preference", "distance", *AT_WORST, "likelihood", "agreement")
"""Sources of which a mean over a conversation is a value like that of one pair."""
EARLY_UNITS = 10.0  # effective units from which an interval that has a last look applies before it
AT_WORST_POWER = 0.95  # of each look at worst (rules 3): `ship` needs two of them, and the primary's
_NOTABLE = 1.05  # times the variance of independent values, from which values count as fewer
_MOST_COMPARED = 20  # requests without a pair that one pair is centred on
COVARIATES = 4  # see metrics.known_before; 3 in sequences that began before there was a predictor


@dataclass(frozen=True, slots=True)
class SequenceRule:
    """The method and tuning of a sequence; fixed by the plan alone, never by the values."""

    method: Method
    alpha: float
    v_opt: float = 10.0  # the variance sum at which bernstein is tightest
    n_opt: float = 500.0  # the number of pairs at which asymptotic and guarded are tightest
    horizon: int = 0  # of hybrid
    largest: float = 1.0  # the largest difference, of hybrid; 0: without bounds
    compared: int = 0  # requests without a pair that adjust a difference, at most; 0 if it is not adjusted
    earlier: bool = False  # the horizon comes earlier by what the adjustment saves
    close_from: int = 0  # pairs from which hybrid may take its last look; 0 means that it does at the horizon
    close_at: float = 0.0  # the standard error that it then waits for; 0: none
    min_s: float = 0.0  # seconds of traffic that it waits for
    by_units: bool = False  # the values are summed by user and by key, too
    by_blocks: bool = False  # the same by blocks of time
    of_conversations: bool = False  # a conversation's value is the mean over its pairs, not the first of them
    about: About = ""  # the population, with rules 3; see IndependenceCheck
    block_s: float = BLOCK_S


_RULE_FIELDS = tuple(field.name for field in fields(SequenceRule))


@dataclass(frozen=True, slots=True)
class AlphaShare:
    """The error of one candidate's tests, in multiples of its even share of the plan's alpha."""

    ship: float = 1.0
    """Share of lower bounds."""
    reject: float = 1.0
    """Share of upper bounds."""


EVEN = AlphaShare()


def rule_of(plan: Plan, metric: Metric, margin: float | None, arm: str = CANDIDATE) -> SequenceRule:
    """The rule of a metric's sequence, fixed by the plan alone."""
    rule = _first_rule(plan, metric, margin, arm)
    if plan.rules < 2:
        return rule
    if plan.auto_horizon and rule.method == "hybrid" and margin:
        rule = _following(plan, rule, margin, arm)
        if plan.rules >= EXCESS_RULES and metric.source in AT_WORST and rule.close_at:
            rule = replace(rule, close_at=precision(margin, rule.alpha, AT_WORST_POWER))
    rule = replace(rule, of_conversations=arm != REPEAT and metric.source in OF_CONVERSATIONS)
    if arm == REPEAT or not (metric.name in plan.decides or metric.name == ALONE or metric.source in AT_WORST):
        return rule
    block_s = 60.0 * plan.blocks_min if plan.rules >= UNITS_FIRST_RULES else BLOCK_S
    by_blocks = block_s > BLOCK_S or plan.guarded or metric.source in ("failed", "completed")
    return replace(rule, by_units=True, by_blocks=by_blocks, about=_about(plan), block_s=block_s)


def _about(plan: Plan) -> About:
    """The population that a plan's verdict is about."""
    if plan.rules < UNITS_FIRST_RULES or (plan.independent and plan.population is None):
        return ""
    return plan.population or "traffic"


def segment_power(plan: Plan) -> float:
    """The probability with which each declared segment is to be decided, so that all of them are with 0.8."""
    return float(0.8 ** (1.0 / max(1, len(plan.segments.segments) if plan.segments else 1)))


def segment_pairs(plan: Plan, deviation: float, margin: float) -> int:
    """Pairs that decide one declared segment. deviation: of one difference. margin: of the segment."""
    alpha = plan.verdict_alpha / len(plan.candidates)
    return planned_pairs(deviation, margin, alpha, segment_power(plan))


def segment_rule(plan: Plan, primary: Metric, margin: float) -> SequenceRule:
    """The rule of the primary within a declared segment, with a horizon of its own that follows the variance.

    primary: the metric as the plan has it. margin: of the segment.
    """
    pairs = segment_pairs(plan, math.sqrt(_GUESS), margin)
    asks = replace(plan, max_pairs=pairs, auto_horizon=not primary.bounded)  # no horizon is guessed without bounds
    rule = replace(rule_of(asks, primary, margin), compared=0, earlier=False, by_units=True)
    rule = replace(rule, by_blocks=rule.block_s > BLOCK_S)
    if rule.method != "hybrid" or not primary.bounded:
        return rule
    close_at = precision(margin, rule.alpha, segment_power(plan))
    return replace(rule, close_from=min(FOLLOWED, rule.horizon), close_at=close_at, min_s=3600.0 * plan.min_hours)


def _following(plan: Plan, rule: SequenceRule, margin: float, arm: str) -> SequenceRule:
    """The rule with a horizon that follows the variance, and waits for the hours that `ship` waits for.

    The deviation of likelihoods is assumed in margins, so their horizon stays as planned. There are fewer repeats than
    pairs, and the standard error of their last look is larger accordingly.
    """
    min_s = 3600.0 * plan.min_hours if arm != REPEAT else 0.0
    if plan.likelihood:
        return replace(rule, close_from=rule.horizon, min_s=min_s)
    close_at = precision(margin, rule.alpha) * math.sqrt((plan.max_pairs or rule.horizon) / rule.horizon)
    return replace(rule, earlier=False, close_from=min(FOLLOWED, rule.horizon), close_at=close_at, min_s=min_s)


def _first_rule(plan: Plan, metric: Metric, margin: float | None, arm: str) -> SequenceRule:
    """The rule that is tightest near the number of pairs at which an effect of the margin's size is decided, at the
    expected variance.

    margin: None: the metric has none. The candidates share alpha evenly; the control's repeat has the A/A alarm's own.
    """
    if metric.source in AT_WORST:
        same = rule_of(plan, replace(metric, name=str(plan.primary), source="score"), margin, arm)
        return replace(same, compared=0, earlier=False)
    alarm = arm == REPEAT and plan.aa == "alarm"
    alpha = AA_ALPHA if alarm else plan.verdict_alpha / len(plan.candidates)
    if metric.source in ("failed", "completed") and counts_alone(plan):
        alpha *= OF_ALONE if metric.name == ALONE else 1 - OF_ALONE  # two sequences speak about failures
    guess = _RARE if metric.source in _FAILURES else _GUESS
    v_opt = min(max(9.0 * (guess / margin) ** 2 if margin else 10.0, 10.0), 1e4)
    horizon = _horizon(plan, metric, arm) if metric.name == plan.primary else 0
    if metric.source == "likelihood":
        return _likelihood_rule(plan, alpha, horizon if arm != REPEAT else 0)
    if not metric.bounded:
        chosen = horizon and not plan.auto_horizon  # the automatic one is guessed for scores
        if chosen:
            return SequenceRule("hybrid", alpha, horizon=horizon, largest=0.0)
        return SequenceRule("skewed" if plan.rules >= UNITS_FIRST_RULES else "asymptotic", alpha)
    if plan.method in ("guaranteed", "stationary"):
        return SequenceRule(METHODS[plan.method], alpha, v_opt)
    adjusted = metric.name == plan.primary and metric.source in ADJUSTABLE and arm != REPEAT
    compared = _compared(plan) if adjusted else 0
    if horizon:
        return SequenceRule("hybrid", alpha, 10.0, 500.0, horizon, 1.0, compared, plan.auto_horizon and compared > 0)
    if metric.source in _FAILURES and metric.name != plan.primary:
        return SequenceRule("rare", alpha)
    n_opt = min(max(9.0 * guess / margin**2, BURN_IN), 1e5) if margin else 500.0
    return SequenceRule("guarded", alpha, 10.0, n_opt, 0, 1.0, compared)


def _likelihood_rule(plan: Plan, alpha: float, horizon: int) -> SequenceRule:
    """Rule of differences in nats per token, at the scale that the margin sets. horizon: 0: none."""
    deviation, largest = likelihood_scale(plan.margin or 0.02)
    if horizon:
        return SequenceRule("hybrid", alpha, horizon=horizon, largest=largest)
    n_opt = min(max(9.0 * (deviation / (plan.margin or 0.02)) ** 2, BURN_IN), 1e5)
    return SequenceRule("guarded", alpha, n_opt=n_opt, largest=largest)


def _compared(plan: Plan) -> int:
    """Estimates how many requests have no pair, for each that has one."""
    if not plan.adjust or not 0 < plan.shadow < 1:
        return 0
    return min(max(1, round((1 - plan.shadow) / plan.shadow)), _MOST_COMPARED)


def _horizon(plan: Plan, metric: Metric, arm: str) -> int:
    """Values at which the last look is taken; 0: at none. For the repeat: the number that is reached with a probability
    of 0.9."""
    if plan.method != "hybrid" or plan.max_pairs is None:
        return 0
    if arm != REPEAT:
        return plan.max_pairs
    n, share = plan.max_pairs, plan.repeat_control
    few = math.floor(n * share - 1.3 * math.sqrt(n * share * (1 - share)))
    return few if few >= FEWEST else 0


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
        self.moments = Moments()  # of the differences, in the metric's unit, adjusted where they are
        self.unadjusted = Moments()  # the same as measured; empty unless differences are adjusted
        self.adjustment = PastAdjustment(COVARIATES, rule.compared) if rule.compared else None
        self.test = BettingTest(0.5, rule.alpha) if distance else None
        self.independence = IndependenceCheck.of(rule.by_units, rule.by_blocks, rule.about, rule.block_s)
        self.time, self.days = TrafficTime(), DayEffects()
        self.conversations = ConversationMeans()
        self.held = False  # its last look waits for that of another sequence, as long as it may

    @property
    def n(self) -> int:
        return self.difference.n

    @property
    def closed(self) -> bool:
        """Whether the last look is taken, so that no further pair counts."""
        return isinstance(self.difference, HybridMean) and self.difference.closed

    @property
    def last_look(self) -> bool:
        """Whether its interval is that of the last look."""
        return isinstance(self.difference, HybridMean) and self.difference.last_look

    @property
    def went_on(self) -> bool:
        """Whether it takes further pairs after its last look, with the early sequence alone."""
        return isinstance(self.difference, HybridMean) and self.difference.until > 0

    def go_on(self, more: int) -> None:
        """Takes this many further pairs after its last look. Raises ValueError if it has taken none."""
        if not isinstance(self.difference, HybridMean):
            raise ValueError("only a sequence with a last look goes on after it")
        self.difference.go_on(more)

    @property
    def present_rule(self) -> SequenceRule:
        """The rule that its next intervals follow: with the horizon as far as it is known, or, after the last look,
        the early sequence alone."""
        rule = replace(self.rule, horizon=self.horizon, largest=self.largest)
        if not self.went_on:
            return rule
        return replace(rule, method="guarded", alpha=rule.alpha * EARLY, n_opt=TIGHTEST * self.rule.horizon, horizon=0)

    @property
    def _checked(self) -> bool:
        """Whether its rule needs the time that its values cover, or their dependence."""
        return self.rule.by_units or self.rule.close_from > 0

    @property
    def variance(self) -> float:
        """Variance of one difference in a mean of n: larger where units are counted, or an alarm says that values
        depend on each other."""
        wider = (each.sums.m2(self.moments.mean) for each in self.independence.applied())
        m2 = max([self.moments.m2, *(m2 for m2 in wider if math.isfinite(m2))])
        return m2 / self.n if self.n else 0.0

    @property
    def inflation(self) -> float:
        """The factor of the variance of one difference by which values say less than independent ones, at least 1."""
        plain = self.moments.m2
        return self.variance * self.n / plain if plain else 1.0

    @property
    def effective_n(self) -> float:
        """The number of independent values that would say as much; n with rules 1 and 2, and where it is about n."""
        if not self.rule.about or (self.inflation < _NOTABLE and not self.has_few_units):
            return float(self.n)
        few = [each.sums.groups for each in self.independence.applied()] if self.has_few_units else []
        return min([self.n / self.inflation, *few])

    @property
    def has_few_units(self) -> bool:
        """Whether its values are of too few groups that count for an interval."""
        applied = [each for each in self.independence.applied() if each.always or self.rule.about]
        return any(not math.isfinite(each.sums.spread(self.moments.mean)) for each in applied)

    def can_look(self, last: bool) -> bool:
        """Whether its values are of enough units for an interval. last: at the last look, which takes fewer."""
        if self.rule.method != "hybrid" or last:
            return not self.has_few_units
        counted = (each.sums.groups for each in self.independence.applied() if each.always)
        return not self.has_few_units and all(units >= EARLY_UNITS for units in counted)

    @property
    def largest(self) -> float:
        """The largest deviation that one value can have: a conversation's mean has less than a call."""
        if not self.rule.of_conversations or not self.n:
            return self.rule.largest
        return self.rule.largest * self.conversations.scale(self.n, self.moments.variance())

    @property
    def standard_error(self) -> float:
        """Standard error of the mean, with the floor for unseen values; infinity before the first pair, and while
        dependent values are too few groups for a variance."""
        largest, mean = self.largest, self.moments.mean
        wider = ((each.sums.m2(mean), each.floor) for each in self.independence.applied())
        sums = [(self.moments.m2, 1.0), *wider]
        if not self.n or not all(math.isfinite(m2) for m2, _ in sums):
            return math.inf
        return max(math.sqrt(guarded(m2, floor * largest) if largest else m2) for m2, floor in sums) / self.n

    @property
    def _scaled(self) -> bool:
        """Whether its rule has a horizon, or another scale than that of scores."""
        return bool(self.rule.horizon) or self.rule.largest != 1.0

    @property
    def saved(self) -> float | None:
        """The share of the pairs that adjusting saves: of the variance. None if nothing is adjusted, or too few
        pairs.
        """
        if self.adjustment is None or self.n < FEWEST:
            return None
        floor = self.rule.largest or 1.0
        return max(0.0, 1.0 - guarded(self.moments.m2, floor) / guarded(self.unadjusted.m2, floor))

    @property
    def adjusted(self) -> int | None:
        """Pairs that could be adjusted, since there was a request without a pair for them. None if none ever is."""
        return None if self.adjustment is None else self.adjustment.n

    @property
    def horizon(self) -> int:
        """Pairs at which the sequence closes, as far as is known; 0 if it does not."""
        if self.closed:
            return self.n
        if isinstance(self.difference, HybridMean) and self.difference.until:
            return self.difference.until
        if self.rule.close_from and isinstance(self.difference, HybridMean):
            return max(self._following(), self.n + 1)
        return math.ceil(self.rule.horizon * (1.0 - (self.saved or 0.0 if self.rule.earlier else 0.0)))

    def _following(self) -> int:
        """Pairs at which a horizon that follows the variance is expected, as far as is known."""
        if self.n < FEWEST or not self.rule.close_at:
            return self.rule.horizon
        gap = self.rule.close_at / precision(1.0, self.rule.alpha)
        expected = planned_pairs(math.sqrt(self.variance), gap, self.rule.alpha, largest=self.largest)
        return min(max(expected, self.rule.close_from), math.ceil(self._most))

    @property
    def _most(self) -> float:
        """Pairs at which the last look is taken, however large the variance is. With rules 3, as many times more as
        dependent values say less than independent ones; by squared deviations alone, not by the mean."""
        longer = min(self.inflation, MOST_INFLATED) if self.rule.about else 1.0
        return AT_MOST * self.rule.horizon * longer

    def _end(self) -> None:
        """Takes the last look, if the standard error is small enough or the most pairs are taken; not by the mean."""
        timed = self.time.last is not None  # a pair from the stream has its time
        if not isinstance(self.difference, HybridMean) or self.went_on or self.n < self.rule.close_from:
            return
        if timed and self.time.covered_s < self.rule.min_s:
            return
        precise = not self.held and (not self.rule.close_at or self.standard_error <= self.rule.close_at)
        if precise or self.n >= self._most:
            self.difference.end()

    def add(self, taken: PairValue, known: Numbers[float] | None = None, origin: PairOrigin = NOWHERE) -> None:
        """Takes the next pair, in order. known: its covariates, shape (COVARIATES,); None if they are unknown."""
        difference = taken.difference
        if self.adjustment is not None:
            self.unadjusted = self.unadjusted.add(difference)
            size = self.adjustment.size
            difference = difference if known is None else self.adjustment.adjust(difference, known[:size])
        self.difference.add((difference + 1) / 2 if self.rule.method == "betting" else difference)
        self.a.add(taken.a)
        self.b.add(taken.b)
        self.independence.add(difference, origin, self.moments.mean)
        if self._checked and origin.at is not None:
            self.time.add(origin.at)
            self.days.add(difference, origin.at)
        self.moments = self.moments.add(difference)
        if self.rule.close_from:
            self._end()
        if self.rule.earlier and isinstance(self.difference, HybridMean) and self.n >= max(self.horizon, FEWEST):
            self.difference.end()
        if self.test is not None:
            self.test.add(aa_increment(taken.b, taken.a))

    def see(self, known: Numbers[float], rate: float, u: float) -> None:
        """Takes a request that was not drawn for a pair, in order. rate, u: as PastAdjustment.wait takes them."""
        if self.adjustment is not None and not self.closed:
            self.adjustment.wait(known[: self.adjustment.size], rate, u)

    def estimate(self, share: AlphaShare = EVEN, of_event: float = 1.0) -> Estimate:
        """Returns the difference with its interval, valid at any time. An infinite bound is None. of_event: as
        `interval` takes it."""
        if not self.n:
            return Estimate(None)
        low, high = self.interval(share.ship, of_event)[0], self.interval(share.reject, of_event)[1]
        return Estimate(self.moments.mean, *(v if math.isfinite(v) else None for v in (low, high)))

    def interval(self, share: float = 1.0, of_event: float = 1.0) -> tuple[float, float]:
        """(low, high). share: of the error, in multiples of the rule's. of_event: rare failures that count as one event
        at least, since more pairs than these have shown so."""
        sequence = self._with(share)
        low, high = sequence.interval()
        if self.rule.method == "betting":
            low, high = (2 * low - 1, 2 * high - 1) if low <= high else (-1.0, 1.0)  # no constant mean fits: no claim
        mean = self.moments.mean
        if self.n:
            low, high = min(low, mean), max(high, mean)  # betting leaves a mean out that has moved
        if not self.can_look(self.last_look):
            return -math.inf, math.inf
        applied, alpha = self.independence.applied(), share * self.rule.alpha
        if isinstance(sequence, RareDifference):
            events = sequence.interval(max(self.failures_of_event, of_event))
            low, high = self._stretched((low, high), [each for each in applied if each.always], alpha)
            low, high = min(low, events[0]), max(high, events[1])
            applied = [each for each in applied if not each.always]
        half = max((self._half_width_of(each, alpha) for each in applied), default=0.0)
        return min(low, mean - half), max(high, mean + half)

    @property
    def failures_of_event(self) -> float:
        """Failures that count as one event, at least 1: the factor by which their sums by block of time vary more than
        those of single failures do. 1 with rules 1 and 2, whose blocks count from an alarm on.

        One burst may be all that a day has, and raises no alarm: a bound on the rate of single failures is then that of
        a candidate with three bursts a day in one of fifteen days (bench/worlds, failures in bursts).
        """
        blocks = self.independence.blocks
        if not self.rule.about or blocks is None or not self.moments.m2:
            return 1.0
        spread = blocks.sums.spread(self.moments.mean)
        return max(1.0, spread / self.moments.m2) if math.isfinite(spread) else 1.0

    def events_by(self, alone: DifferenceSequence | None) -> float:
        """Failures of one event among those of its pairs, as all pairs show it of the candidate's. alone: the sequence
        of these, of which its pairs are a part."""
        rare = self.difference
        if alone is None or not alone.n or not isinstance(rare, RareDifference) or not rare.more + rare.fewer:
            return 1.0
        of_candidate = 1.0 + (alone.failures_of_event - 1.0) * min(1.0, self.n / alone.n)
        return (rare.more + rare.fewer * of_candidate) / (rare.more + rare.fewer)

    def _stretched(
        self, interval: tuple[float, float], applied: list[AppliedSums], alpha: float
    ) -> tuple[float, float]:
        """An exact interval as wide as groups that always count make it."""
        (low, high), mean = interval, self.moments.mean
        factor = max((self._rare_factor(each, alpha) for each in applied), default=1.0)
        return (low, high) if factor <= 1.0 else (mean - factor * (mean - low), mean + factor * (high - mean))

    def _half_width_of(self, applied: AppliedSums, alpha: float) -> float:
        """Half of the width by groups. Units that always count have Student's quantile with the tail of the look."""
        mean, units = self.moments.mean, applied.sums.groups
        if not applied.always:
            return self._half_width(applied.sums.m2(mean), applied.floor, alpha)
        m2, largest = applied.sums.spread(mean), self.largest
        half = self._half_width(m2, 1.0, alpha)
        if not math.isfinite(half) or not half:
            return half
        z = half * self.n / math.sqrt(guarded(m2, largest) if largest else m2)
        return half * student_ratio(z, units - 1)

    def _rare_factor(self, applied: AppliedSums, alpha: float) -> float:
        """The factor by which units widen an exact interval: that of the standard error, with Student's quantile."""
        m2, units = applied.sums.spread(self.moments.mean), applied.sums.groups
        effect = max(1.0, m2 / self.moments.m2) if self.moments.m2 else 1.0
        return math.sqrt(effect) * student_ratio(two_sided_z(alpha), units - 1)

    def _half_width(self, m2: float, floor: float, alpha: float) -> float:
        """Half of the width that the interval has with this sum of squares. floor: as IndependenceCheck has it."""
        if not math.isfinite(m2):
            return math.inf
        rule, largest = self.rule, floor * self.largest
        if rule.method == "hybrid":
            return hybrid_half_width(alpha, rule.horizon, self.n, m2, largest, self.last_look)
        if rule.method in ("asymptotic", "skewed"):
            return half_width(math.sqrt(m2 / self.n), self.n, Tuning(alpha, rule.n_opt, BURN_IN))
        return guarded_half_width(alpha, rule.n_opt, self.n, m2, largest)

    def _with(self, share: float) -> Sequence:
        """The sequence as it would be with another error."""
        largest = self.largest
        if share == 1.0 and largest == self.rule.largest:
            return self.difference
        changes = {"alpha": share * self.rule.alpha}
        if isinstance(self.difference, HybridMean | GuardedMean):
            changes["largest"] = largest
        return type(self.difference).from_state({**self.difference.state(), **changes})

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
        if not self.independence.applied():
            return self._log_evalue()
        if self.has_few_units:
            return min(self._log_evalue(), 0.0)
        tuning = Tuning(self.rule.alpha, self.rule.n_opt, BURN_IN)
        return min(self._log_evalue(), log_e_value(self.moments.mean, math.sqrt(self.variance), self.n, tuning))

    def _log_evalue(self) -> float:
        """Log e-value if the pairs are independent."""
        if isinstance(self.difference, EmpiricalBernstein):
            return self.difference.log_e_value(0.0)
        if isinstance(self.difference, AsymptoticMean | HybridMean | GuardedMean):
            return self.difference.log_e_value()
        if isinstance(self.difference, RareDifference):
            return _log_mean(self.difference.log_evidence_above(0.0), self.difference.log_evidence_below(0.0))
        half = self.difference.cells // 2
        state = self.difference.state()
        return _log_mean(state["log_up"][half], state["log_down"][half])

    def state(self) -> State:
        """A JSON-able dict from which from_state continues bit-identically."""
        u = self.unadjusted
        adjusted = {"unadjusted": [u.n, u.mean, u.m2], "adjustment": self.adjustment.state()} if self.adjustment else {}
        checks: State = {}
        if self._checked:
            time = [self.time.covered_s, self.time.last]
            checks = {"independence": self.independence.state(), "time": time, "days": self.days.state()}
        if self.rule.of_conversations:
            checks["conversations"] = self.conversations.state()
        return {
            "rule": [getattr(self.rule, name) for name in _RULE_FIELDS[: self._rule_fields()]],
            **adjusted,
            **checks,
            "bounded": self.bounded,
            "preference": self.preference,
            "difference": self.difference.state(),
            "a": self.a.state(),
            "b": self.b.state(),
            "spread": [self.moments.n, self.moments.mean, self.moments.m2],
            "test": self.test.state() if self.test is not None else None,
        }

    def _rule_fields(self) -> int:
        """Fields of the rule that are stored: those that existed in the version that began the sequence."""
        if self._checked or self.rule.of_conversations:
            if self.rule.block_s != BLOCK_S:
                return 16
            return 15 if self.rule.about else 14
        return 8 if self.rule.compared else 6 if self._scaled else 4

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> DifferenceSequence:
        """Raises ValueError or KeyError if a field is missing, unknown or outside its domain."""
        sequence = cls(SequenceRule(*state["rule"]), state["bounded"], preference=state["preference"])
        sequence.difference = type(sequence.difference).from_state(state["difference"])
        sequence.a, sequence.b = (type(sequence.a).from_state(state[name]) for name in ("a", "b"))
        sequence.moments = Moments(*state["spread"])
        if sequence.adjustment is not None:
            sequence.unadjusted = Moments(*state["unadjusted"])
            sequence.adjustment = PastAdjustment.from_state(state["adjustment"])
        sequence.test = BettingTest.from_state(state["test"]) if state["test"] is not None else None
        if "conversations" in state:
            sequence.conversations = ConversationMeans.from_state(state["conversations"])
        if sequence._checked:
            sequence.independence = IndependenceCheck.from_state(state["independence"])
            sequence.time, sequence.days = TrafficTime(*state["time"]), DayEffects.from_state(state["days"])
        return sequence


def failures_of_all(c: Comparison, rate: Estimate, bound: Estimate) -> tuple[Estimate, Estimate]:
    """(the candidate's mean over all pairs, the difference from the control's mean over its repeats).

    c: a comparison of failures with the control's repeats. rate: the candidate's failures over all pairs. bound: the
    difference from a control that never fails.
    """
    of_all = turned(rate) if c.metric == "completion" else rate
    low = max((v for v in (c.difference.low, bound.low) if v is not None), default=None)
    if c.difference.value is None or c.a.value is None or of_all.value is None:
        return of_all, Estimate(bound.value, low)
    sign = 1.0 if c.metric == "completion" else -1.0
    return of_all, Estimate(sign * (of_all.value - c.a.value), low, c.difference.high)


def turned(e: Estimate) -> Estimate:
    """One less a share, with its interval."""
    value, low, high = (None if v is None else 1.0 - v for v in (e.value, e.low, e.high))
    return Estimate(value, high, low)


def trail_point(n: int) -> bool:
    """Whether the interval after n pairs is stored: after each of the first ten, then about 24 times per decade."""
    at_least("n", n, 1)
    return n <= 10 or math.floor(24 * math.log10(n)) != math.floor(24 * math.log10(n - 1))


def _log_mean(a: float, b: float) -> float:
    """ln of the mean of e^a and e^b."""
    return float(max(a, b) + math.log1p(math.exp(-abs(a - b))) - math.log(2.0))


def _empty_sequence(rule: SequenceRule) -> Sequence:
    one_of("method", rule.method, METHOD_NAMES)
    if rule.method == "betting":
        return BettingMean(rule.alpha)
    if rule.method == "asymptotic":
        return AsymptoticMean(rule.alpha, rule.n_opt, BURN_IN)
    if rule.method == "skewed":
        return SkewedMean(rule.alpha, rule.n_opt, SKEW_FROM)
    if rule.method == "hybrid":
        return HybridMean(rule.alpha, rule.horizon, rule.largest, follows=rule.close_from > 0)
    if rule.method == "guarded":
        return GuardedMean(rule.alpha, rule.n_opt, rule.largest)
    if rule.method == "rare":
        return RareDifference(rule.alpha)
    return EmpiricalBernstein(rule.alpha, -1.0, 1.0, rule.v_opt)


def _empty_mean(rule: SequenceRule, bounded: bool) -> EmpiricalBernstein | AsymptoticMean:
    if bounded:
        return EmpiricalBernstein(rule.alpha)
    if rule.method == "skewed":
        return SkewedMean(rule.alpha, rule.n_opt, SKEW_FROM)
    return AsymptoticMean(rule.alpha, rule.n_opt, BURN_IN)
