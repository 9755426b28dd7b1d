"""A verdict over evidence in memory: it is that of a store, and asks only for what decides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.core.plan import StoredPlan
from gateway.core.plan_evidence import PairCounts, RequestChecks, ScorerFacts, SegmentRow
from gateway.core.sequence import SequenceChanges, SequenceName
from gateway.core.served_answer import SplitEvidence
from gateway.verdict.evidence import PlanEvidence
from gateway.verdict.findings import findings
from gateway.verdict.sequences.progress import PlanProgress
from gateway.verdict.states import SequenceStates


@dataclass
class EvidenceInMemory:
    """The changes of a plan's first pairs as its evidence. asked: the parts that were asked for, apart from states."""

    plan: StoredPlan
    changes: SequenceChanges
    pairs: PairCounts
    now: float = 0.0
    asked: list[str] = field(default_factory=list)

    @property
    def states(self) -> Mapping[SequenceName, str]:
        return {name: orjson.dumps(state).decode() for name, (_, state) in self.changes.states.items()}

    @property
    def newest(self) -> Mapping[tuple[str, str], str]:
        return {(name.candidate, name.metric): name.identity for name in self.changes.states}

    @property
    def withheld(self) -> Mapping[tuple[SequenceName, str, str], int]:
        return self.changes.withheld

    @property
    def lost_by_arm(self) -> Mapping[str, tuple[int, int]]:
        self.asked.append("lost_by_arm")
        return {arm: (self.pairs.joined, 0) for arm in ("candidate", "control", "repeat")}

    @property
    def paid_calls(self) -> Mapping[str, int]:
        self.asked.append("paid_calls")
        return {}

    @property
    def request_checks(self) -> RequestChecks:
        self.asked.append("request_checks")
        return RequestChecks()

    def values(self, name: SequenceName) -> tuple[Sequence[float], Sequence[float]]:
        self.asked.append("values")
        ours = [increment for increment in self.changes.increments if increment.name == name]
        return [increment.a for increment in ours], [increment.b for increment in ours]

    def split(self, candidate: str) -> SplitEvidence:
        raise AssertionError(f"no answer of {candidate} was served")

    def scorer(self, metric: str, identity: str | None) -> ScorerFacts | None:
        raise AssertionError(f"{metric} decides without its scorer")

    def segment_rows(self, name: SequenceName, most: int) -> Sequence[SegmentRow]:
        raise AssertionError(f"{name.metric} decides without its requests")


def _pairs(simulation: Any) -> Iterator[Any]:
    for i in range(60):
        control, candidate = simulation.seen(0.5, total_s=1.0), simulation.seen(0.5 + i % 3 / 10, total_s=1.0 + i / 60)
        yield simulation.a_pair(i, control, candidate=candidate, repeat=simulation.seen(0.5, total_s=1.0))


def _in_memory(plan: Any, simulation: Any, joined: int) -> EvidenceInMemory:
    taken = PlanProgress(plan, plan.hash, {}, set())
    for place, pair in enumerate(_pairs(simulation), 1):
        taken.take(place, pair)
    counts = PairCounts(joined=joined, not_asked={}, first=1.0, last=float(joined))
    return EvidenceInMemory(StoredPlan(plan, plan.hash, "running", 1.0), taken.changes(), counts)


def test_a_verdict_in_memory_is_that_of_a_store(begin_experiment: Any, simulation: Any) -> None:
    experiment = begin_experiment()
    experiment.add(_pairs(simulation))
    evidence: PlanEvidence = _in_memory(experiment.plan, simulation, 60)
    assert findings(evidence) == {"candidate": experiment.found()}


def test_parts_that_decide_nothing_are_not_asked_for(simulation: Any) -> None:
    evidence = _in_memory(simulation.a_plan(), simulation, 60)
    SequenceStates(evidence)
    assert evidence.asked == []
    findings(evidence)
    assert evidence.asked == ["values", "lost_by_arm", "request_checks"]
