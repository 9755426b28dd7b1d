"""Split experiments: some users are served by a candidate. Weighted means by arm, adjusted
as verdict/split/covariates.py says.

Records may be sampled by outcome (errors more often than other answers), so every mean here is a Hájek mean with
realised rates, and its interval is an asymptotic confidence sequence on the linearised terms, summed by unit. For
scores in [0, 1] the variance has an addition for the uncertainty of a run of equal values (see
statistics/sampled_mean.py).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gateway.core.exchange import CLIENT_ENDED
from gateway.core.plan import CONTROL, CONVERSATION_QUIET_S, FEEDBACK, RUN_METRICS, Guardrail, Plan, StoredPlan
from gateway.core.request_refusals import REFUSALS_APART_RULES, REFUSED, REFUSING_STATUSES
from gateway.core.sequence import SequenceName
from gateway.core.served_answer import ServedAnswer
from gateway.reports.model import ArmResponse, Comparison, Estimate, GateResult, Responses, Role
from gateway.statistics.asymptotic import Tuning, half_width, log_e_value
from gateway.statistics.domains import Floats
from gateway.statistics.srm import SequentialRatio
from gateway.store import sequences as kept
from gateway.store.query import Reading
from gateway.store.served_answers import (
    assigned_units,
    feedback_given,
    is_only_plan,
    run_scores,
    seen_populations,
    served_answers,
    split_scores,
    unit_history,
)
from gateway.verdict.decision import share_of_hours, with_findings
from gateway.verdict.gates.completeness import PrimaryValues, SplitMissing, split_missing
from gateway.verdict.gates.gates import LEFT, left_gate, left_margin, srm_gate
from gateway.verdict.metrics import ANSWERED
from gateway.verdict.sequences.difference import BURN_IN, SequenceRule
from gateway.verdict.sequences.latency import P95, ArmSeconds, p95_of, slow_share, slow_share_comparison
from gateway.verdict.sequences.progress import empty_comparison, margin_of
from gateway.verdict.split.answers import (
    FeedbackValues,
    SplitRows,
    SplitTraffic,
    feedback_values,
    hours_by_metric,
    split_days,
    split_traffic,
    terms_of,
)
from gateway.verdict.split.callers import decisive_caller, thinned_values, without
from gateway.verdict.split.covariates import (
    GATE_ALPHA,
    Adjustment,
    ArmTerms,
    History,
    adjustment,
    adjustment_gate,
    may_adjust,
)

SRM = "srm"
FAILURES = ("error_rate", "completion", REFUSED, LEFT)  # metrics in which no caller has more than its share
METHOD = "asymptotic confidence sequence on weighted means by unit"
Cell = tuple[str, str, str, str]
ScoredRow = tuple[str, float | None, str]  # (status, value in [0, 1], identity of the scorer)


@dataclass(frozen=True, slots=True)
class ArmOutcomes:
    """One metric's values on n records of both arms."""

    metric: str
    values: Floats  # shape (n,), in the metric's unit; NaN: it does not apply
    sign: float  # 1: more is better; -1 means that less is better
    bounded: bool  # values are in [0, 1]
    responded: Sequence[bool] | None = None  # records that count in n_h: all but failed scorings; None: all
    unscored: Sequence[bool] | None = None  # records whose scoring failed; None if it is not a score
    of_runs: bool = False  # a value is of a whole run, on the record that stands for it


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


def ratio_name(plan: StoredPlan) -> SequenceName:
    return SequenceName(plan.hash, "", SRM, "-")


def planned_shares(plan: Plan) -> dict[str, float]:
    """arm → the planned share of units."""
    each = plan.split / len(plan.candidates)
    return {CONTROL: 1.0 - plan.split, **{arm: each for arm, _ in plan.candidates}}


def ratio_test_at(plan: Plan, counts: Mapping[str, int], peak: float) -> SequentialRatio:
    """The sequential ratio test after these counts. peak: the largest ln Bayes factor at any earlier look."""
    planned = {arm: share for arm, share in planned_shares(plan).items() if share > 0}
    test = SequentialRatio(list(planned.values()), counts=[counts.get(arm, 0) for arm in planned], log_peak=peak)
    test.add(0, 0)
    return test


