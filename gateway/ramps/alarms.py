"""The alarm on one metric at one step of a ramp. Pure.

The verdict has 0.8 of a ramp's alpha. The rest, 0.2, is for the alarms: shared evenly among the steps and the metrics,
one-sided, each valid at every look. A step's alarm compares the units that both arms served during that step, since the
arms are alike only then: traffic drifts, and with it the population that is served. At the last step no unit has the
control, so the control's answers of the previous step are used there: this is not a randomised comparison, but it
detects a candidate that fails under the whole load.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.core.plan import Plan
from gateway.core.ramp import VERDICT_PART
from gateway.core.request_refusals import REFUSALS_APART_RULES, REFUSED
from gateway.ramps.evidence import ServedFinding
from gateway.ramps.step_values import StepValues
from gateway.reports.model import Estimate, margin_finding
from gateway.statistics.asymptotic import Tuning
from gateway.statistics.bernoulli import bernoulli_interval
from gateway.verdict.price.terms import ERRORS, error_margin
from gateway.verdict.sequences.difference import BURN_IN
from gateway.verdict.sequences.progress import margin_of
from gateway.verdict.split.comparison import difference_of

FAILURES = (ERRORS, REFUSED)  # metrics that an alarm sees from the first unit on
ERROR_MARGIN = 0.02  # of the alarm on errors by the first rules, where the plan gives none
UNPAIRED_MARGIN = 0.2  # of the alarm on errors where the control's answers are of another time
_N_OPT = 200.0  # units of an arm at which the bounds of failure rates are tightest


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
