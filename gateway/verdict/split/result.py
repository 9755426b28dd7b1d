"""The findings of a split: every metric compared between the answers of the control and of one candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gateway.core.plan import CONVERSATION_QUIET_S, FEEDBACK, Guardrail, Plan
from gateway.core.request_refusals import REFUSALS_APART_RULES
from gateway.core.served_answer import SplitEvidence
from gateway.reports.model import Comparison, Estimate, GateResult
from gateway.statistics.domains import Floats
from gateway.verdict.decision import share_of_hours
from gateway.verdict.evidence import PlanEvidence
from gateway.verdict.gates.client_left import LEFT, left_gate, left_margin
from gateway.verdict.gates.completeness import PrimaryValues, SplitMissing, split_missing
from gateway.verdict.sequences.latency import P95
from gateway.verdict.sequences.progress import margin_of
from gateway.verdict.split.answers import (
    SplitRows,
    SplitTraffic,
    feedback_values,
    hours_by_metric,
    split_days,
    split_traffic,
    terms_of,
)
from gateway.verdict.split.callers import thinned_values
from gateway.verdict.split.comparison import (
    FAILURES,
    SplitTerms,
    compare_arms,
    compare_by_caller,
    compare_feedback,
    compare_p95,
    weights_of,
)
from gateway.verdict.split.covariates import adjustment_gate
from gateway.verdict.split.outcomes import (
    ArmOutcomes,
    has_failed,
    outcomes,
    refusals_apart,
    refuses,
    run_totals,
    with_left,
    without_cut,
)
from gateway.verdict.split.ratio import ratio_gate, ratio_peaks


@dataclass(frozen=True, slots=True)
class SplitResult:
    """Findings of a split so far."""

    comparisons: tuple[Comparison, ...]
    gate: GateResult
    units: Mapping[str, int]  # arm → units assigned
    adjusted: GateResult | None = None  # whether adjusting is fair to both arms; None if nothing is adjusted
    traffic: SplitTraffic | None = None  # None: the plan's rules do not ask for it
    missing: SplitMissing | None = None  # answers without a value of the primary; None if there is none
    at_worst: Estimate | None = None  # the primary's difference with these counted as the worst for the candidate
    left: GateResult | None = None  # whether clients wait for both arms alike; None if all of them waited


def split_of(evidence: PlanEvidence, candidate: str) -> SplitResult:
    """The findings of a split so far."""
    plan, read = evidence.plan.plan, evidence.split(candidate)
    rows = SplitRows(read.answers)
    terms = SplitTerms(plan, read.population, read.history)
    measured = _measured(plan, rows, read, evidence.now)
    compare = compare_by_caller if plan.rules >= REFUSALS_APART_RULES else compare_arms
    made = [(compare if of.metric in FAILURES else compare_arms)(rows, of, terms) for of in measured]
    counted = {of.metric: ~np.isnan(of.values) for of in measured}
    counted[P95] = counted["total_s"]
    for name in sorted({*read.feedback, *(name for name in plan.decides if name.startswith(FEEDBACK))}):
        values = feedback_values(rows, read.feedback.get(name, {}), terms_of(plan, evidence.now))
        counted[name] = values.closed
        measured.append(ArmOutcomes(name, values.values, 1.0, values.bounded, values.closed.tolist()))
        made.append(compare_feedback(rows, name, values, terms))
    left = _left(plan, candidate, read)
    made += [left[0] if left else None, compare_p95(rows, candidate, terms)]
    missing, at_worst = _missing(rows, measured, terms) or (None, None)
    compared = _with_hours(plan, rows, [c for c in made if c is not None], counted)
    compared = [replace(c, at_worst=at_worst) if c.role == "primary" else c for c in compared]
    return SplitResult(
        tuple(compared),
        ratio_gate(plan, read.units, ratio_peaks(evidence.plan, evidence.states)),
        read.units,
        adjustment_gate([c for c in compared if c.role != "other"]),
        _traffic(terms, rows, measured, counted),
        missing,
        at_worst,
        left[1] if left else None,
    )


def _measured(plan: Plan, rows: SplitRows, read: SplitEvidence, now: float) -> list[ArmOutcomes]:
    """Every metric of the answers but feedback. now: Unix seconds."""
    measured = outcomes(rows, read.scores)
    if plan.unit == "run":
        measured += run_totals(rows, now - CONVERSATION_QUIET_S)
    if plan.rules < REFUSALS_APART_RULES:
        return measured
    return refusals_apart([without_cut(rows, of) for of in measured], [refuses(row) for row in rows])


def _left(plan: Plan, candidate: str, read: SplitEvidence) -> tuple[Comparison, GateResult] | None:
    """The shares of calls whose client did not wait for the answer; None: by the first rules, or all of them waited."""
    if not read.left:
        return None
    everybody, of = with_left(read.answers, read.left)
    measured = compare_arms(SplitRows(everybody), of, SplitTerms(plan, read.population))
    if measured is None:
        return None
    margin = left_margin(measured.a.value or 0.0, margin_of(plan, "error_rate"))
    tested = SplitTerms(replace(plan, guardrails=(*plan.guardrails, Guardrail(LEFT, margin))), read.population)
    compared = compare_by_caller(SplitRows(everybody), of, tested) or measured
    return replace(compared, role="other", margin=None, margin_found="unclear"), left_gate(compared, candidate, margin)


Counted = Mapping[str, NDArray[np.bool_]]
"""metric → which of n answers have a value of it, shape (n,)."""


def _with_hours(plan: Plan, rows: SplitRows, found: Sequence[Comparison], counted: Counted) -> list[Comparison]:
    """The comparisons with the share of the plan's hours that their values cover."""
    covered = hours_by_metric(rows, counted) if plan.min_hours else {}
    shares = {metric: share_of_hours(plan, hours) for metric, hours in covered.items()}
    return [replace(c, hours_share=shares.get(c.metric, c.hours_share)) for c in found]


def _traffic(
    terms: SplitTerms, rows: SplitRows, measured: Sequence[ArmOutcomes], counted: Counted
) -> SplitTraffic | None:
    """Hours, units and days of the primary's values; None if the plan's rules do not ask for them."""
    name = terms.plan.primary
    if terms.plan.rules < 2:
        return None
    found = split_traffic(rows, counted.get(name or "", np.full(len(rows), name is None)))
    primary = next((each for each in measured if each.metric == name), None)
    if primary is None:
        return found
    values = thinned_values(rows, primary.values) if name in FAILURES else primary.values
    weights = weights_of(rows, primary, terms.population)
    return replace(found, by_day=split_days(rows, values, weights, primary.sign))


def _missing(
    rows: SplitRows, measured: Sequence[ArmOutcomes], terms: SplitTerms
) -> tuple[SplitMissing, Estimate] | None:
    """Missing scores; None: first rules, a primary that is not a score, or no answer without one that did not fail."""
    plan = terms.plan
    of = next((each for each in measured if each.metric == plan.primary and each.responded is not None), None)
    if plan.rules < REFUSALS_APART_RULES or of is None or of.metric.startswith(FEEDBACK):
        return None
    failed = np.array([has_failed(row) for row in rows], dtype=np.bool_)
    looked = np.array(of.responded, dtype=np.bool_) | np.array(of.unscored, dtype=np.bool_)
    primary = PrimaryValues(of.values, looked, failed)

    def compare(values: Floats, sign: float) -> Comparison | None:
        return compare_arms(rows, replace(of, values=values, sign=sign), terms)

    return split_missing(rows, primary, compare, plan.margin or 0.0)
