"""Evidence from the answers that a ramp served: alarms at each step, and the proof required for all traffic. Pure.

The verdict of the shadow pairs has 0.8 of the plan's alpha. The rest, 0.2, is for the alarms: shared evenly among the
steps and the metrics, one-sided, each valid at every look. A step's alarm compares the units that both arms served
during that step, since the arms are alike only then: traffic drifts, and with it the population that is served. At the
last step no unit has the control, so the control's answers of the previous step are used there: this is not a
randomised comparison, but it detects a candidate that fails under the whole load.

Feedback is given on served answers only. Where the plan's decision rests on it, it is tested on all steps together, the
difference within each one weighted by its effective units, with the verdict's part of alpha.

The alarm on the sample ratio compares the arms' units with the share of the step. Any loss of units of one arm shows
there: clients that leave one arm more often, an alias or a key whose calls do not reach the draw, records that are
lost. All other findings of the step are then in doubt, so the ramp pauses.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from gateway.core.plan import CONTROL, FEEDBACK, Plan
from gateway.core.ramp import VERDICT_PART
from gateway.core.request_refusals import REFUSALS_APART_RULES, REFUSED
from gateway.features.ramp.breakers import BreakerReport
from gateway.features.ramp.served_proof import ProofTerms, ServedBlock, ServedProof, ServedSums, prove
from gateway.reports.model import Estimate, Margin, Verdict, WeakSpot, margin_finding
from gateway.reports.number_format import with_sign
from gateway.statistics.asymptotic import Tuning, half_width
from gateway.statistics.bernoulli import bernoulli_interval
from gateway.statistics.srm import SequentialRatio
from gateway.verdict.gates.gates import LEFT, NEGLIGIBLE, left_margin
from gateway.verdict.price.terms import ERRORS, error_margin
from gateway.verdict.sequences.difference import BURN_IN
from gateway.verdict.sequences.progress import margin_of
from gateway.verdict.split.comparison import difference_of

FAILURES = (ERRORS, REFUSED)  # metrics that an alarm sees from the first unit on
ERROR_MARGIN = 0.02  # of the alarm on errors by the first rules, where the plan gives none
UNPAIRED_MARGIN = 0.2  # of the alarm on errors where the control's answers are of another time
_NOT_PROVED = ("completion", "total_s", "latency_p95", "first_token_s", "output_tokens")  # alarms alone watch them
_N_OPT = 200.0  # units of an arm at which the bounds of failure rates are tightest


@dataclass(frozen=True, slots=True)
class CallerSums:
    """One metric of one caller's units during one step."""

    caller: str  # the name of a key, or the subject of a token
    calls: int  # of both arms
    a: ServedSums  # of the control
    b: ServedSums  # of the candidate


@dataclass(frozen=True, slots=True)
class StepValues:
    """One metric of both arms during one step."""

    metric: str
    step: int
    sign: float  # 1: more is better; -1 means that less is better
    bounded: bool  # values are in [0, 1]
    a: ServedSums  # of the control
    b: ServedSums  # of the candidate
    callers: tuple[CallerSums, ...] = ()  # the same by caller; empty: not known, as by the first rules of plans
    paired: bool = True  # both arms served at the same time
    exact: bool = False  # of bounded values: its bounds hold from the first unit on, as those of failures do


def of_callers(v: StepValues) -> StepValues:
    """The values with the sums of its callers as those of its arms."""
    return replace(v, a=_added([each.a for each in v.callers]), b=_added([each.b for each in v.callers]))


def _added(sums: Sequence[ServedSums]) -> ServedSums:
    return ServedSums(sum(s.n for s in sums), math.fsum(s.total for s in sums), math.fsum(s.squares for s in sums))


@dataclass(frozen=True, slots=True)
class MissingScores:
    """Answers that did not fail and have no score: their record was cut, so that a scorer has not read them to their
    end; or it does not apply to them, or failed."""

    cut: tuple[int, int]  # (control, candidate)
    unscored: tuple[int, int]
    share: float  # the sum of both arms' shares: the most by which they can change a difference
    worst: ServedBlocks  # the blocks with what was cut as the worst for the candidate, and the rest as 0 on both arms


