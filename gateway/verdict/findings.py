"""The findings on a plan so far: comparisons, gates and one decision for each candidate, from its evidence.

Reports, figures, ramps and routes show these values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from gateway.core.plan import CONTROL, FEEDBACK, Plan, StoredPlan
from gateway.core.plan_evidence import PairCounts
from gateway.core.request_refusals import REFUSED
from gateway.core.sequence import SequenceName
from gateway.reports.model import (
    BestOfK,
    Comparison,
    Estimate,
    Family,
    GateResult,
    Independence,
    TrafficFacts,
    Verdict,
    WeakSpot,
    negated,
)
from gateway.statistics.evalues import e_bh
from gateway.verdict.best_of_k.dropped import DroppedCandidate
from gateway.verdict.best_of_k.ranking import CandidateLook, Lead, decision_of, dropped_at, ranking, with_costs
from gateway.verdict.decision import (
    Decision,
    SwapDescription,
    cheaper,
    decide,
    faster,
    holm,
    pairs_needed,
    share_of_pairs,
)
from gateway.verdict.evidence import PlanEvidence
from gateway.verdict.metrics import SAME_PATH
from gateway.verdict.plan_gates import by_split, gates_of
from gateway.verdict.segments.declared import SegmentsFound, decide_by_segment, gates_of_moved, segments_found
from gateway.verdict.sequences.difference import EVEN, AlphaShare
from gateway.verdict.sequences.duels import duel_between
from gateway.verdict.sequences.latency import P95, p95_of
from gateway.verdict.sequences.progress import empty_comparison, margin_of, role_of
from gateway.verdict.split.answers import split_facts
from gateway.verdict.split.result import SplitResult, split_of
from gateway.verdict.states import SequenceStates
from gateway.verdict.traffic_facts import facts_of, with_first_lines, with_proof


@dataclass(frozen=True, slots=True)
class Finding:
    """The findings on one candidate."""

    stored_plan: StoredPlan
    candidate: str
    primary: Comparison | None
    guardrails: tuple[Comparison, ...]
    others: tuple[Comparison, ...]
    gates: tuple[GateResult, ...]
    decision: Decision
    pairs: PairCounts
    withheld: Mapping[tuple[SequenceName, str, str], int]
    names: Mapping[str, SequenceName]  # metric → the sequence behind its comparison
    split: SplitResult | None  # None: no traffic is split
    family: Family | None = None  # None: there is one candidate
    independence: Independence | None = None
    """Dependence of the primary's pairs on each other; None if the plan's rules do not ask for it."""
    traffic: TrafficFacts | None = None  # None: the plan's rules do not ask for it
    best: BestOfK | None = None  # None: the candidates are not compared with each other
    segments: SegmentsFound | None = None  # None: the plan declares none
    weak_spot: WeakSpot | None = None  # None: the plan asks for no search

    @property
    def metrics(self) -> tuple[Comparison, ...]:
        return (*((self.primary,) if self.primary else ()), *self.guardrails, *self.others)

    @property
    def doubtful(self) -> bool:
        """Whether a gate says that the candidate's path may explain its loss."""
        return any(gate.doubts_reject for gate in self.gates)


def finding(evidence: PlanEvidence, candidate: str) -> Finding:
    """The findings on one candidate of a plan."""
    plan = evidence.plan.plan
    if len(plan.candidates) > 1 and plan.only_shadows:
        return findings(evidence)[candidate]
    return _finding(SequenceStates(evidence), candidate, EVEN)


def findings(evidence: PlanEvidence) -> dict[str, Finding]:
    """The findings on every candidate, by arm."""
    plan, looked = evidence.plan.plan, SequenceStates(evidence)
    arms = [arm for arm, _ in plan.candidates]
    if len(arms) == 1 or not plan.only_shadows:
        return {arm: _finding(looked, arm, EVEN) for arm in arms}
    shares = _shares(looked)
    by_arm = {arm: _finding(looked, arm, shares[arm]) for arm in arms}
    by_arm = _with_best(looked, by_arm) if plan.finds_best else by_arm
    verdicts = tuple((arm, one.decision.verdict) for arm, one in by_arm.items())
    even = plan.alpha / len(by_arm)
    families = {
        arm: Family(plan.family, plan.alpha, share.ship * even, share.reject * even, verdicts)
        for arm, share in shares.items()
    }
    return {arm: replace(one, family=families[arm]) for arm, one in by_arm.items()}


