"""Feeds settled pairs to a plan's sequences, in order. Pure: the same pairs give the same bits, in one run or in many.

A cluster is the pairs of one conversation or one user, which depend on each other: an interval that counted them as
independent would be wrong far more often than alpha. With rules 2, a sequence of scores takes the mean of a cluster
(independence.py), and one of failures takes every pair, with a check of whether the pairs of a cluster are alike. Other
sequences, and those of the first rules, take only the first pair of a cluster that has a value. The stored increments
are those of single pairs: for a mean, its first pair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from gateway.core.plan import FAILURE_METRICS, REPEAT, Plan
from gateway.core.randomization import draw
from gateway.core.request_refusals import REFUSALS_APART_RULES, REFUSED
from gateway.core.segments import segment_name
from gateway.core.sequence import Increment, SequenceChanges, SequenceName, State, TrailPoint
from gateway.reports.model import Comparison, Estimate, Role
from gateway.verdict.metrics import (
    ALONE,
    EXCESS_RULES,
    JUDGED,
    NEGLIGIBLE,
    OF_GATES,
    SEGMENT,
    UNITS,
    WORST,
    WORST_ONES,
    JoinedPair,
    Metric,
    PairValue,
    UnpairedRequest,
    WithheldPair,
    known_before,
    metrics_of,
    noise_metrics,
    pair_value,
    primary_metric,
    segment_value,
)
from gateway.verdict.sequences.difference import DifferenceSequence, SequenceRule, rule_of, segment_rule, trail_point
from gateway.verdict.sequences.duels import duel_pairs, is_duel
from gateway.verdict.sequences.independence import WholeConversation
from gateway.verdict.sequences.segment_cells import CELLS, SegmentCells


class PlanProgress:
    """A plan's sequences while they take a run of pairs.

    key: the hash under which the plan is stored. states: the stored states of the sequences, or the sequences
    themselves, which then move. taken: which sequences already have a pair of which cluster.
    """

    def __init__(
        self,
        plan: Plan,
        key: str,
        states: Mapping[SequenceName, State | DifferenceSequence],
        taken: set[tuple[SequenceName, str]] | None = None,
    ) -> None:
        self._plan = plan
        self._hash = key
        self._sequences = {
            name: state if isinstance(state, DifferenceSequence) else DifferenceSequence.from_state(state)
            for name, state in states.items()
            if name.candidate
        }
        self._cells: dict[SequenceName, SegmentCells] = {
            name: SegmentCells.from_state(state)
            for name, state in states.items()
            if name.metric.startswith(CELLS) and not isinstance(state, DifferenceSequence)
        }
        self._clusters = set(taken or ())
        self._moved: set[SequenceName] = set()
        self._moved_cells: set[SequenceName] = set()
        self._increments: list[Increment] = []
        self._withheld: Counter[tuple[SequenceName, str, str]] = Counter()
        self._points: list[TrailPoint] = []

    @property
    def sequences(self) -> Mapping[SequenceName, DifferenceSequence]:
        return self._sequences

    def take(self, position: int, joined: JoinedPair) -> None:
        """Takes the next pair. position: its index in the plan."""
        metrics = metrics_of(self._plan, joined)
        if joined.segments is not None:
            self._take_segments(position, joined, metrics)
        if joined.extra:
            if self._plan.adjust:
                u = draw(f"unpaired:{self._plan.name}", joined.id)
                self.see(UnpairedRequest(joined.control, joined.rate, u))
            return
        for arm, _ in self._plan.candidates:
            if arm in joined.arms:
                for metric in metrics:
                    self._take_metric(position, joined, metric, arm)
        if REPEAT in joined.arms:
            for metric in noise_metrics(metrics):
                self._take_metric(position, joined, metric, REPEAT)
        for duel, metric, beside in duel_pairs(self._plan, metrics, joined):
            self._take_metric(position, beside, metric, duel)

    def _take_segments(self, position: int, joined: JoinedPair, metrics: list[Metric]) -> None:
        """Takes the next pair in each of its segments, and, unless it was drawn for one of them only, in its cell."""
        primary, design = primary_metric(self._plan, metrics), self._plan.segments
        if primary is None or design is None or not design.by or joined.segments is None:
            return
        for arm, _ in self._plan.candidates:
            value = segment_value(self._plan, primary, joined, arm)
            for segment in joined.segments.items() if value is not None else ():
                if value is not None and design.counts(segment, joined.draw):
                    self._take_segment(position, joined, primary, (arm, segment_name(*segment)), value)
            if not joined.extra and arm in joined.arms:
                self._take_cell(joined, metrics, primary, arm)

    def _take_segment(
        self, position: int, joined: JoinedPair, primary: Metric, of: tuple[str, str], value: PairValue
    ) -> None:
        """of: (arm, the segment's name)."""
        name = SequenceName(self._hash, of[0], f"{SEGMENT}{of[1]}", primary.identity)
        sequence = self._of_segment(primary, name, self._plan.segments.margin if self._plan.segments else 0.0)
        if sequence.closed:
            return
        self._take_value(position, joined, sequence, name, value)
        self._cells_of(primary, of[0]).add_to(of[1], joined.segments or {}, value.difference)

    def _cells_of(self, primary: Metric, arm: str) -> SegmentCells:
        name = SequenceName(self._hash, "", f"{CELLS}{arm}", primary.identity)
        self._moved_cells.add(name)
        by = self._plan.segments.by if self._plan.segments else ()
        return self._cells.setdefault(name, SegmentCells(by, primary.name))

    def _of_segment(self, primary: Metric, name: SequenceName, margin: float) -> DifferenceSequence:
        """The sequence of the primary within a segment; an empty one if there is none yet."""
        if name not in self._sequences:
            self._sequences[name] = DifferenceSequence(segment_rule(self._plan, primary, margin), primary.bounded)
            self._moved.add(name)
        return self._sequences[name]

    def _take_cell(self, joined: JoinedPair, metrics: list[Metric], primary: Metric, arm: str) -> None:
        wanted = {*self._plan.decides, ALONE}
        values = {m.name: pair_value(self._plan, m, joined, arm) for m in metrics if m.name in wanted}
        taken = {name: value for name, value in values.items() if isinstance(value, PairValue)}
        cells = self._cells_of(primary, arm)
        cells.add(joined.segments or {}, taken, joined.origin.at)
        known = self._sequences.get(SequenceName(self._hash, arm, primary.name, primary.identity))
        rule = known.rule if known else self._primary_rule(primary, arm)
        if known is None or not known.has_few_units:
            cells.close(rule, 1.0 if known is None else known.inflation)

    def _primary_rule(self, primary: Metric, arm: str) -> SequenceRule:
        return rule_of(self._plan, primary, margin_of(self._plan, primary), arm)

    def see(self, unpaired: UnpairedRequest) -> None:
        """Takes a request without a pair, between the pairs around it."""
        for name, sequence in self._sequences.items():
            if sequence.adjustment is None or sequence.closed:
                continue
            known = known_before(unpaired.control, self._scorer(name, sequence))
            if known is not None:
                sequence.see(known, unpaired.rate, unpaired.u)
                self._moved.add(name)

    def _scorer(self, name: SequenceName, sequence: DifferenceSequence) -> tuple[str, str] | None:
        """The scorer of the primary, if it scores one answer at a time."""
        return None if sequence.preference or sequence.test is not None else (name.metric, name.identity)

    def _take_metric(self, position: int, joined: JoinedPair, metric: Metric, arm: str) -> None:
        value = pair_value(self._plan, metric, joined, arm)
        name = SequenceName(self._hash, arm, metric.name, metric.identity)
        if value is None:
            return
        if isinstance(value, WithheldPair):
            self._withheld[name, value.reason, value.arm] += 1
            if metric.source == "likelihood":  # a gate says why there is no value, before there is a first one
                self._begin(metric, name)
            self._miss(name, joined, value)
        elif self._plan.rules >= 2:
            sequence = self._begin(metric, name)
            if metric.name == self._plan.primary and self._plan.rules >= EXCESS_RULES and not sequence.closed:
                sequence.held = self._waits_at_worst(name)
            self._take_value(position, joined, sequence, name, value)
        elif joined.cluster is not None and (name, joined.cluster) in self._clusters:
            self._withheld[name, "same_cluster", ""] += 1
        else:
            self._add(position, joined, self._begin(metric, name), name, value)

    def _waits_at_worst(self, primary: SequenceName) -> bool:
        """Whether the primary's last look waits for those at worst, since its scorer has failed. All of these times
        depend on variances only."""
        judged, *at_worst = (
            self._sequences.get(replace(primary, metric=metric)) for metric in (JUDGED, WORST, WORST_ONES)
        )
        if judged is None or at_worst[1] is None:
            return False
        failed = (judged.a.mean or 0.0) + (judged.b.mean or 0.0)
        return failed > NEGLIGIBLE * self._plan.margin and any(s is not None and not s.closed for s in at_worst)

    def _take_value(
        self, position: int, joined: JoinedPair, sequence: DifferenceSequence, name: SequenceName, value: PairValue
    ) -> None:
        """Takes a value with rules 2, by what its sequence makes of conversations."""
        rule = sequence.rule
        if rule.of_conversations and not sequence.closed:
            self._feed(name, sequence, sequence.conversations.complete(joined.origin.at))
        if joined.cluster is None or rule.method == "rare":
            if rule.of_conversations and not sequence.closed:
                sequence.conversations.count(value)
            self._add(position, joined, sequence, name, value)
            return
        known = (name, joined.cluster) in self._clusters
        if known and not (rule.of_conversations and sequence.conversations.is_open(joined.cluster)):
            self._withheld[name, "same_cluster", ""] += 1
        elif not rule.of_conversations:
            self._add(position, joined, sequence, name, value)
        elif not sequence.closed:
            if not known:
                self._note(position, joined, name, value)
            self._feed(name, sequence, sequence.conversations.add(joined.cluster, value, joined.origin))

    def _feed(self, name: SequenceName, sequence: DifferenceSequence, whole: list[WholeConversation]) -> None:
        """Gives conversations that are complete to their sequence."""
        self._moved.add(name)
        for each in whole:
            if not sequence.closed:
                sequence.add(each.mean, None, each.origin)
                self._trail(name, sequence)

    def _miss(self, name: SequenceName, joined: JoinedPair, value: WithheldPair) -> None:
        """Notes a pair that has no value because of the candidate's answer alone."""
        sequence = self._sequences.get(name)
        if sequence is None or sequence.adjustment is None or value.reason == "lost":
            return
        if known_before(joined.control, self._scorer(name, sequence)) is not None:
            sequence.adjustment.miss()
            self._moved.add(name)

    def _add(
        self, position: int, joined: JoinedPair, sequence: DifferenceSequence, name: SequenceName, taken: PairValue
    ) -> None:
        if sequence.closed:
            return
        known = None
        if sequence.adjustment is not None and joined.cluster is None:
            known = known_before(joined.control, self._scorer(name, sequence))
        sequence.add(taken, known, joined.origin)
        self._moved.add(name)
        self._note(position, joined, name, taken)
        self._trail(name, sequence)

    def _note(self, position: int, joined: JoinedPair, name: SequenceName, taken: PairValue) -> None:
        """The increment that is stored of a pair."""
        if joined.cluster is not None:
            self._clusters.add((name, joined.cluster))
        self._increments.append(
            Increment(name, joined.id, position, joined.cluster, taken.a, taken.b, taken.difference)
        )

    def _trail(self, name: SequenceName, sequence: DifferenceSequence) -> None:
        if trail_point(sequence.n):
            low, high = sequence.interval()
            self._points.append(TrailPoint(name, sequence.n, sequence.moments.mean, low, high))

    def _begin(self, metric: Metric, name: SequenceName) -> DifferenceSequence:
        """The sequence of this name; an empty one if there is none yet."""
        if name not in self._sequences:
            self._sequences[name] = self.new_sequence(metric, name.candidate)
            self._moved.add(name)
        return self._sequences[name]

    def new_sequence(self, metric: Metric, arm: str) -> DifferenceSequence:
        """An empty sequence with the plan's rule."""
        rule = rule_of(self._plan, metric, margin_of(self._plan, metric), arm)
        if is_duel(arm):  # what is known of the request before is known of both, and adjusts the control's pairs alone
            alpha = self._plan.verdict_alpha / len(self._plan.candidates)
            rule = replace(rule, alpha=alpha, compared=0, earlier=False)
        distance = metric.source == "distance" and arm != REPEAT
        return DifferenceSequence(rule, metric.bounded, distance, metric.source == "preference")

    def changes(self) -> SequenceChanges:
        """Lists the changes since this object was built."""
        cells = {name: (self._cells[name].count(), self._cells[name].state()) for name in self._moved_cells}
        return SequenceChanges(
            {name: (self._sequences[name].n, self._sequences[name].state()) for name in self._moved} | cells,
            self._increments,
            self._withheld,
            self._points,
        )


def role_of(plan: Plan, metric: str) -> Role:
    if metric == plan.primary:
        return "primary"
    return "guardrail" if metric in {g.metric for g in plan.guardrails} else "other"


def empty_comparison(plan: Plan, metric: str) -> Comparison:
    """The comparison of a metric that has no value yet."""
    unit, role, none = UNITS.get(metric, ""), role_of(plan, metric), Estimate(None)
    margin = margin_of(plan, metric)
    return Comparison(metric, unit, role, none, none, none, None, 0, 0.0, margin, "unclear", "unclear")


def margin_of(plan: Plan, metric: Metric | str) -> float | None:
    """The margin of the primary metric or a guardrail; the gates' metrics have the primary's. None: no margin."""
    name = metric if isinstance(metric, str) else metric.name
    if name == plan.primary or (isinstance(metric, Metric) and metric.source in OF_GATES):
        return plan.margin
    of_failures = name == REFUSED and plan.rules >= REFUSALS_APART_RULES  # what failures may be, refusals may be
    names = FAILURE_METRICS if of_failures else (name,)
    if of_failures and plan.primary in FAILURE_METRICS:
        return plan.margin
    return next((g.margin for g in plan.guardrails if g.metric in names), None)