@dataclass(frozen=True, slots=True)
class ServedBlocks:
    """One metric of both arms by blocks of time, at the steps at which both arms served."""

    metric: str
    sign: float
    bounded: bool
    blocks: tuple[ServedBlock, ...]  # in order of time
    inflation: float = 1.0  # as in ProofTerms
    friend: str = ""  # the caller who speaks most for the candidate; "" means that nobody may be left out
    without: ServedBlocks | None = None  # the same without that caller
    foe: str = ""  # the caller who speaks most against the candidate; "" means that nobody may be left out
    without_foe: ServedBlocks | None = None  # the same without that caller
    missing: MissingScores | None = None  # whose answers are in none of these blocks; None if every answer has a score


@dataclass(frozen=True, slots=True)
class ServedFinding:
    """Finding on one metric of served answers, of one step or of all (step None)."""

    metric: str
    step: int | None
    difference: Estimate  # positive is better for the candidate
    margin: float
    found: Margin
    units: tuple[int, int]  # (control, candidate)
    callers: int = 0  # whose units these are; 0 if unknown
    rests_on: str = ""  # the one caller without whom nothing is shown to be worse; "": none
    needed: int | None = None  # units an arm until it is decided, about; None if unknown
    cut: tuple[int, int] = (0, 0)  # answers (control, candidate) whose record was cut, where the proof fails for them
    unscored: tuple[int, int] = (0, 0)  # the same of those that their scorer gave no value

    @property
    def raised(self) -> bool:
        """Whether it is shown to be worse than its margin."""
        return self.found == "inferior"

    def says(self) -> str:
        d = self.difference
        bound = "" if d.high is None else f", at most {with_sign(d.high)}"
        at = "" if self.step is None else f" at step {self.step + 1}"
        return (
            f"{self.metric}{at}: worse by more than {self.margin:g} on served answers "
            f"(difference {with_sign(d.value or 0.0)}{bound}; {self.units[1]} units of the candidate, "
            f"{self.units[0]} of the control{_from(self.callers)})"
        )

    def missing(self) -> str:
        """The part of a proof that is still open, in words."""
        have, low = min(self.units), self.difference.low
        of = f": {have} of about {self.needed} units an arm" if self.needed is not None and have < self.needed else ""
        if not of and low is not None:
            above = with_sign(-self.margin)
            of = f": the difference may be {with_sign(low)}, and must be above {above} ({have} units an arm)"
        without = f" without {self.rests_on}" if self.rests_on else ""
        cut = (
            f"; the records of {self.cut[1]} answers of the candidate and {self.cut[0]} of the control were cut, and "
            "count as the worst for the candidate"
        )
        none = (
            f"; {self.unscored[1]} answers of the candidate and {self.unscored[0]} of the control have no score, and "
            "count as 0"
        )
        also = cut * any(self.cut) + none * any(self.unscored)
        return f"{self.metric} is not shown to be harmless on served answers{without} yet{of}{also}"

    def fields(self) -> dict[str, Any]:
        difference = {"difference": self.difference.value, "low": self.difference.low, "high": self.difference.high}
        pairs = {"units": list(self.units), "cut": list(self.cut), "unscored": list(self.unscored)}
        return {**asdict(self), **difference, **pairs}


_PLAIN_FIELDS = (
    *("at", "verdict", "sentence", "pairs", "units", "unit", "requests", "usd", "blind", "newest"),
    *("lag_s", "lost_gateways", "ratio", "independence", "headline"),
)
"""Fields of the evidence that the audit keeps as they are."""


