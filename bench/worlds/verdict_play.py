"""One experiment in memory: made-up calls through the product's sequences, gates and decision, a look at each pair.

Nothing of the product is copied: pairs go through `PlanProgress`, as the consumer feeds them, and a look is `finding`.
A look costs milliseconds, so it is taken only where it could decide: where the interval of a metric that decides lies
on one side of its margin. While gates hold such a verdict back, every 25th pair is looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import orjson

from gateway.core.exchange import Target
from gateway.core.plan import CANDIDATE, REPEAT, Guardrail, Plan, StoredPlan
from gateway.core.plan_evidence import PairCounts, RequestChecks, ScorerFacts, SegmentRow
from gateway.core.plan_horizon import horizon_of
from gateway.core.sequence import SequenceName
from gateway.core.served_answer import SplitEvidence
from gateway.reports.model import Verdict
from gateway.verdict.continuation import continued, more_price
from gateway.verdict.decision import SHIPS, share_of_pairs
from gateway.verdict.ending import is_closed
from gateway.verdict.findings import Finding, finding
from gateway.verdict.metrics import ALONE, ArmObservation, JoinedPair, PairOrigin, StoredScore
from gateway.verdict.sequences.difference import DifferenceSequence
from gateway.verdict.sequences.progress import PlanProgress, margin_of
from gateway.verdict.states import continued_name
from worlds.traffic import DEVIATION, MARGIN, START, Call, Lack

QUALITY = ("quality", "1 c1")
_BETWEEN_LOOKS = 25  # pairs, while a gate holds a verdict back
_BETWEEN_ENDS = 50  # pairs, after which it is asked again whether the plan has ended
_STATUS: Mapping[Lack, str] = {"timeout": "timeout", "not_applicable": "not_applicable"}


def plan_of(rules: int = 3, deviation: float | None = DEVIATION, rail: float | None = None, **changes: Any) -> Plan:
    """A plan of one candidate with a margin of 0.05. deviation: of a difference, as planned; None: guessed. rail: the
    margin of the error rate; None: no guardrail."""
    plan = Plan(
        name="swap", model="chat", control=Target("a", "old"), candidates=((CANDIDATE, Target("b", "new")),),
        shadow=0.2, repeat_control=0.25, primary="quality", margin=MARGIN, method="hybrid", auto_horizon=True,
        aa="alarm", rules=rules, min_hours=24.0, empty="failed", headers="target",
        guardrails=() if rail is None else (Guardrail("error_rate", rail),),
    )  # fmt: skip
    plan = replace(plan, **changes)
    return replace(plan, max_pairs=horizon_of(plan, None if deviation is None else deviation**2))


class Outcome(NamedTuple):
    """The end of one run. pairs, hours: until the verdict, or the end."""

    verdict: Verdict
    pairs: int
    hours: float

    @property
    def ships(self) -> bool:
        return self.verdict in SHIPS

    @property
    def decided(self) -> bool:
        return self.verdict != "hold"


@dataclass(slots=True)
class MemoryEvidence:
    """`PlanEvidence` of pairs that are in memory."""

    plan: StoredPlan
    states: Mapping[SequenceName, str]
    newest: Mapping[tuple[str, str], str]
    pairs: PairCounts
    now: float
    withheld: Mapping[tuple[SequenceName, str, str], int] = field(default_factory=dict)
    lost_by_arm: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    paid_calls: Mapping[str, int] = field(default_factory=Counter)
    read: SplitEvidence | None = None

    @property
    def request_checks(self) -> RequestChecks:
        return RequestChecks(same=self.pairs.joined)

    def values(self, name: SequenceName) -> tuple[Sequence[float], Sequence[float]]:
        return [], []

    def split(self, candidate: str) -> SplitEvidence:
        assert self.read is not None, candidate
        return self.read

    def scorer(self, metric: str, identity: str | None) -> ScorerFacts | None:
        return None

    def segment_rows(self, name: SequenceName, most: int) -> Sequence[SegmentRow]:
        return []


class Experiment:
    """A plan and the pairs that it has taken."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.progress = PlanProgress(plan, plan.hash, {})
        self.pairs, self.first, self.last = 0, 0.0, 0.0
        self.asked = Counter[str]()
        self.until = 0  # pairs at which a plan that went on after its last look pauses

    def take(self, call: Call, *, repeat: bool) -> None:
        """Takes the next pair. repeat: the control is asked again for it."""
        control, arms = seen_of(call, repeat=repeat)
        origin = PairOrigin(call.at, call.key, call.user, prompt=call.prompt)
        self.joined(JoinedPair(f"p{self.pairs + 1}", control, arms, call.conversation, origin))

    def joined(self, pair: JoinedPair) -> None:
        at = pair.origin.at or 0.0
        self.pairs, self.first, self.last = self.pairs + 1, self.first or at, at
        self.asked.update(tuple(pair.arms))
        self.progress.take(self.pairs, pair)

    def sequence(self, metric: str) -> DifferenceSequence | None:
        names = self.progress.sequences.items()
        return next((s for name, s in names if (name.candidate, name.metric) == (CANDIDATE, metric)), None)

    def could_decide(self) -> bool:
        """Whether a look may end in a verdict: a necessary condition, from the intervals of what decides. An interval
        has its mean in it, which tells most often without it."""
        primary = self.sequence("quality")
        if primary is None:
            return False
        early = share_of_pairs(self.plan, primary) < 1.0
        shown = not early and primary.moments.mean > -self.plan.margin
        if shown and primary.interval()[0] > -self.plan.margin:
            return True
        for metric in (*self.plan.decides, ALONE):
            sequence, margin = self.sequence(metric), margin_of(self.plan, metric)
            share = share_of_pairs(self.plan, sequence)
            if sequence is None or not margin or sequence.moments.mean * share >= -margin:
                continue
            if sequence.interval()[1] * share < -margin:
                return True
        return False

    def finding(self) -> Finding:
        """A look, as a report takes it."""
        return finding(self.evidence(), CANDIDATE)

    def evidence(self) -> MemoryEvidence:
        sequences = self.progress.sequences
        states = {name: orjson.dumps(sequence.state()).decode() for name, sequence in sequences.items()}
        if self.until:
            states[continued_name(self.plan.hash)] = orjson.dumps({"until": self.until}).decode()
        newest = {(name.candidate, name.metric): name.identity for name in sequences}
        stored = StoredPlan(self.plan, self.plan.hash, "running", START)
        counts = PairCounts(joined=self.pairs, first=self.first, last=self.last)
        evidence = MemoryEvidence(stored, states, newest, counts, self.last, self.progress.changes().withheld)
        evidence.lost_by_arm = {arm: (n, 0) for arm, n in self.asked.items()}
        return evidence

    @property
    def ended(self) -> bool:
        """Whether the consumer would ask for no further pair: asked from the last look of the primary on, each
        fiftieth pair."""
        primary = self.sequence("quality")
        if primary is None or not primary.closed or self.pairs % _BETWEEN_ENDS:
            return False
        return is_closed(self.evidence())

    def go_on(self) -> bool:
        """Goes on after the last look, as `gateway ab start NAME --more` does. Returns whether anything goes on."""
        primary = self.sequence("quality")
        price = more_price(self.evidence()) if primary is not None and primary.closed else None
        if price is None or not continued(self.plan, self.progress.sequences, price.pairs):
            return False
        self.until = self.pairs + price.pairs
        return True


