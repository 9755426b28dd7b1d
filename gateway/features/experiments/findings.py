"""The findings of an experiment so far: comparisons, gates and one decision, read from the store.

The report and the Prometheus gauges both show these values.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import orjson

from gateway.core.likelihood import REFUSALS
from gateway.core.plan import CONTROL, FAILURE_METRICS, FEEDBACK, REPEAT, Plan, StoredPlan
from gateway.core.request_refusals import REFUSED
from gateway.core.segments import segment_name
from gateway.core.sequence import SequenceName
from gateway.features.experiments.advance import rescored_name
from gateway.features.experiments.rows.queries import (
    PairCounts,
    RequestChecks,
    lost_by_arm,
    paid_calls,
    pair_counts,
    request_checks,
)
from gateway.features.experiments.split import SplitResult, split_of
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
    direction_finding,
    negated,
)
from gateway.statistics.evalues import e_bh
from gateway.statistics.moments import Moments
from gateway.statistics.weak_spots import WeakSpotSearch
from gateway.store import sequences as kept
from gateway.store.query import Reading
from gateway.verdict.best_of_k.dropped import DroppedCandidate, dropped_in
from gateway.verdict.best_of_k.ranking import CandidateLook, Lead, decision_of, dropped_at, ranking, with_costs
from gateway.verdict.decision import (
    Decision,
    SwapDescription,
    cheaper,
    decide,
    faster,
    half_width_of,
    holm,
    pairs_needed,
    share_of_pairs,
    with_findings,
)
from gateway.verdict.gates.completeness import (
    NoPreference,
    OneSided,
    completeness_gate,
    preference_completeness_gate,
    split_completeness_gate,
)
from gateway.verdict.gates.gates import (
    PairLosses,
    PathChecks,
    aa_alarm,
    aa_gate,
    likelihood_gate,
    losses_gate,
    path_gate,
    same_path_gate,
    with_doubt,
)
from gateway.verdict.metrics import (
    ALONE,
    BUILT_IN,
    JUDGED,
    LOST,
    MISSING,
    SAME_PATH,
    SEGMENT,
    WEAK_SPOTS,
    WORST,
)
from gateway.verdict.segments.declared import (
    CandidateEvidence,
    SegmentsFound,
    decide_by_segment,
    segments_found,
)
from gateway.verdict.sequences.difference import EVEN, METHOD_NAMES, AlphaShare, failures_of_all
from gateway.verdict.sequences.difference import DifferenceSequence as Differences
from gateway.verdict.sequences.duels import duel_between
from gateway.verdict.sequences.latency import P95, p95_of
from gateway.verdict.sequences.progress import empty_comparison, margin_of, role_of
from gateway.verdict.sequences.segment_cells import CELLS, SegmentCells
from gateway.verdict.split.answers import split_facts, split_hours_gate
from gateway.verdict.traffic_facts import calls_gate, facts_of, hours_gate, with_first_lines

_HIDDEN = (LOST, JUDGED, ALONE, MISSING, WORST)
SEARCHED = 800  # pairs in which a loss of 0.25 in a tenth of the traffic is found in most runs (docs/switch.md)
FALLBACK = 0.02  # tolerance of a gate where the margin is 0 or not a share


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


class SequenceStates:
    """The stored sequences of one plan."""

    def __init__(self, connection: Reading, plan: StoredPlan) -> None:
        self.plan = plan.plan
        self.connection = connection
        self._hash = plan.hash
        self._lost: Mapping[str, tuple[int, int]] | None = None
        self._checks: RequestChecks | None = None
        texts = kept.state_texts(connection, plan.hash)
        newest = kept.newest_identities(connection, plan.hash)
        names = {key: SequenceName(plan.hash, key[0], key[1], identity) for key, identity in newest.items()}
        self.names = {key: name for key, name in names.items() if not key[1].startswith(SEGMENT)}
        self._weak_spots = {key[1]: texts[name] for key, name in names.items() if key[1].startswith(WEAK_SPOTS)}
        self.segment_names = {key: name for key, name in names.items() if key not in self.names}
        self.sequences: Mapping[tuple[str, str], Differences] = _Sequences(
            {key: texts[name] for key, name in names.items() if key[0]}
        )
        self._cells = {key[1]: texts[name] for key, name in names.items() if not key[0] and key[1].startswith(CELLS)}
        self.dropped = dropped_in(texts, plan.hash) if plan.plan.finds_best else {}
        """The candidates that get no more requests, by arm."""
        self.rescored: Mapping[str, Any] = orjson.loads(texts.get(rescored_name(plan.hash), "{}"))
        """Counts (n, disagreed) and an example of the control's answers that were scored again."""

    def metrics(self, candidate: str) -> list[str]:
        return sorted({metric for arm, metric in self.names if arm == candidate and metric not in _HIDDEN})

    def primary(self, candidate: str) -> Differences | None:
        """Comparison of the primary; None if no pair has a value of it."""
        return self.sequences.get((candidate, self.plan.primary or ""))

    def evidence(self, candidate: str, share: AlphaShare = EVEN) -> CandidateEvidence:
        """Collects the evidence by which the candidate's declared segments are judged."""
        design, text = self.plan.segments, self._cells.get(f"{CELLS}{candidate}")
        of_segments = [f"{SEGMENT}{segment_name(*each)}" for each in design.segments] if design else []
        wanted = (*self.plan.decides, ALONE, *of_segments)
        found = {
            metric: self.sequences[candidate, metric] for metric in wanted if (candidate, metric) in self.sequences
        }
        cells = None if text is None else SegmentCells.from_state(orjson.loads(text))
        return CandidateEvidence(self.plan, candidate, found, cells, share)

    def weak_spot_state(self, candidate: str) -> Mapping[str, Any]:
        """The state of the search for weak spots (weak_spots.py); {} if it has not begun."""
        text = self._weak_spots.get(f"{WEAK_SPOTS}{candidate}")
        state: Mapping[str, Any] = {} if text is None else orjson.loads(text)
        return state

    def weak_spot(self, candidate: str) -> WeakSpot | None:
        """Result of the search for weak spots; None if the plan asks for none."""
        design, state = self.plan.segments, self.weak_spot_state(candidate)
        if design is None or not design.weak_spots:
            return None
        if not state:
            return WeakSpot(0, SEARCHED, 1.0, False)
        search = WeakSpotSearch.from_state(state["search"])
        mean = search.total / search.bets if search.bets and search.alarm else None
        share = state["share"] if search.alarm else None
        return WeakSpot(search.pairs, SEARCHED, search.p_value, search.alarm, state["where"] or "", share, mean)

    def prefers(self, candidate: str, metric: str) -> bool:
        """Whether the metric is a pairwise judge's preference."""
        sequence = self.sequences.get((candidate, metric))
        return sequence is not None and sequence.preference

    def lost_by_arm(self) -> Mapping[str, tuple[int, int]]:
        """Result of queries.lost_by_arm, read once."""
        if self._lost is None:
            self._lost = lost_by_arm(self.connection, self._hash)
        return self._lost

    def calls_by_arm(self) -> dict[str, int]:
        """Paid requests by arm: those that are recorded, also after the verdict, and those whose record was lost."""
        if self.plan.guarded:
            return {}
        recorded = Counter(paid_calls(self.connection, self._hash))
        recorded.update({arm: lost for arm, (_, lost) in self.lost_by_arm().items()})
        return dict(recorded)

    def request_checks(self) -> RequestChecks:
        """Result of queries.request_checks, read once."""
        if self._checks is None:
            self._checks = request_checks(self.connection, self._hash)
        return self._checks

    def comparison(self, candidate: str, metric: str, share: AlphaShare = EVEN) -> Comparison:
        sequence = self.sequences.get((candidate, metric))
        alone = self.sequences.get((candidate, ALONE)) if metric in FAILURE_METRICS else None
        if sequence is None:
            empty = empty_comparison(self.plan, metric)
            return empty if alone is None else _with_alone(empty, alone, share)
        noise = self.sequences.get((REPEAT, metric))
        made = replace(
            empty_comparison(self.plan, metric),
            a=sequence.arm("a"),
            b=sequence.arm("b"),
            difference=sequence.estimate(share),
            noise=None if noise is None else noise.estimate(),
            pairs=sequence.n,
            effective_n=float(sequence.n),
            log_evalue=sequence.log_evalue(),
            method=METHOD_NAMES[sequence.rule.method],
            saved=sequence.saved,
            adjusted=sequence.adjusted,
            unadjusted=sequence.unadjusted.mean if sequence.unadjusted.n else None,
            at_worst=self._at_worst(candidate) if metric == self.plan.primary else None,
            hours_share=share_of_pairs(self.plan, sequence),
            raw=_as_measured(sequence),
        )
        variance = sequence.variance
        alpha = sequence.rule.alpha * share.ship
        rule = replace(sequence.rule, horizon=sequence.horizon, alpha=alpha, largest=sequence.largest)
        found = with_findings(made, rule, variance)
        if share != EVEN:  # only margins are tested in steps
            found = replace(found, direction_found=direction_finding(sequence.estimate()))
        return found if alone is None else _with_alone(found, alone, share)

    def _at_worst(self, candidate: str) -> Estimate | None:
        """Difference at worst; None if no answer lacks a score on one arm only."""
        missing, worst = (self.sequences.get((candidate, name)) for name in (MISSING, WORST))
        return worst.estimate() if _some(missing) and worst is not None else None