@dataclass(frozen=True, slots=True)
class RampEvidence:
    """The evidence for a decision about the next step, at one moment."""

    at: float  # Unix seconds
    verdict: Verdict = "hold"
    sentence: str = ""  # of the verdict
    pairs: int = 0
    decided: bool = False  # there has been a `ship`
    served_primary: bool = False  # the primary is feedback, which only served answers get
    served: tuple[ServedFinding, ...] = ()  # by step
    proofs: tuple[ServedFinding, ...] = ()  # over all steps: to be harmless before the candidate serves everything
    units: int = 0  # that the candidate served at this step
    unit: str = ""  # what a unit is, for readers
    requests: int = 0  # that the candidate served in this plan
    usd: float = 0.0
    blind: bool = False  # too few units at this step for an alarm on errors
    newest: float | None = None  # of the candidate's answers: Unix seconds
    lag_s: float = 0.0  # how far the consumers are behind
    lost_gateways: int = 0  # processes that stopped reporting a short time ago
    breakers: BreakerReport = field(default_factory=BreakerReport)
    late: str | None = None  # why outcomes or scores are too old for a step
    ratio: str | None = None  # why the units of this step do not fit its share, unless a person has resumed it since
    independence: str | None = None  # of the pairs: checked, declared, assumed or alarm; None if the rules do not ask
    switch: Sequence[Mapping[str, Any]] = ()  # what the switch did, while a holdout lasts (features/ramp/served.py)
    excepted: tuple[str, ...] = ()  # segments that do not hold, of a verdict `ship_except`
    weak_spot: WeakSpot | None = None  # the search for weak spots; None if the plan asks for none
    headline: str = ""  # the verdict in at most 90 characters

    @property
    def alarms(self) -> tuple[ServedFinding, ...]:
        return tuple(each for each in self.served if each.raised)

    @property
    def unproven(self) -> tuple[ServedFinding, ...]:
        return tuple(each for each in self.proofs if each.found not in ("equivalent", "non_inferior"))

    def fields(self) -> dict[str, Any]:
        """JSON-able: the snapshot that the audit keeps."""
        plain = {name: getattr(self, name) for name in _PLAIN_FIELDS}
        findings = {name: [each.fields() for each in getattr(self, name)] for name in ("served", "proofs")}
        segments: dict[str, Any] = {"excepted": list(self.excepted)} if self.excepted else {}
        segments |= {} if self.weak_spot is None else {"weak_spot": asdict(self.weak_spot)}
        return {**plain, **findings, "breakers": asdict(self.breakers), "switch": list(self.switch), **segments}


@dataclass(frozen=True, slots=True)
class AlarmTerms:
    """The margins of the alarms, and the error of each one."""

    margins: Mapping[str, float]
    alpha: float  # one-sided, of one metric at one step
    plan: Plan | None = None  # whose margin of errors follows the control's rate; None: `margins` has it

    @classmethod
    def of(cls, plan: Plan) -> AlarmTerms:
        """Errors, the primary and every guardrail of a plan with a ramp."""
        refused = (REFUSED,) if plan.rules >= REFUSALS_APART_RULES else ()
        names = dict.fromkeys((ERRORS, *refused, *plan.decides))
        margins = {name: margin_of(plan, name) for name in names}
        known = {name: ERROR_MARGIN if margin is None else margin for name, margin in margins.items()}
        known |= dict.fromkeys(refused, known[ERRORS])
        steps = len(plan.ramp.steps) + bool(plan.ramp.holdout) if plan.ramp else 1  # with a holdout, failures have two
        by_rate = plan if plan.rules >= 2 and margins[ERRORS] is None else None
        return cls(known, (1.0 - VERDICT_PART) * plan.alpha / (steps * len(known)), by_rate)

    def margin(self, v: StepValues) -> float:
        """The margin of one metric at one step."""
        if v.metric not in FAILURES or (self.plan is None and v.paired):
            return self.margins[v.metric]
        margin = self.margins[v.metric] if self.plan is None else error_margin(self.plan, v.a.mean)
        return margin if v.paired else max(margin, UNPAIRED_MARGIN)


def _from(callers: int) -> str:
    if not callers:
        return ""
    return "; all from one caller" if callers == 1 else f"; from {callers} callers"


def step_finding(v: StepValues, margin: float, alpha: float) -> ServedFinding:
    """The finding on one metric of one step; n of both arms must be at least 1."""
    difference = _failure_difference(v, alpha) if v.exact or v.metric in FAILURES else _difference(v, alpha)
    found = margin_finding(difference, margin)
    return ServedFinding(v.metric, v.step, difference, margin, found, (round(v.a.n), round(v.b.n)))


