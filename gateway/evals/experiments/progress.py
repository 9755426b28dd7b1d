"""Feeds settled pairs to a plan's sequences, in order. Pure: the same pairs give the same bits, in one run or in many.

From a cluster (the pairs of one conversation or one user) a sequence takes only the first pair that has a value.
Later pairs depend on the first, and an interval that counted them as independent would be wrong far more often than
alpha. The estimate is therefore the effect on the first compared request of a conversation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from gateway.core.plan import FAILURE_METRICS, REPEAT, Plan
from gateway.core.request_refusals import REFUSALS_APART_RULES, REFUSED
from gateway.evals.experiments.metrics import (
    OF_GATES,
    JoinedPair,
    Metric,
    PairValue,
    UnpairedRequest,
    WithheldPair,
    known_before,
    metrics_of,
    noise_metrics,
    pair_value,
)
from gateway.evals.experiments.sequences import DifferenceSequence, rule_of, trail_point
from gateway.evals.store.experiments.sequences import Increment, SequenceChanges, SequenceName, State, TrailPoint


class PlanProgress:
    """A plan's sequences while they take a run of pairs.

    key: the hash under which the plan is stored. states: the stored states of the sequences. taken: which sequences
    already have a pair of which cluster.
    """

    def __init__(
        self,
        plan: Plan,
        key: str,
        states: Mapping[SequenceName, State],
        taken: set[tuple[SequenceName, str]] | None = None,
    ) -> None:
        self._plan = plan
        self._hash = key
        self._sequences = {name: DifferenceSequence.from_state(state) for name, state in states.items()}
        self._clusters = set(taken or ())
        self._moved: set[SequenceName] = set()
        self._increments: list[Increment] = []
        self._withheld: Counter[tuple[SequenceName, str, str]] = Counter()
        self._points: list[TrailPoint] = []

    @property
    def sequences(self) -> Mapping[SequenceName, DifferenceSequence]:
        return self._sequences

    def take(self, position: int, joined: JoinedPair) -> None:
        """Takes the next pair. position: its index in the plan."""
        metrics = metrics_of(self._plan, joined)
        for arm, _ in self._plan.candidates:
            if arm in joined.arms:
                for metric in metrics:
                    self._take_metric(position, joined, metric, arm)
        if REPEAT in joined.arms:
            for metric in noise_metrics(metrics):
                self._take_metric(position, joined, metric, REPEAT)

    def see(self, unpaired: UnpairedRequest) -> None:
        """A request without a pair, between the pairs around it."""
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
        elif joined.cluster is not None and (name, joined.cluster) in self._clusters:
            self._withheld[name, "same_cluster", ""] += 1
        else:
            self._add(position, joined, metric, name, value)

    def _miss(self, name: SequenceName, joined: JoinedPair, value: WithheldPair) -> None:
        """Notes a pair that has no value because of the candidate's answer alone."""
        sequence = self._sequences.get(name)
        if sequence is None or sequence.adjustment is None or value.reason == "lost":
            return
        if known_before(joined.control, self._scorer(name, sequence)) is not None:
            sequence.adjustment.miss()
            self._moved.add(name)

    def _add(self, position: int, joined: JoinedPair, metric: Metric, name: SequenceName, taken: PairValue) -> None:
        sequence = self._begin(metric, name)
        if sequence.closed:
            return
        known = None
        if sequence.adjustment is not None and joined.cluster is None:
            known = known_before(joined.control, self._scorer(name, sequence))
        sequence.add(taken, known, joined.origin)
        self._moved.add(name)
        if joined.cluster is not None:
            self._clusters.add((name, joined.cluster))
        self._increments.append(
            Increment(name, joined.id, position, joined.cluster, taken.a, taken.b, taken.difference)
        )
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
        distance = metric.source == "distance" and arm != REPEAT
        return DifferenceSequence(rule, metric.bounded, distance, metric.source == "preference")

    def changes(self) -> SequenceChanges:
        """Everything that changed since this object was built."""
        return SequenceChanges(
            {name: (self._sequences[name].n, self._sequences[name].state()) for name in self._moved},
            self._increments,
            self._withheld,
            self._points,
        )


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