class _Sequences(Mapping[tuple[str, str], Differences]):
    """(arm, metric) → its sequence, built from its state on first use: most callers need only one."""

    def __init__(self, texts: Mapping[tuple[str, str], str]) -> None:
        self._texts = texts
        self._built: dict[tuple[str, str], Differences] = {}

    def __getitem__(self, key: tuple[str, str]) -> Differences:
        if key not in self._built:
            self._built[key] = Differences.from_state(orjson.loads(self._texts[key]))
        return self._built[key]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


def _as_measured(sequence: Differences) -> Estimate | None:
    """The difference before it was adjusted, with the interval that it would have. None if it is not adjusted."""
    moments = sequence.unadjusted
    if sequence.adjustment is None or not moments.n:
        return None
    half = half_width_of(replace(sequence.rule, compared=0), moments.variance())(moments.n)
    if not math.isfinite(half):
        return Estimate(moments.mean)
    return Estimate(moments.mean, moments.mean - half, moments.mean + half)


def _with_alone(c: Comparison, alone: Differences, share: AlphaShare) -> Comparison:
    """A comparison of failures, with the evidence of every pair on the candidate's own rate.

    That rate is an upper bound of the difference, since the control's rate is at least 0. Both intervals share the
    error. The difference is the control's rate over its repeats less the candidate's rate over all pairs, of which
    the interval is. Its direction and evidence stay those of the comparison with the repeat.
    """
    bound = alone.estimate(share)
    b, difference = failures_of_all(c, alone.arm("b"), bound)
    found = with_findings(replace(c, b=b, difference=difference), alone.rule, alone.variance)
    needed = pairs_needed(bound, alone.n, alone.variance, c.margin, alone.rule) if c.margin else None
    undecided = found.margin_found == "unclear"
    return replace(
        found,
        pairs=max(c.pairs, alone.n),
        pairs_needed=min((n for n in (needed, c.pairs_needed) if n), default=None) if undecided else None,
        method=c.method or METHOD_NAMES[alone.rule.method],
    )