def _failure_difference(v: StepValues, alpha: float) -> Estimate:
    """Exact from the first unit, so that a failing candidate is detected at once: the bounds of both arms' rates.

    Each of the two bounds that an alarm rests on has alpha / 2.
    """
    (low_a, high_a), (low_b, high_b) = (
        bernoulli_interval(min(max(u.total, 0.0), u.n), u.n, alpha / 2, _N_OPT) for u in (v.a, v.b)
    )
    return Estimate(v.sign * (v.b.mean - v.a.mean), low_a - high_b, high_a - low_b)


def _difference(v: StepValues, alpha: float) -> Estimate:
    tuning = Tuning(min(2 * alpha, 0.5), burn_in=BURN_IN)  # an alarm is one-sided
    a, b = (u.arm_mean(v.bounded, tuning) for u in (v.a, v.b))
    return difference_of(a, b, v.sign, tuning)[0]


def proofs_of(values: Sequence[StepValues], plan: Plan) -> tuple[ServedFinding, ...]:
    """The finding of each metric of feedback, which only served answers get, that the plan's decision rests on."""
    tuning = Tuning(plan.verdict_alpha, burn_in=BURN_IN)
    names = [name for name in plan.decides if name.startswith(FEEDBACK)]
    return tuple(_proof([v for v in values if v.metric == name], name, plan, tuning) for name in names)


def served_proofs_of(served: Sequence[ServedBlocks], plan: Plan) -> tuple[ServedFinding, ...]:
    """Proofs by rules 2 that a candidate is harmless on served answers, before it serves everything: errors, the
    quality where answers have scores, the cost where it has a margin, and scorers of runs that are guardrails."""
    if plan.rules < 2:
        return ()
    proved = {name for name in plan.decides if name not in _NOT_PROVED and not name.startswith(FEEDBACK)}
    found = [_served_proof(each, plan) for each in served if each.metric in {*FAILURES, LEFT, *proved}]
    unscored = (name for name in plan.of_runs if name not in {each.metric for each in served})
    return (*found, *(_without_runs(name, plan) for name in unscored))


def _without_runs(name: str, plan: Plan) -> ServedFinding:
    """The proof for a scorer of runs when no run has a score: it is open, since shadows say nothing about runs."""
    return ServedFinding(name, None, Estimate(None), margin_of(plan, name) or 0.0, "unclear", (0, 0))


def _served_proof(of: ServedBlocks, plan: Plan) -> ServedFinding:
    margin = margin_of(plan, of.metric) or 0.0
    if of.metric in (*FAILURES, LEFT):
        n, total = (sum(getattr(each.a, name) for each in of.blocks) for name in ("n", "total"))
        rate = _surely(total / n, n) if n else 0.0
        margin = error_margin(plan, rate)
        margin = left_margin(rate, margin) if of.metric == LEFT else margin
    found, without = _proved(of, margin, plan), of.without
    again = None if without is None else _proved(without, margin, plan)
    made = ServedFinding(of.metric, None, found.difference, margin, found.found, found.units, needed=found.needed)
    if found.found == "non_inferior" and again is not None and again.found != "non_inferior":
        return replace(made, found="unclear", rests_on=of.friend)
    none = of.missing
    if found.found == "non_inferior" and none is not None and none.share > NEGLIGIBLE * margin:
        worst = _proved(none.worst, margin, plan)
        if worst.found != "non_inferior":
            return replace(made, found="unclear", cut=none.cut, unscored=none.unscored, needed=worst.needed)
    if found.found == "inferior" and of.without_foe is not None:
        less = _proved(of.without_foe, margin, plan)
        return made if less.found == "inferior" else replace(made, found="unclear", rests_on=of.foe)
    return made


def _surely(rate: float, n: float) -> float:
    """The control's rate less two standard errors: a margin widened by chance would accept larger losses."""
    return max(0.0, rate - 2.0 * math.sqrt(max(rate * (1.0 - rate), 0.0) / n))


def _proved(of: ServedBlocks, margin: float, plan: Plan) -> ServedProof:
    return prove(of.blocks, ProofTerms(of.sign, margin, plan.verdict_alpha, of.bounded, of.inflation))