def finding_at(evidence: PlanEvidence, candidate: str, share: AlphaShare) -> Finding:
    """The findings on one candidate with another share of the error than the plan gives it."""
    return _finding(SequenceStates(evidence), candidate, share)


def drops_of(evidence: PlanEvidence) -> Mapping[str, DroppedCandidate]:
    """The candidates of a plan with `family: best` that are to get no more requests."""
    plan, looked = evidence.plan.plan, SequenceStates(evidence)
    looks = [_look(_finding(looked, arm, EVEN)) for arm, _ in plan.candidates]
    return dropped_at(plan, looks, partial(lead_of, looked), looked.dropped, evidence.now)


def _look(found: Finding) -> CandidateLook:
    return CandidateLook(found.candidate, found.decision, found.primary, found.gates)


def _with_best(looked: SequenceStates, found: Mapping[str, Finding]) -> dict[str, Finding]:
    """The findings with the ranking, which decides: only the best candidate ships, and a dropped one is rejected."""
    looks = [_look(each) for each in found.values()]
    best = ranking(looked.plan, looks, partial(lead_of, looked), looked.dropped)
    best = with_costs(best, _costs(found), looked.calls_by_arm())
    rows = {row.candidate: row for row in best.candidates}
    decisions = {arm: decision_of(best, rows[arm], each.decision) for arm, each in found.items()}
    return {arm: replace(each, best=best, decision=decisions[arm]) for arm, each in found.items()}


def _costs(found: Mapping[str, Finding]) -> dict[str, Estimate]:
    """Arm → USD per thousand requests, where prices are known; the control's on the requests of the most pairs."""
    costs = {arm: c for arm, each in found.items() for c in each.metrics if c.metric == "cost_per_1k" and c.pairs}
    longest = max(costs.values(), key=lambda c: c.pairs, default=None)
    of_control = {} if longest is None else {CONTROL: longest.a}
    return of_control | {arm: c.b for arm, c in costs.items()}


def lead_of(looked: SequenceStates, ahead: str, behind: str) -> Lead:
    """The primary's difference between two candidates, from the answers to the same requests."""
    plan = looked.plan
    duel = duel_between(plan, ahead, behind)
    sequence = looked.sequences.get((duel.name, plan.primary or ""))
    if sequence is None:
        return Lead(Estimate(None), 0)
    found, n = sequence.estimate(), sequence.n
    found = negated(found) if duel.second != ahead else found
    needed = pairs_needed(found, n, sequence.variance, plan.margin, sequence.present_rule)
    return Lead(found, n, share_of_pairs(plan, sequence), needed, sequence.closed)


def _shares(looked: SequenceStates) -> dict[str, AlphaShare]:
    """Divides the error among the candidates, by the procedure that the plan names."""
    plan, name = looked.plan, looked.plan.primary
    arms = [arm for arm, _ in plan.candidates]
    if plan.family != "holm":
        return dict.fromkeys(arms, EVEN)

    def verdict(arm: str, share: AlphaShare) -> Verdict:
        primary = looked.comparison(arm, name, share) if name else None
        rails = [_guardrail(looked, arm, g.metric, share) for g in plan.guardrails]
        gates = gates_of(looked, arm, primary, None)
        base = decide(_swap(plan, arm), primary, rails, gates, ())
        segments = _segments(looked, arm, rails, share)
        return (decide_by_segment(base, _swap(plan, arm), segments, gates) if segments else base).verdict

    return holm(arms, verdict)


def _segments(
    looked: SequenceStates, candidate: str, guardrails: Sequence[Comparison], share: AlphaShare
) -> SegmentsFound | None:
    """The declared segments; None if the plan has none."""
    if looked.plan.segments is None or not looked.plan.segments.by:
        return None
    others = {c.metric: c for c in guardrails if (candidate, c.metric) not in looked.sequences}
    return segments_found(looked.segment_evidence(candidate, share), others)


def _guardrail(looked: SequenceStates, arm: str, metric: str, share: AlphaShare) -> Comparison:
    if metric == P95:
        return _p95(looked, arm) or empty_comparison(looked.plan, metric)
    return looked.comparison(arm, metric, share)