def finding(connection: Reading, plan: StoredPlan, candidate: str, now: float | None = None) -> Finding:
    """The findings on one candidate of a plan, from the current content of the store.

    now: Unix seconds, which decide what feedback counts; None: the present.
    """
    if len(plan.plan.candidates) > 1 and plan.plan.only_shadows:
        return findings(connection, plan)[candidate]
    return _finding(SequenceStates(connection, plan), plan, candidate, EVEN, now)


def findings(connection: Reading, plan: StoredPlan, now: float | None = None) -> dict[str, Finding]:
    """The findings on every candidate, by arm. now: as finding takes it."""
    looked = SequenceStates(connection, plan)
    arms = [arm for arm, _ in plan.plan.candidates]
    if len(arms) == 1 or not plan.plan.only_shadows:
        return {arm: _finding(looked, plan, arm, EVEN, now) for arm in arms}
    shares = _shares(looked, plan)
    found = {arm: _finding(looked, plan, arm, shares[arm]) for arm in arms}
    found = _with_best(looked, plan.plan, found) if plan.plan.finds_best else found
    verdicts = tuple((arm, each.decision.verdict) for arm, each in found.items())
    even = plan.plan.alpha / len(found)
    families = {
        arm: Family(plan.plan.family, plan.plan.alpha, share.ship * even, share.reject * even, verdicts)
        for arm, share in shares.items()
    }
    return {arm: replace(each, family=families[arm]) for arm, each in found.items()}


def finding_at(connection: Reading, plan: StoredPlan, candidate: str, share: AlphaShare) -> Finding:
    """The findings on one candidate with another share of the error than the plan gives it."""
    return _finding(SequenceStates(connection, plan), plan, candidate, share)