def split_of(connection: Reading, plan: StoredPlan, candidate: str, now: float) -> SplitResult:
    """The findings of a split, from the current content of the store. now: Unix seconds."""
    design, counts = plan.plan, assigned_units(connection, plan.hash, plan.plan)
    empty_fails = design.empty == "failed"
    rows = SplitRows(served_answers(connection, plan.hash, (CONTROL, candidate), empty_fails=empty_fails))
    population = seen_populations(connection) if is_only_plan(connection, design) else {}
    terms = SplitTerms(design, population, _known_before(connection, plan, rows))
    measured = outcomes(connection, rows)
    if design.unit == "run":
        measured += run_totals(rows, now - CONVERSATION_QUIET_S)
    compare = compare_arms
    if design.rules >= REFUSALS_APART_RULES:
        measured = refusals_apart([without_cut(rows, each) for each in measured], [refuses(row) for row in rows])
        compare = _compare_by_caller
    made = [(compare if each.metric in FAILURES else compare_arms)(rows, each, terms) for each in measured]
    counted = {each.metric: ~np.isnan(each.values) for each in measured}
    counted[P95] = counted["total_s"]
    given = feedback_given(connection, [row.id for row in rows])
    for name in sorted({*given, *(name for name in design.decides if name.startswith(FEEDBACK))}):
        values = feedback_values(rows, given.get(name, {}), terms_of(design, now))
        counted[name] = values.closed
        measured.append(ArmOutcomes(name, values.values, 1.0, values.bounded, values.closed.tolist()))
        made.append(compare_feedback(rows, name, values, terms))
    left = _left(connection, plan, candidate, rows, population)
    made += [left[0] if left else None, _p95(rows, candidate, terms)]
    missing, at_worst = _missing(rows, measured, terms) or (None, None)
    found = _with_hours(design, rows, [c for c in made if c is not None], counted)
    found = [replace(c, at_worst=at_worst) if c.role == "primary" else c for c in found]
    return SplitResult(
        tuple(found),
        _ratio_gate(connection, plan, counts),
        counts,
        adjustment_gate([c for c in found if c.role != "other"]),
        _traffic(terms, rows, measured, counted),
        missing,
        at_worst,
        left[1] if left else None,
    )


def _left(
    connection: Reading, plan: StoredPlan, candidate: str, rows: Sequence[ServedAnswer], population: Mapping[Cell, int]
) -> tuple[Comparison, GateResult] | None:
    """The shares of calls whose client did not wait for the answer; None: by the first rules, or all of them waited."""
    gone = served_answers(connection, plan.hash, (CONTROL, candidate), left=True) if plan.plan.rules >= 2 else []
    if not gone:
        return None
    everybody, of = with_left(rows, gone)
    measured = compare_arms(SplitRows(everybody), of, SplitTerms(plan.plan, population))
    if measured is None:
        return None
    margin = left_margin(measured.a.value or 0.0, margin_of(plan.plan, "error_rate"))
    tested = replace(plan.plan, guardrails=(*plan.plan.guardrails, Guardrail(LEFT, margin)))
    found = _compare_by_caller(SplitRows(everybody), of, SplitTerms(tested, population)) or measured
    return replace(found, role="other", margin=None, margin_found="unclear"), left_gate(found, candidate, margin)


def with_left(rows: Sequence[ServedAnswer], gone: Sequence[ServedAnswer]) -> tuple[list[ServedAnswer], ArmOutcomes]:
    """Returns all answers in order of arrival, and which of them a client did not wait for."""
    everybody = sorted([*rows, *gone], key=lambda row: (row.received, row.id))
    return everybody, ArmOutcomes(LEFT, np.array([float(row.outcome in CLIENT_ENDED) for row in everybody]), -1.0, True)


def _ratio_gate(connection: Reading, plan: StoredPlan, counts: Mapping[str, int]) -> GateResult:
    arms = [arm for arm, share in planned_shares(plan.plan).items() if share > 0]
    if len(arms) < 2:
        return GateResult(SRM, 0, "no share is split")
    stored = kept.states(connection, plan.hash).get(ratio_name(plan))
    return srm_gate(ratio_test_at(plan.plan, counts, stored["log_peak"] if stored else 0.0), arms)


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
    weights = _weights(rows, primary, terms.population)
    return replace(found, by_day=split_days(rows, values, weights, primary.sign))


