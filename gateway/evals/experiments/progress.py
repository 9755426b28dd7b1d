"""Pairs in order → sequences that move. Pure: the same pairs give the same bits, in one run or in many.

Of a cluster (the pairs of one conversation, or of one user) a sequence takes the first pair of which it can take
anything, and none of the later ones: these depend on the first, and an interval that counts them as news would be wrong
far more often than it says. What it estimates there is the effect on the first compared request of a conversation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from gateway.core.plan import REPEAT, Plan
from gateway.evals.experiments.metrics import (
    JoinedPair,
    Metric,
    PairValue,
    WithheldPair,
    metrics_of,
    noise_metrics,
    pair_value,
)
from gateway.evals.experiments.sequences import DifferenceSequence, rule_of, trail_point
from gateway.evals.store.experiments.sequences import Increment, SequenceChanges, SequenceName, State, TrailPoint


class PlanProgress:
    """A plan's sequences on their way through a run of pairs. key: the hash under which the plan is stored. states: as
    they were stored. taken: which sequences have had a pair of which cluster."""

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

    def take(self, place: int, joined: JoinedPair) -> None:
        """The next pair. place: its index in the plan."""
        metrics = metrics_of(self._plan, joined)
        for arm, _ in self._plan.candidates:
            if arm in joined.arms:
                for metric in metrics:
                    self._one(place, joined, metric, arm)
        if REPEAT in joined.arms:
            for metric in noise_metrics(metrics):
                self._one(place, joined, metric, REPEAT)

    def _one(self, place: int, joined: JoinedPair, metric: Metric, arm: str) -> None:
        said = pair_value(self._plan, metric, joined, arm)
        name = SequenceName(self._hash, arm, metric.name, metric.identity)
        if isinstance(said, WithheldPair):
            self._withheld[name, said.reason, said.arm] += 1
        elif said is not None and joined.cluster is not None and (name, joined.cluster) in self._clusters:
            self._withheld[name, "same_cluster", ""] += 1
        elif said is not None:
            self._add(place, joined, metric, name, said)

    def _add(self, place: int, joined: JoinedPair, metric: Metric, name: SequenceName, taken: PairValue) -> None:
        sequence = self._sequences.get(name)
        if sequence is None:
            sequence = self._sequences[name] = self.begun(metric, name.candidate)
        sequence.add(taken)
        self._moved.add(name)
        if joined.cluster is not None:
            self._clusters.add((name, joined.cluster))
        self._increments.append(Increment(name, joined.id, place, joined.cluster, taken.a, taken.b, taken.difference))
        if trail_point(sequence.n):
            low, high = sequence.interval()
            self._points.append(TrailPoint(name, sequence.n, sequence.moments.mean, low, high))

    def begun(self, metric: Metric, arm: str) -> DifferenceSequence:
        """An empty sequence, laid by the plan. The error is split evenly over the candidates."""
        alpha = self._plan.alpha / len(self._plan.candidates)
        rule = rule_of(metric, alpha, margin_of(self._plan, metric), self._plan.stationary)
        distance = metric.source == "distance" and arm != REPEAT
        return DifferenceSequence(rule, metric.bounded, distance, metric.source == "preference")

    def changes(self) -> SequenceChanges:
        """All that happened since the beginning."""
        return SequenceChanges(
            {name: (self._sequences[name].n, self._sequences[name].state()) for name in self._moved},
            self._increments,
            self._withheld,
            self._points,
        )


def margin_of(plan: Plan, metric: Metric | str) -> float | None:
    """The margin of the primary or a guardrail; the gates' sequences have the primary's. None: it has none."""
    name = metric if isinstance(metric, str) else metric.name
    if name == plan.primary or (isinstance(metric, Metric) and metric.source in ("lost", "judge")):
        return plan.margin
    return next((g.margin for g in plan.guardrails if g.metric == name), None)