def drops_of(connection: Reading, plan: StoredPlan, now: float) -> Mapping[str, DroppedCandidate]:
    """The candidates of a plan with `family: best` that are to get no more requests, after a look at the store."""
    looked = SequenceStates(connection, plan)
    looks = [_look(_finding(looked, plan, arm, EVEN)) for arm, _ in plan.plan.candidates]
    return dropped_at(plan.plan, looks, partial(lead_of, looked), looked.dropped, now)


def _look(found: Finding) -> CandidateLook:
    return CandidateLook(found.candidate, found.decision, found.primary, found.gates)


def _with_best(looked: SequenceStates, plan: Plan, found: Mapping[str, Finding]) -> dict[str, Finding]:
    """The findings with the ranking, which decides: only the best candidate ships, and a dropped one is rejected."""
    looks = [_look(each) for each in found.values()]
    best = ranking(plan, looks, partial(lead_of, looked), looked.dropped)
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
    rule = replace(sequence.rule, horizon=sequence.horizon, largest=sequence.largest)
    needed = pairs_needed(found, n, sequence.variance, plan.margin, rule)
    return Lead(found, n, share_of_pairs(plan, sequence), needed, sequence.closed)


def _shares(looked: SequenceStates, plan: StoredPlan) -> dict[str, AlphaShare]:
    """Divides the error among the candidates, by the procedure that the plan names."""
    arms = [arm for arm, _ in plan.plan.candidates]
    if plan.plan.family != "holm":
        return dict.fromkeys(arms, EVEN)
    name = plan.plan.primary

    def verdict(arm: str, share: AlphaShare) -> Verdict:
        primary = looked.comparison(arm, name, share) if name else None
        rails = [_guardrail(looked, plan, arm, g.metric, share) for g in plan.plan.guardrails]
        gates = _gates(looked, plan, arm, primary, None)
        base = decide(_swap(plan.plan, arm), primary, rails, gates, ())
        segments = _segments(looked, arm, rails, share)
        return (decide_by_segment(base, _swap(plan.plan, arm), segments, gates) if segments else base).verdict

    return holm(arms, verdict)


def _segments(
    looked: SequenceStates, candidate: str, guardrails: Sequence[Comparison], share: AlphaShare
) -> SegmentsFound | None:
    """The declared segments; None if the plan has none."""
    if looked.plan.segments is None or not looked.plan.segments.by:
        return None
    others = {c.metric: c for c in guardrails if (candidate, c.metric) not in looked.sequences}
    return segments_found(looked.evidence(candidate, share), others)


def _guardrail(looked: SequenceStates, plan: StoredPlan, arm: str, metric: str, share: AlphaShare) -> Comparison:
    if metric == P95:
        return _p95(looked, plan, arm) or empty_comparison(plan.plan, metric)
    return looked.comparison(arm, metric, share)


def _finding(
    looked: SequenceStates, plan: StoredPlan, candidate: str, share: AlphaShare, now: float | None = None
) -> Finding:
    connection, shadows_only = looked.connection, plan.plan.only_shadows or plan.plan.ramp is not None
    split = None if shadows_only else split_of(connection, plan, candidate, time.time() if now is None else now)
    found = _selected(_comparisons(looked, plan, candidate, split, share), plan.plan)
    if plan.state == "stopped":
        found = {metric: replace(c, stopped=True) for metric, c in found.items()}
    name = plan.plan.primary
    primary = (found.get(name) or empty_comparison(plan.plan, name)) if name else None
    guardrails = tuple(found.get(m) or empty_comparison(plan.plan, m) for m in guardrails_of(plan.plan))
    others = tuple(c for metric, c in sorted(found.items()) if c.role == "other")
    gates = _gates(looked, plan, candidate, primary, split)
    claims = [claim for claim in (cheaper(found.get("cost_per_1k")), faster(found.get(P95))) if claim]
    facts = _facts(looked, candidate, primary, split)
    swap, segments = _swap(plan.plan, candidate), _segments(looked, candidate, guardrails, share)
    decision = decide(swap, primary, guardrails, gates, claims)
    decision = decision if segments is None else decide_by_segment(decision, swap, segments, gates)
    decision = with_first_lines(decision, facts)
    names = {metric: name for (arm, metric), name in looked.names.items() if arm == candidate}
    return Finding(
        stored_plan=plan,
        candidate=candidate,
        primary=primary,
        guardrails=guardrails,
        others=others,
        gates=gates,
        decision=decision,
        pairs=pair_counts(connection, plan.hash),
        withheld=kept.withheld_of(connection, plan.hash),
        names=names,
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
    looked: SequenceStates, plan: StoredPlan, candidate: str, split: SplitResult | None, share: AlphaShare
) -> dict[str, Comparison]:
    """metric → its comparison, from pairs and from split traffic.

    Where a plan has both, a pair's comparison wins, except for metrics that need one path for both arms.
    """
    found = {
        metric: looked.comparison(candidate, metric, EVEN if role_of(plan.plan, metric) == "other" else share)
        for metric in looked.metrics(candidate)
    }
    p95 = _p95(looked, plan, candidate)
    if p95 is not None:
        found[P95] = p95
    if split is None:
        return found
    served = {c.metric: c for c in split.comparisons}
    found = served | found if plan.plan.mode == "both" else served
    return found | {metric: c for metric, c in served.items() if metric in (*SAME_PATH, P95)}