def seen_of(call: Call, *, repeat: bool) -> tuple[ArmObservation, dict[str, ArmObservation]]:
    """(the control's answer, those of the other arms)."""
    arms = {CANDIDATE: _seen(call.b, call.b_failed, call.b_lacks)}
    if repeat:
        arms[REPEAT] = _seen(call.again, call.again_failed, "")
    return _seen(call.a, call.a_failed, call.a_lacks), arms


def _seen(score: float, failed: bool, lacks: Lack) -> ArmObservation:
    if failed:
        return ArmObservation("failed", "x", scores={QUALITY: StoredScore("scored", 0.0, score)})
    stored = StoredScore(_STATUS[lacks]) if lacks else StoredScore("scored", score, score)
    return ArmObservation("ok", "x", scores={QUALITY: stored})


def play(plan: Plan, calls: Iterable[Call], repeats: Iterable[bool], more: bool = False) -> Outcome:
    """Plays one experiment to its verdict, or to its end. more: the operator lets it go on whenever it has ended."""
    experiment, pairs = Experiment(plan), zip(calls, repeats, strict=False)
    verdict = _until_end(experiment, pairs)
    while more and verdict == "hold" and experiment.go_on():
        verdict = _until_end(experiment, pairs)
    return _outcome(experiment, verdict)


def _until_end(experiment: Experiment, pairs: Iterator[tuple[Call, bool]]) -> Verdict:
    held = 0
    for call, repeat in pairs:
        experiment.take(call, repeat=repeat)
        held = max(0, held - 1)
        ended = experiment.ended
        if ended or (not held and experiment.could_decide()):
            verdict = experiment.finding().decision.verdict
            if verdict != "hold" or ended:
                return verdict
            held = _BETWEEN_LOOKS
    return experiment.finding().decision.verdict


def _outcome(experiment: Experiment, verdict: Verdict) -> Outcome:
    return Outcome(verdict, experiment.pairs, (experiment.last - experiment.first) / 3600.0)
