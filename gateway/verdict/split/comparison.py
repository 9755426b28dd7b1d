"""The comparison of one metric between the answers of both arms of a split: weighted means, adjusted for what is known
from before the plan as covariates.py says.

Records may be sampled by outcome (errors more often than other answers), so every mean here is a Hájek mean with
realised rates, and its interval is an asymptotic confidence sequence on the linearised terms, summed by unit. For
scores in [0, 1] the variance has an addition for the uncertainty of a run of equal values (see
statistics/sampled_mean.py).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from gateway.core.plan import CONTROL, Plan
from gateway.core.request_refusals import REFUSED
from gateway.core.served_answer import Cell, ServedAnswer
from gateway.reports.model import ArmResponse, Comparison, Estimate, Responses, Role
from gateway.statistics.asymptotic import Tuning, half_width, log_e_value
from gateway.statistics.domains import Floats
from gateway.verdict.decision import with_findings
from gateway.verdict.gates.client_left import LEFT
from gateway.verdict.sequences.difference import BURN_IN, SequenceRule
from gateway.verdict.sequences.latency import P95, ArmSeconds, p95_of, slow_share, slow_share_comparison
from gateway.verdict.sequences.progress import empty_comparison, margin_of
from gateway.verdict.split.answers import FeedbackValues, SplitRows
from gateway.verdict.split.callers import decisive_caller, thinned_values, without
from gateway.verdict.split.covariates import GATE_ALPHA, Adjustment, ArmTerms, History, adjustment
from gateway.verdict.split.outcomes import ArmOutcomes, column, has_failed

FAILURES = ("error_rate", "completion", REFUSED, LEFT)  # metrics in which no caller has more than its share
METHOD = "asymptotic confidence sequence on weighted means by unit"


@dataclass(frozen=True, slots=True)
class SplitTerms:
    """The terms that all comparisons of one split share."""

    plan: Plan
    population: Mapping[Cell, int] = field(default_factory=dict)  # N_h by cell, from the Tallies
    known: History = field(default_factory=dict)  # of units, before the plan

    @property
    def alpha(self) -> float:
        """The error of one candidate."""
        return self.plan.alpha / len(self.plan.candidates)


@dataclass(frozen=True, slots=True)
class ArmMean:
    """A weighted mean over the units of one arm."""

    mean: float
    variance: float  # of one of its effective_n units
    effective_n: float
    units: int


def compare_arms(rows: Sequence[ServedAnswer], of: ArmOutcomes, terms: SplitTerms) -> Comparison | None:
    """The comparison of one metric between the arms; None if it applies to no record of one of them.

    rows: n records, in order of arrival. of: the metric's values on them.
    """
    plan, rows = terms.plan, rows if isinstance(rows, SplitRows) else SplitRows(rows)
    arms = rows.compared(of.values, weights_of(rows, of, terms.population))
    if arms is None:
        return None
    a, b = (_Side(each) for each in arms)
    tuning = Tuning(terms.alpha, burn_in=BURN_IN)
    first, second = a.mean(of.bounded, tuning), b.mean(of.bounded, tuning)
    difference, n, variance = difference_of(first, second, of.sign, tuning)
    made = replace(
        _without_values(of.metric, plan),
        a=Estimate(first.mean),
        b=Estimate(second.mean),
        difference=difference,
        pairs=first.units + second.units,
        effective_n=n,
    )
    x = rows.covariates(of.metric, terms.known, plan)
    taken = adjustment(a.terms, b.terms, *x) if x else None
    if taken is not None:
        made, variance = _adjusted(made, (a, b), of, taken, terms)
    value, enough = made.difference.value or 0.0, n >= 2 * tuning.burn_in
    evidence = log_e_value(value, math.sqrt(variance), n, tuning) if enough else 0.0
    return with_findings(replace(made, log_evalue=evidence), SequenceRule("asymptotic", terms.alpha), variance)


@dataclass(frozen=True, slots=True)
class _Side:
    """One arm's part of a comparison."""

    terms: ArmTerms

    def mean(self, bounded: bool, tuning: Tuning, taken: Floats | float = 0.0) -> ArmMean:
        """taken: what covariates take out of each unit's term, shape (units,)."""
        n = self.terms.effective_n
        variance = n * float(((self.terms.terms - taken) ** 2).sum())
        if bounded and n >= tuning.burn_in:
            variance += (half_width(1.0, n, tuning) / 2.0) ** 2
        return ArmMean(self.terms.mean, variance, n, self.terms.units)


