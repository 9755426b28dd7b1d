"""The sequences of one plan as they are stored, and the comparisons that they give."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import orjson

from gateway.core.plan import FAILURE_METRICS, REPEAT
from gateway.core.segments import segment_name
from gateway.core.sequence import SequenceName
from gateway.reports.model import Comparison, Estimate, WeakSpot, direction_finding
from gateway.statistics.weak_spots import WeakSpotSearch
from gateway.verdict.best_of_k.dropped import dropped_in
from gateway.verdict.decision import half_width_of, pairs_needed, share_of_pairs, with_findings
from gateway.verdict.evidence import PlanEvidence
from gateway.verdict.metrics import ALONE, JUDGED, LOST, MISSING, SEGMENT, WEAK_SPOTS, WORST, WORST_ONES
from gateway.verdict.segments.declared import CandidateEvidence
from gateway.verdict.sequences.difference import EVEN, METHOD_NAMES, AlphaShare, failures_of_all
from gateway.verdict.sequences.difference import DifferenceSequence as Differences
from gateway.verdict.sequences.progress import empty_comparison
from gateway.verdict.sequences.segment_cells import CELLS, SegmentCells

_HIDDEN = (LOST, JUDGED, ALONE, MISSING, WORST, WORST_ONES)
SEARCHED = 800  # pairs in which a loss of 0.25 in a tenth of the traffic is found in most runs (docs/switch.md)


def rescored_name(plan: str) -> SequenceName:
    """Name under which the counts of answers that were scored again are stored, with the plan's sequences."""
    return SequenceName(plan, "", "scored again", "-")


def continued_name(plan: str) -> SequenceName:
    """Name under which a plan's continuation is stored, with its sequences."""
    return SequenceName(plan, "", "continued", "-")


class SequenceStates:
    """The stored sequences of one plan."""

    def __init__(self, evidence: PlanEvidence) -> None:
        self.evidence = evidence
        self.plan = evidence.plan.plan
        plan, texts = evidence.plan.hash, evidence.states
        names = {key: SequenceName(plan, key[0], key[1], identity) for key, identity in evidence.newest.items()}
        self.names = {key: name for key, name in names.items() if not key[1].startswith(SEGMENT)}
        self._weak_spots = {key[1]: texts[name] for key, name in names.items() if key[1].startswith(WEAK_SPOTS)}
        self.segment_names = {key: name for key, name in names.items() if key not in self.names}
        self.sequences: Mapping[tuple[str, str], Differences] = _Sequences(
            {key: texts[name] for key, name in names.items() if key[0]}
        )
        self._cells = {key[1]: texts[name] for key, name in names.items() if not key[0] and key[1].startswith(CELLS)}
        self.dropped = dropped_in(texts, plan) if self.plan.finds_best else {}
        """The candidates that get no more requests, by arm."""
        self.continued_until = int(orjson.loads(texts.get(continued_name(plan), "{}")).get("until", 0))
        """Settled pairs at which a plan that went on after its last look pauses; 0: it did not go on."""
        self.rescored: Mapping[str, Any] = orjson.loads(texts.get(rescored_name(plan), "{}"))
        """Counts (n, disagreed) and an example of the control's answers that were scored again."""

    def metrics(self, candidate: str) -> list[str]:
        return sorted({metric for arm, metric in self.names if arm == candidate and metric not in _HIDDEN})

    def primary(self, candidate: str) -> Differences | None:
        """Comparison of the primary; None if no pair has a value of it."""
        return self.sequences.get((candidate, self.plan.primary or ""))

    def segment_evidence(self, candidate: str, share: AlphaShare = EVEN) -> CandidateEvidence:
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
        """The state of the search for weak spots (verdict/segments/weak_spots.py); {} if it has not begun."""
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

    def calls_by_arm(self) -> dict[str, int]:
        """Paid requests by arm: those that are recorded, also after the verdict, and those whose record was lost."""
        if self.plan.guarded:
            return {}
        recorded = Counter(self.evidence.paid_calls)
        recorded.update({arm: lost for arm, (_, lost) in self.evidence.lost_by_arm.items()})
        return dict(recorded)

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
            difference=sequence.estimate(share, sequence.events_by(alone)),
            noise=None if noise is None else noise.estimate(),
            pairs=sequence.n,
            effective_n=sequence.effective_n,
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
        rule = sequence.present_rule
        rule = replace(rule, alpha=rule.alpha * share.ship)
        found = with_findings(made, rule, variance)
        if sequence.has_few_units:  # more pairs of the same users decide nothing
            found = replace(found, pairs_needed=None, chance=None)
        if share != EVEN:  # only margins are tested in steps
            found = replace(found, direction_found=direction_finding(sequence.estimate()))
        return found if alone is None else _with_alone(found, alone, share)

    def _at_worst(self, candidate: str) -> Estimate | None:
        """Difference at worst; None if no answer lacks a score on one arm only."""
        return at_worst(self.sequences, candidate) if _lacks_scores(self.sequences, candidate) else None


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