def _known_before(connection: Reading, plan: StoredPlan, rows: Sequence[ServedAnswer]) -> History:
    """The past of units before the plan's first answer: `since` is later where a plan was stopped or started again."""
    if not rows or not may_adjust(plan.plan):
        return {}
    return unit_history(connection, min(plan.since, rows[0].received), sorted({row.unit for row in rows}))


def outcomes(connection: Reading, rows: Sequence[ServedAnswer]) -> list[ArmOutcomes]:
    """Computes every metric of these records: the built-in ones, and the newest version of each scorer."""
    failed = np.array([float(has_failed(row)) for row in rows])
    found = [
        ArmOutcomes("error_rate", failed, -1.0, True),
        ArmOutcomes("completion", 1.0 - failed, 1.0, True),
        ArmOutcomes("total_s", _column(rows, "total_s", timeouts=True), -1.0, False),
        ArmOutcomes("first_token_s", _column(rows, "first_token_s"), -1.0, False),
        ArmOutcomes("cost_per_1k", 1000 * _column(rows, "cost_usd"), -1.0, False),
        ArmOutcomes("output_tokens", _column(rows, "output_tokens"), -1.0, False),
    ]
    for scorer, scores in sorted(split_scores(connection, [row.id for row in rows]).items()):
        newest = list(scores.values())[-1][2]
        values = [_score(row, scores.get(row.id), newest) for row in rows]
        if any(not math.isnan(v) for v in values):
            answered = [_responded(scores.get(row.id), newest) for row in rows]
            broken = [_unscored(scores.get(row.id), newest) for row in rows]
            found.append(ArmOutcomes(scorer, np.array(values), 1.0, True, answered, broken))
    return [*found, *_scored_runs(connection, rows)]


def _scored_runs(connection: Reading, rows: Sequence[ServedAnswer]) -> Iterator[ArmOutcomes]:
    """The newest version of each scorer of runs. A failed call does not make its run a failed one: the scorer decides
    that."""
    for scorer, scores in sorted(run_scores(connection, [row.id for row in rows]).items()):
        newest = list(scores.values())[-1][2]
        found = [scores.get(row.id) for row in rows]
        answered = [_responded(score, newest) for score in found]
        known = [score if is_one else None for score, is_one in zip(found, answered, strict=True)]
        values = np.array([math.nan if score is None or score[1] is None else score[1] for score in known])
        if not np.isnan(values).all():
            broken = [_unscored(score, newest) for score in found]
            yield ArmOutcomes(scorer, values, 1.0, True, answered, broken, of_runs=True)


def run_totals(rows: Sequence[ServedAnswer], ended_before: float) -> list[ArmOutcomes]:
    """Calls, tokens and cost of each run without a call since `ended_before` (Unix seconds), on its first record."""
    calls: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        calls.setdefault(row.unit, []).append(i)
    sums = {name: np.full(len(rows), math.nan) for name in RUN_METRICS}
    for at in calls.values():
        if max(rows[i].received + rows[i].total_s for i in at) >= ended_before:
            continue
        of = [rows[i] for i in at]
        totals = (float(len(of)), _total(row.tokens for row in of), _total(row.cost_usd for row in of))
        for name, total in zip(RUN_METRICS, totals, strict=True):
            sums[name][at[0]] = total
    return [ArmOutcomes(name, values, -1.0, False, of_runs=True) for name, values in sums.items()]


def _total(values: Iterable[float | None]) -> float:
    """NaN where a part is unknown."""
    found = list(values)
    return math.nan if any(value is None for value in found) else math.fsum(value or 0.0 for value in found)


def has_failed(row: ServedAnswer) -> bool:
    return row.outcome != "ok" or row.status >= 400 or row.empty


def without_cut(rows: Sequence[ServedAnswer], of: ArmOutcomes) -> ArmOutcomes:
    """A scorer's values without those of answers whose record was cut: it has not read them completely."""
    cut = cut_scores(rows, of)
    return of if cut is None else replace(of, values=np.where(cut, np.nan, of.values))