def _adjusted(
    raw: Comparison, sides: tuple[_Side, _Side], of: ArmOutcomes, taken: Adjustment, terms: SplitTerms
) -> tuple[Comparison, float]:
    """The comparison adjusted for earlier facts, next to the measured one; and the variance of one observation."""
    a, b = sides
    tuning = Tuning(terms.alpha, burn_in=BURN_IN)
    first, second = a.mean(of.bounded, tuning, taken.a), b.mean(of.bounded, tuning, taken.b)
    second = replace(second, mean=second.mean - taken.shift)
    difference, _, variance = difference_of(first, second, of.sign, tuning)
    alarm = Tuning(GATE_ALPHA / max(1, len(terms.plan.decides)), burn_in=BURN_IN)
    shifts = [
        ArmMean(value, side.terms.effective_n * float((out**2).sum()), side.terms.effective_n, side.terms.units)
        for value, side, out in ((0.0, a, taken.a), (taken.shift, b, taken.b))
    ]
    shift = difference_of(shifts[0], shifts[1], of.sign, alarm)[0]
    plain = sum(float((side.terms.terms**2).sum()) for side in sides)
    left = sum(float(((side.terms.terms - out) ** 2).sum()) for side, out in ((a, taken.a), (b, taken.b)))
    made = replace(
        raw,
        difference=difference,
        raw=raw.difference,
        shift=shift,
        unadjusted=raw.difference.value,
        saved=1.0 - left / plain if plain else None,
    )
    return made, variance


def compare_by_caller(rows: Sequence[ServedAnswer], of: ArmOutcomes, terms: SplitTerms) -> Comparison | None:
    """The comparison with callers thinned; a finding counts only if it also holds without any one caller
    (verdict/split/callers.py)."""
    fair = replace(of, values=thinned_values(rows, of.values))
    found = compare_arms(rows, fair, terms)
    if found is None or found.margin_found == "unclear":
        return found
    side = of.sign if found.margin_found != "inferior" else -of.sign
    caller = decisive_caller(rows, fair.values, side)
    if caller is None:
        return found
    less = compare_arms(rows, replace(fair, values=without(rows, fair.values, caller)), terms)
    same = less is not None and (less.margin_found == "inferior") == (found.margin_found == "inferior")
    if same and less is not None and less.margin_found != "unclear":
        return found
    return replace(found, margin_found="unclear", method=f"{METHOD}; not shown without the calls of {caller}")


def compare_feedback(
    rows: Sequence[ServedAnswer], name: str, of: FeedbackValues, terms: SplitTerms
) -> Comparison | None:
    """The comparison of one kind of feedback between the arms, with the share of answers that has any.

    None if no window has closed in one of the arms. of: the feedback on these n records.
    """
    terms = replace(terms, known={})  # feedback is not adjusted
    closed = of.closed.tolist()
    given = ArmOutcomes(f"{name} given", np.where(of.closed, of.answered, np.nan), 1.0, True, closed)
    shares = compare_arms(rows, given, terms)
    if shares is None:
        return None
    made = compare_arms(rows, ArmOutcomes(name, of.values, 1.0, of.bounded, closed), terms)
    a, b = _response(rows, of, "a", shares), _response(rows, of, "b", shares)
    responses = Responses(a, b, int((~of.closed).sum()), shares.difference, terms.plan.feedback_missing)
    made = made or _without_values(name, terms.plan)
    method = f"{made.method}; {of.fenced} extreme values count as less extreme" if of.fenced else made.method
    return replace(made, responses=responses, method=method)