def _finding(looked: SequenceStates, candidate: str, share: AlphaShare) -> Finding:
    evidence, plan = looked.evidence, looked.plan
    split = None if plan.only_shadows or plan.ramp is not None else split_of(evidence, candidate)
    compared = _selected(_comparisons(looked, candidate, split, share), plan)
    if evidence.plan.state == "stopped":
        compared = {metric: replace(c, stopped=True) for metric, c in compared.items()}
    primary = (compared.get(plan.primary) or empty_comparison(plan, plan.primary)) if plan.primary else None
    guardrails = tuple(compared.get(m) or empty_comparison(plan, m) for m in guardrails_of(plan))
    gates = gates_of(looked, candidate, primary, split)
    claims = [claim for claim in (cheaper(compared.get("cost_per_1k")), faster(compared.get(P95))) if claim]
    facts = _facts(looked, candidate, primary, split)
    swap, segments = _swap(plan, candidate), _segments(looked, candidate, guardrails, share)
    decision = decide(swap, primary, guardrails, gates, claims)
    if segments is not None:
        decision = decide_by_segment(decision, swap, segments, gates)
        gates = gates_of_moved(gates, segments) if decision.verdict == "ship_except" else gates
    return Finding(
        stored_plan=evidence.plan,
        candidate=candidate,
        primary=primary,
        guardrails=guardrails,
        others=tuple(c for metric, c in sorted(compared.items()) if c.role == "other"),
        gates=gates,
        decision=with_first_lines(with_proof(decision, plan), facts),
        pairs=evidence.pairs,
        withheld=evidence.withheld,
        names={metric: name for (arm, metric), name in looked.names.items() if arm == candidate},
        split=split,
        independence=facts.independence if facts else None,
        traffic=facts,
        segments=segments,
        weak_spot=looked.weak_spot(candidate),
    )


def guardrails_of(plan: Plan) -> tuple[str, ...]:
    """The guardrails that the verdict waits for. A ramp tests those on feedback and on runs itself, step by step. In a
    split, refused requests do not count as failures, so a guardrail on failures has one on refusals next to it."""
    served_later = plan.ramp is not None
    found = [g.metric for g in plan.guardrails if not (served_later and g.metric.startswith(FEEDBACK))]
    found = [metric for metric in found if metric not in plan.of_runs]
    refusals = plan.mode == "split" and margin_of(plan, REFUSED) is not None  # pairs count them as failures
    return (*found, REFUSED) if refusals else tuple(found)


def _comparisons(
    looked: SequenceStates, candidate: str, split: SplitResult | None, share: AlphaShare
) -> dict[str, Comparison]:
    """metric → its comparison, from pairs and from split traffic.

    Where a plan has both, a pair's comparison wins, except for metrics that need one path for both arms.
    """
    found = {
        metric: looked.comparison(candidate, metric, EVEN if role_of(looked.plan, metric) == "other" else share)
        for metric in looked.metrics(candidate)
    }
    p95 = _p95(looked, candidate)
    if p95 is not None:
        found[P95] = p95
    if split is None:
        return found
    served = {c.metric: c for c in split.comparisons}
    found = served | found if looked.plan.mode == "both" else served
    return found | {metric: c for metric, c in served.items() if metric in (*SAME_PATH, P95)}


def _p95(looked: SequenceStates, candidate: str) -> Comparison | None:
    """Compares the p95 at the candidate's even share of the error. None if no pair has both durations."""
    plan, total = looked.plan, looked.names.get((candidate, "total_s"))
    if total is None:
        return None
    alpha, margin = plan.verdict_alpha / len(plan.candidates), margin_of(plan, P95)
    made = p95_of(*looked.evidence.values(total), alpha, margin)
    return replace(made, hours_share=share_of_pairs(plan, looked.primary(candidate)))


def _selected(found: Mapping[str, Comparison], plan: Plan) -> dict[str, Comparison]:
    """Keeps the direction of those metrics other than the primary that e-BH selects.

    With many metrics some would seem better or worse by chance; this keeps the false discovery rate at most alpha, at
    every look.
    """
    tested = [c for c in found.values() if c.role != "primary" and c.log_evalue is not None]
    chosen = {tested[i].metric for i in e_bh([float(c.log_evalue or 0.0) for c in tested], plan.alpha)}
    passed = {c.metric for c in tested} - chosen
    return {m: replace(c, direction_found="unclear") if m in passed else c for m, c in found.items()}


def _facts(
    looked: SequenceStates, candidate: str, primary: Comparison | None, split: SplitResult | None
) -> TrafficFacts | None:
    if split is not None and by_split(looked.plan, primary, split):
        return split_facts(looked.plan, split.traffic)
    return facts_of(looked.plan, {metric: each for (arm, metric), each in looked.sequences.items() if arm == candidate})


def _swap(plan: Plan, candidate: str) -> SwapDescription:
    return SwapDescription(plan.model, str(plan.control), str(plan.target(candidate)))