def cut_scores(rows: Sequence[ServedAnswer], of: ArmOutcomes) -> NDArray[np.bool_] | None:
    """Flags, shape (n,): the answer's record was cut, though its scorer has looked at it. None if there is no score."""
    if of.responded is None or of.of_runs:
        return None
    cut = [row.truncated and not has_failed(row) for row in rows]
    return np.array(cut, dtype=np.bool_) & np.array(of.responded, dtype=np.bool_)


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


def refuses(row: ServedAnswer) -> bool:
    """Whether the upstream refused the request itself, which says nothing about the arm (core/request_refusals.py)."""
    return row.status in REFUSING_STATUSES and row.outcome != "ok"


def refusals_apart(found: Sequence[ArmOutcomes], refused: Sequence[bool]) -> list[ArmOutcomes]:
    """The metrics without the answers that refuse their request, and the share of these as a metric of its own."""
    out = np.array(refused, dtype=np.bool_)
    apart = [each if each.of_runs else replace(each, values=np.where(out, np.nan, each.values)) for each in found]
    return [*apart, ArmOutcomes(REFUSED, out.astype(np.float64), -1.0, True)]


def _column(rows: Sequence[ServedAnswer], name: str, *, timeouts: bool = False) -> Floats:
    def value(row: ServedAnswer) -> float:
        found = getattr(row, name)
        kept_ = not has_failed(row) or (timeouts and row.outcome == "timeout")
        return math.nan if found is None or not kept_ else float(found)

    return np.array([value(row) for row in rows])


def _responded(score: ScoredRow | None, identity: str) -> bool:
    return score is not None and score[2] == identity and score[0] in ANSWERED


def _unscored(score: ScoredRow | None, identity: str) -> bool:
    """Whether its scorer was asked, and failed: a judge that cannot read long answers fails on these."""
    return score is not None and score[2] == identity and score[0] not in ANSWERED


def without_score(rows: Sequence[ServedAnswer], of: ArmOutcomes) -> NDArray[np.bool_]:
    """Flags, shape (n,): the scorer looked at a whole answer and gave no value: it does not apply, or it failed."""
    if of.responded is None:
        return np.zeros(len(rows), dtype=np.bool_)
    looked = np.array(of.responded, dtype=np.bool_) | np.array(of.unscored or np.zeros(len(rows)), dtype=np.bool_)
    failed = np.array([has_failed(row) for row in rows], dtype=np.bool_)
    return looked & np.isnan(of.values) & ~failed


def _score(row: ServedAnswer, score: ScoredRow | None, identity: str) -> float:
    if score is None or not _responded(score, identity):
        return math.nan
    if has_failed(row):
        return 0.0
    return math.nan if score[1] is None else score[1]


def compare_arms(rows: Sequence[ServedAnswer], of: ArmOutcomes, terms: SplitTerms) -> Comparison | None:
    """The comparison of one metric between the arms; None if it applies to no record of one of them.

    rows: n records, in order of arrival. of: the metric's values on them.
    """
    plan, rows = terms.plan, rows if isinstance(rows, SplitRows) else SplitRows(rows)
    arms = rows.compared(of.values, _weights(rows, of, terms.population))
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


def _compare_by_caller(rows: Sequence[ServedAnswer], of: ArmOutcomes, terms: SplitTerms) -> Comparison | None:
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


def _weights(rows: Sequence[ServedAnswer], of: ArmOutcomes, population: Mapping[Cell, int]) -> Floats:
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


def _p95(rows: Sequence[ServedAnswer], candidate: str, terms: SplitTerms) -> Comparison | None:
    """The comparison of p95; None if an arm has no answer that counts.

    Plans of the first rules have it from order statistics, and only where those are valid: they have neither weights
    nor units.
    """
    margin = margin_of(terms.plan, P95)
    if terms.plan.rules < 2:
        return _p95_by_rank(rows, candidate, terms.alpha, margin)
    seconds = ArmOutcomes(P95, _column(rows, "total_s", timeouts=True), -1.0, False)
    weights = _weights(rows, seconds, terms.population)

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