def _response(
    rows: Sequence[ServedAnswer], of: FeedbackValues, side: Literal["a", "b"], shares: Comparison
) -> ArmResponse:
    mine = np.array([(row.arm == CONTROL) == (side == "a") for row in rows])
    share = (shares.a if side == "a" else shares.b).value or 0.0
    return ArmResponse(int((of.closed & mine).sum()), int((of.answered & mine).sum()), share)


def _without_values(name: str, plan: Plan) -> Comparison:
    """A comparison without values. Refusals, which have the margin of failures, are a guardrail where these are one."""
    empty = empty_comparison(plan, name)
    role: Role = "guardrail" if empty.role == "other" and empty.margin is not None else empty.role
    return replace(empty, role=role, method=METHOD, counts=counted_as(plan))


def counted_as(plan: Plan) -> str:
    """The word for what the primary counts: pairs, or the units of a split."""
    if plan.mode != "split":
        return "pair"
    return {"request": "answer", "run": "run"}.get(plan.unit, "unit")


def weights_of(rows: Sequence[ServedAnswer], of: ArmOutcomes, population: Mapping[Cell, int]) -> Floats:
    """Shape (n,): N_h / n_h where a Tally has N_h, else 1 / pi. n_h: scored and not applicable. Of runs: 1 / pi, since
    Tallies count calls."""
    if of.of_runs:
        return np.array([1 / row.pi for row in rows])
    n: Counter[Cell] = Counter()
    for i, row in enumerate(rows):
        n[row.cell] += of.responded is None or of.responded[i]

    def weight(row: ServedAnswer) -> float:
        known = population.get(row.cell)
        return 1 / row.pi if known is None or not n[row.cell] else max(known, n[row.cell]) / n[row.cell]

    return np.array([weight(row) for row in rows])


def difference_of(a: ArmMean, b: ArmMean, sign: float, tuning: Tuning) -> tuple[Estimate, float, float]:
    """(sign (b − a) with its interval, effective n of both arms, variance of one observation)."""
    n = a.effective_n + b.effective_n
    error = math.sqrt(a.variance / a.effective_n + b.variance / b.effective_n)
    deviation = error * math.sqrt(n)
    value = sign * (b.mean - a.mean)
    enough = min(a.effective_n, b.effective_n) >= tuning.burn_in
    half = half_width(deviation, n, tuning) if enough else math.inf
    ends = (value - half, value + half) if math.isfinite(half) else (None, None)
    return Estimate(value, *ends), n, deviation**2


def compare_p95(rows: Sequence[ServedAnswer], candidate: str, terms: SplitTerms) -> Comparison | None:
    """The comparison of p95; None if an arm has no answer that counts.

    Plans of the first rules have it from order statistics, and only where those are valid: they have neither weights
    nor units.
    """
    margin = margin_of(terms.plan, P95)
    if terms.plan.rules < 2:
        return _p95_by_rank(rows, candidate, terms.alpha, margin)
    seconds = ArmOutcomes(P95, column(rows, "total_s", timeouts=True), -1.0, False)
    weights = weights_of(rows, seconds, terms.population)

    def side(arm: str) -> ArmSeconds:
        at = [i for i, row in enumerate(rows) if row.arm == arm and not math.isnan(seconds.values[i])]
        return ArmSeconds(seconds.values[at], [rows[i].unit for i in at], weights[at])

    a, b = side(CONTROL), side(candidate)
    if not a.seconds.size or not b.seconds.size:
        return None
    return slow_share_comparison(slow_share(a, b, terms.alpha), margin)


def _p95_by_rank(rows: Sequence[ServedAnswer], candidate: str, alpha: float, margin: float | None) -> Comparison | None:
    if len({row.pi for row in rows}) > 1 or len({row.unit for row in rows}) < len(rows):
        return None
    by_arm = {
        arm: [row.total_s for row in rows if row.arm == arm and (not has_failed(row) or row.outcome == "timeout")]
        for arm in (CONTROL, candidate)
    }
    return p95_of(by_arm[CONTROL], by_arm[candidate], alpha, margin) if all(by_arm.values()) else None