def is_open_at_worst(sequences: Mapping[tuple[str, str], Differences], candidate: str) -> bool:
    """Whether answers lack a score on one arm only, and the primary at worst has not taken its last look yet."""
    return _lacks_scores(sequences, candidate) and any(
        not each.closed for each in worst_sequences(sequences, candidate)
    )


def at_worst(sequences: Mapping[tuple[str, str], Differences], candidate: str) -> Estimate | None:
    """The primary's difference at worst: the lower one, where the failures of its scorer allow two. None if there is
    none.

    Pairs of a failed score count with a constant, so the difference is divided by the share of the other pairs.
    """
    excess = (candidate, WORST_ONES) in sequences
    scored = 1.0 - failed_on_both_arms(sequences.get((candidate, JUDGED)) if excess else None)
    found = [_divided(each.estimate(), scored) for each in worst_sequences(sequences, candidate) if each.n]
    return min(found, key=lambda e: (-math.inf if e.low is None else e.low, e.value or 0.0), default=None)


def failed_on_both_arms(judged: Differences | None) -> float:
    """The smaller of both arms' shares of answers on which the scorer fails: no excess of either arm. Pairs in which
    it fails on both do not count."""
    if judged is None or not judged.n:
        return 0.0
    n, a, b = judged.n, (judged.a.mean or 0.0) * judged.n, (judged.b.mean or 0.0) * judged.n
    alone = judged.moments.m2 + n * judged.moments.mean**2  # pairs of one failure: each difference is -1, 0 or 1
    both = max(0.0, (a + b - alone) / 2.0)
    return 0.0 if both >= n else max(0.0, min(a, b) - both) / (n - both)


def _divided(e: Estimate, share: float) -> Estimate:
    return Estimate(*(None if v is None else v / share for v in (e.value, e.low, e.high))) if share < 1.0 else e


def worst_sequences(sequences: Mapping[tuple[str, str], Differences], candidate: str) -> list[Differences]:
    """The sequences of the primary at worst, which `ship` needs all of."""
    found = (sequences.get((candidate, name)) for name in (WORST, WORST_ONES))
    return [each for each in found if each is not None]


def _lacks_scores(sequences: Mapping[tuple[str, str], Differences], candidate: str) -> bool:
    """Whether a score is missing on one arm only, or, where the excess of failures counts, a scorer has failed."""
    judged = sequences.get((candidate, JUDGED)) if (candidate, WORST_ONES) in sequences else None
    return lacks_one_arm(sequences.get((candidate, MISSING))) or lacks_one_arm(judged)


def lacks_one_arm(missing: Differences | None) -> bool:
    """Whether an answer lacks a score on one arm only."""
    return missing is not None and missing.n > 0 and bool(missing.a.mean or missing.b.mean)