def _proof(values: Sequence[StepValues], name: str, plan: Plan, tuning: Tuning) -> ServedFinding:
    margin = margin_of(plan, name) or 0.0
    both = [v for v in values if v.a.n and v.b.n]
    estimate = _pooled(both, tuning)
    units = (round(sum(v.a.n for v in both)), round(sum(v.b.n for v in both)))
    return ServedFinding(name, None, estimate, margin, margin_finding(estimate, margin), units)


def _pooled(values: Sequence[StepValues], tuning: Tuning) -> Estimate:
    """The mean of the steps' differences, each weighted by its effective units, and its confidence sequence."""
    if not values:
        return Estimate(None)
    parts = [(v, v.a.arm_mean(False, tuning), v.b.arm_mean(False, tuning)) for v in values]
    weights = np.array([1.0 / (1.0 / a.effective_n + 1.0 / b.effective_n) for _, a, b in parts])
    means = np.array([v.sign * (b.mean - a.mean) for v, a, b in parts])
    errors = np.array([a.variance / a.effective_n + b.variance / b.effective_n for _, a, b in parts])
    share, total = weights / weights.sum(), float(weights.sum())
    value, variance = float(share @ means), total * float(share**2 @ errors)
    few = min(sum(v.a.n for v in values), sum(v.b.n for v in values))
    if few < tuning.burn_in:
        return Estimate(value)
    if all(v.bounded for v in values):
        variance += (half_width(1.0, few, tuning) / 2.0) ** 2
    half = half_width(math.sqrt(variance), max(total, 1.0), replace(tuning, burn_in=0.0))
    return Estimate(value, value - half, value + half)


@dataclass(frozen=True, slots=True)
class ServedValues:
    """Values read from the answers that a ramp served."""

    values: tuple[StepValues, ...] = ()
    units: int = 0  # as in RampEvidence
    requests: int = 0
    usd: float = 0.0
    newest: float | None = None
    findings: tuple[ServedFinding, ...] = ()  # of metrics with an interval of their own: the p95
    blocks: tuple[ServedBlocks, ...] = ()  # of a ramp by rules 2, until the candidate serves everything
    p95: tuple[ServedFinding, ...] = ()  # the proof of a p95 that is a guardrail: of the present step alone, then too


RATIO_ALPHA = 0.001  # of one step, over all looks
DIMENSIONS = ("alias", "key", "stream", "API")
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class UnitCount:
    """Units of one arm with calls of one kind. A unit with calls of several kinds is in several counts."""

    arm: str
    kind: tuple[str, str, str, str]  # the values of DIMENSIONS
    units: int


def ratio_alarm(totals: dict[str, int], counts: Sequence[UnitCount], share: float) -> str | None:
    """Reason why the arms' units do not fit the share; None if they do.

    totals: arm → its units at this step. counts: the same by kind of call, to say where it comes from. share: of the
    candidate, in (0, 1).
    """
    control = totals.get(CONTROL, 0)
    candidate = sum(totals.values()) - control
    p = _p(control, candidate, share)
    if p >= RATIO_ALPHA:
        return None
    return (
        f"sample ratio: {candidate} of {control + candidate} units had the candidate, where {share:.3g} was planned "
        f"(p = {p:.1g} at any look){_where(counts, share)}; find out why before you resume"
    )


def _where(counts: Sequence[UnitCount], share: float) -> str:
    """The kinds of calls in which the units fit the share least."""
    sums: dict[str, Counter[bool]] = {}  # kind of call → units with the control (True) and with the candidate
    for each in counts:
        for dimension, value in zip(DIMENSIONS, each.kind, strict=True):
            sums.setdefault(f"{dimension} {value}", Counter())[each.arm == CONTROL] += each.units
    found = sorted((_p(arms[True], arms[False], share), name) for name, arms in sums.items())
    names = [name for p, name in found if p < RATIO_ALPHA][:_MOST_NAMED]
    return f"; most in {', '.join(names)}" if names else ""


def _p(control: int, candidate: int, share: float) -> float:
    test = SequentialRatio([1.0 - share, share], counts=[control, candidate])
    test.add(0, 0)
    return test.p_value