def _p95(looked: SequenceStates, plan: StoredPlan, candidate: str) -> Comparison | None:
    """Compares the p95 at the candidate's even share of the error. None if no pair has both durations."""
    total = looked.names.get((candidate, "total_s"))
    if total is None:
        return None
    taken = kept.increments_of(looked.connection, total)
    alpha, margin = plan.plan.verdict_alpha / len(plan.plan.candidates), margin_of(plan.plan, P95)
    made = p95_of([each.a for each in taken], [each.b for each in taken], alpha, margin)
    return replace(made, hours_share=share_of_pairs(plan.plan, looked.primary(candidate)))


def _selected(found: Mapping[str, Comparison], plan: Plan) -> dict[str, Comparison]:
    """Keeps the direction of those metrics other than the primary that e-BH selects.

    With many metrics some would seem better or worse by chance; this keeps the false discovery rate at most alpha, at
    every look.
    """
    tested = [c for c in found.values() if c.role != "primary" and c.log_evalue is not None]
    chosen = {tested[i].metric for i in e_bh([float(c.log_evalue or 0.0) for c in tested], plan.alpha)}
    passed = {c.metric for c in tested} - chosen
    return {m: replace(c, direction_found="unclear") if m in passed else c for m, c in found.items()}


def _gates(
    looked: SequenceStates, plan: StoredPlan, candidate: str, primary: Comparison | None, split: SplitResult | None
) -> tuple[GateResult, ...]:
    gates: list[GateResult] = []
    delta = delta_of(plan.plan, primary)
    if plan.plan.mode != "split" and primary is not None:
        sent = not plan.plan.guarded
        gates = [_aa(looked, candidate, primary, delta)] if sent else []
        gates += _losses(looked, plan, candidate, delta)
        varied = bool(plan.plan.control.variant or any(target.variant for _, target in plan.plan.candidates))
        gates += [path_gate(checks, varied, sent)] if (checks := _path_checks(looked, plan)) != PathChecks() else []
        gates += [_likelihood(looked, plan, candidate, primary)] if plan.plan.likelihood else []
        sequence, served = looked.sequences.get((candidate, primary.metric)), _by_split(plan.plan, primary, split)
        found = (None if served else hours_gate(plan.plan, sequence), calls_gate(plan.plan, sequence))
        gates += [gate for gate in found if gate is not None]
    if split is not None:
        hours = split_hours_gate(plan.plan, split.traffic) if _by_split(plan.plan, primary, split) else None
        gates += [split.gate, *(gate for gate in (split.adjusted, split.left, hours) if gate is not None)]
        gates += _split_completeness(plan.plan, split, candidate, delta) if _by_split(plan.plan, primary, split) else []
    return tuple(gates)


def _by_split(plan: Plan, primary: Comparison | None, split: SplitResult | None) -> bool:
    """Whether the primary is compared between the answers of both arms, not in pairs."""
    return split is not None and (plan.mode == "split" or any(each is primary for each in split.comparisons))


def _facts(
    looked: SequenceStates, candidate: str, primary: Comparison | None, split: SplitResult | None
) -> TrafficFacts | None:
    if split is not None and _by_split(looked.plan, primary, split):
        return split_facts(looked.plan, split.traffic)
    return facts_of(looked.plan, {metric: each for (arm, metric), each in looked.sequences.items() if arm == candidate})


def _likelihood(looked: SequenceStates, plan: StoredPlan, candidate: str, primary: Comparison) -> GateResult:
    name = looked.names.get((candidate, primary.metric))
    withheld = kept.withheld_of(looked.connection, plan.hash)
    refused = {(why, arm): n for (of, why, arm), n in withheld.items() if of == name and why in REFUSALS}
    return likelihood_gate(refused, primary.pairs)


def delta_of(plan: Plan, primary: Comparison | None) -> float:
    """The tolerance of the gates: the primary's margin, or FALLBACK where that is 0 or not a share."""
    return plan.margin or FALLBACK if primary is None or not primary.unit else FALLBACK


def _aa(looked: SequenceStates, candidate: str, primary: Comparison, delta: float) -> GateResult:
    plan, metric = looked.plan, primary.metric
    name = looked.names.get((candidate, metric))
    distance = name is not None and name.identity != BUILT_IN and looked.sequences[candidate, metric].test is not None
    repeated = plan.compare == "repeat" and not looked.prefers(candidate, metric)
    if repeated or (plan.repeat_control and (metric in SAME_PATH or metric == P95 or distance)):
        return same_path_gate(metric)
    noise = looked.sequences.get((REPEAT, metric))
    estimate = None if noise is None else noise.estimate()
    pairs, repeats = noise.n if noise else 0, plan.repeat_control > 0
    if plan.aa == "alarm":
        gate = aa_alarm(metric, estimate, pairs, repeats)
    else:
        gate = aa_gate(metric, estimate, pairs, plan.margin or delta, repeats)
    return with_doubt(gate, primary, noise.moments if noise else Moments()) if repeats else gate


def _path_checks(looked: SequenceStates, plan: StoredPlan) -> PathChecks:
    asked, again = looked.request_checks(), looked.rescored
    requests = (asked.same, asked.different, asked.translated, asked.example)
    return PathChecks(*requests, again.get("n", 0), again.get("disagreed", 0), again.get("example"))


def _losses(looked: SequenceStates, plan: StoredPlan, candidate: str, delta: float) -> list[GateResult]:
    lost = looked.sequences.get((candidate, LOST))
    by_arm = {arm: n for arm, n in looked.lost_by_arm().items() if arm in (CONTROL, REPEAT, candidate)}
    records = PairLosses(by_arm, lost.estimate() if lost else Estimate(None))
    gates = [losses_gate("losses", "records lost on their way", records, delta)]
    failed = looked.sequences.get((candidate, JUDGED))
    if failed is not None:
        n = failed.n
        shares = ((CONTROL, failed.arm("a")), (candidate, failed.arm("b")))
        arms = {arm: (n, round((share.value or 0.0) * n)) for arm, share in shares}
        gates.append(losses_gate("judge", "judgements that failed", PairLosses(arms, failed.estimate()), delta))
    return [*gates, *_completeness(looked, plan, candidate, delta)]


def _completeness(looked: SequenceStates, plan: StoredPlan, candidate: str, delta: float) -> list[GateResult]:
    """The gate on completeness; plans with the first rules have no such sequences, and no gate."""
    seen = looked.sequences.get((candidate, MISSING))
    if seen is None or not seen.n:
        return []
    n, worst = seen.n, looked.sequences.get((candidate, WORST))
    a, b = (round((mean or 0.0) * n) for mean in (seen.a.mean, seen.b.mean))
    name, at_worst = plan.plan.primary or "", worst.estimate() if worst else None
    if looked.prefers(candidate, name):
        gate = preference_completeness_gate(name, NoPreference(n, a + b), at_worst, delta)
    else:
        gate = completeness_gate(name, candidate, OneSided(n, a, b, seen.estimate()), at_worst, delta)
    return [gate] if gate else []


def _split_completeness(plan: Plan, split: SplitResult, candidate: str, delta: float) -> list[GateResult]:
    if split.missing is None:
        return []
    gate = split_completeness_gate(plan.primary or "", candidate, split.missing, split.at_worst, delta)
    return [gate] if gate else []


def is_open_at_worst(sequences: Mapping[tuple[str, str], Differences], candidate: str) -> bool:
    """Whether answers lack a score on one arm only, and the primary at worst has not taken its last look yet."""
    missing, worst = sequences.get((candidate, MISSING)), sequences.get((candidate, WORST))
    return _some(missing) and worst is not None and not worst.closed


def _some(missing: Differences | None) -> bool:
    """Whether an answer lacks a score on one arm only."""
    return missing is not None and missing.n > 0 and bool(missing.a.mean or missing.b.mean)


def _swap(plan: Plan, candidate: str) -> SwapDescription:
    return SwapDescription(plan.model, str(plan.control), str(plan.target(candidate)))


def current_plan(plans: Sequence[StoredPlan]) -> StoredPlan | None:
    """The running plan, else the newest; None without plans. plans: oldest first."""
    running = [each for each in plans if each.state == "running"]
    found = running or list(plans)
    return found[-1] if found else None
