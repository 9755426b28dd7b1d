"""The metrics of a plan and their values on one pair: a number for each arm, or the reason why there is none. Pure.

The sign of a difference is set so that positive is better for the candidate. An arm that failed has a score of 0 and a
distance of 1. An arm whose record was lost or whose judge failed has no value, and the pair is withheld and counted.
In `mode: likelihood`, both engines rate one served answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from gateway.core.likelihood import NOT_ANSWERED, TOKENIZERS_DIFFER, AnswerLikelihood, agreement
from gateway.core.plan import AGAIN, CONTROL, NATS_PER_TOKEN, REPEAT, TOP1_AGREEMENT, Plan


@dataclass(frozen=True, slots=True)
class LikelihoodPair:
    """Likelihood of one served answer. a: under the control. b: under the candidate, or the control again."""

    a: float  # nats per token
    b: float
    agreement: float  # share of places at which both have the same most likely token
    tokens: int


@dataclass(frozen=True, slots=True)
class NotComparable:
    """reason: a key of REFUSALS. of_b: the second engine is its cause; False if the first one is, or both are."""

    reason: str
    of_b: bool


def likelihood_pair(a: AnswerLikelihood | None, b: AnswerLikelihood | None) -> LikelihoodPair | NotComparable:
    """The two engines' likelihoods of the same answer, or the reason why they cannot be compared."""
    if a is None or b is None:
        return NotComparable("not_recorded", a is not None)
    for each, of_b in ((a, False), (b, True)):
        if each.refused or not each.tokens:
            return NotComparable(each.refused or "not_recorded", of_b)
    if (a.ids, a.tokens) != (b.ids, b.tokens):
        return NotComparable(TOKENIZERS_DIFFER, True)
    return LikelihoodPair(a.nats_per_token, b.nats_per_token, agreement(a, b), a.tokens)


Source = Literal[
    "score",
    "value",
    "preference",
    "distance",
    "failed",
    "completed",
    "measure",
    "lost",
    "judge",
    "missing",
    "worst",
    "worst_ones",
    "likelihood",
    "agreement",
]  # where the numbers come from
Against = Literal["control", "repeat"]
Key = tuple[str, str]  # (scorer, "version config_hash"): scores of different versions never mix
BUILT_IN = "-"  # identity of metrics that need no scorer
ANSWERED = ("scored", "not_applicable")


@dataclass(frozen=True, slots=True)
class StoredScore:
    """One score from the store."""

    status: str
    value: float | None = None  # scaled to [0, 1] with 1 as the best; None if the scorer has no bounds
    raw: float | None = None  # as the scorer returned it
    direction: str = "maximise"


@dataclass(frozen=True, slots=True)
class ArmObservation:
    """All observations of one arm of a pair."""

    state: Literal["ok", "failed", "lost"]  # failed: no complete answer; lost: its record never arrived
    exchange: str | None = None
    outcome: str = "ok"
    total_s: float | None = None
    first_token_s: float | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    request_bytes: int | None = None
    predicted: float | None = None  # of the answer, by a predictor, before any scorer saw it
    scores: Mapping[Key, StoredScore] = field(default_factory=dict)
    truncated: bool = False  # the record's cap cut it
    likelihood: AnswerLikelihood | None = None  # of the served answer under this arm's engine
    pair_scores: Mapping[Key, StoredScore] = field(default_factory=dict)  # comparing the served answer with this one
    tied: bool = False  # it is the served answer: a learned route keeps the control, or a cascade has asked it as well

    @property
    def failed(self) -> bool:
        return self.state == "failed"


@dataclass(frozen=True, slots=True)
class PairOrigin:
    """Origin and time of the request of a pair."""

    at: float | None = None  # Unix seconds, in the order of the stream; None if unknown
    caller: str | None = None  # the name of its key
    user: str | None = None  # a digest of the end user it names
    conversation: str | None = None  # of a value that is not a whole conversation's: its digest
    whole: bool = False  # the value is a whole conversation's
    prompt: str | None = None  # a digest of its last user message


NOWHERE = PairOrigin()
TIED_BUT = ("cost_usd", "total_s", "first_token_s")
"""Metrics that a tied arm has of its own: a cascade that does not accept its first answer pays and waits for two."""


@dataclass(frozen=True, slots=True)
class JoinedPair:
    """A settled pair: the served answer and those of the other arms to the same request."""

    id: str
    control: ArmObservation
    arms: Mapping[str, ArmObservation]
    cluster: str | None = None  # the conversation or user that the pair belongs to; None if independent
    origin: PairOrigin = NOWHERE
    segments: Mapping[str, str] | None = None  # property → declared value; None if the plan declares no segments
    draw: float = 0.0  # as core.segments.CallSegments has it
    rate: float = 1.0  # of an extra pair: as UnpairedRequest has it

    @property
    def extra(self) -> bool:
        """Whether the pair was drawn for some of its segments only; it then counts in no mean of all calls."""
        return self.draw >= 1.0


@dataclass(frozen=True, slots=True)
class UnpairedRequest:
    """A request that could have become a pair and was not drawn, with its served answer."""

    control: ArmObservation
    rate: float  # the probability with which it was recorded although it makes no pair
    u: float  # uniform on [0, 1), drawn for it


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of a plan."""

    name: str
    source: Source
    identity: str = BUILT_IN  # of the scorer: "version config_hash"
    against: Against = "control"  # the arm is compared with the served answer, or with the control's repeat

    @property
    def bounded(self) -> bool:
        """Whether differences are within [−1, 1]."""
        return self.source not in ("measure", "value", "likelihood")


@dataclass(frozen=True, slots=True)
class PairValue:
    """A metric's value on one pair, in the metric's unit."""

    a: float  # of the control
    b: float  # of the arm
    difference: float  # positive is better for the arm


@dataclass(frozen=True, slots=True)
class WithheldPair:
    """Reason why a metric has no value on a pair."""

    reason: str  # lost, judge_failed, not_applicable, cut, incomplete, or a key of core.likelihood.REFUSALS
    arm: str = ""  # the arm that caused it; "": none


MEASURES = ("total_s", "first_token_s", "cost_per_1k", "output_tokens")
UNITS = {"total_s": "s", "first_token_s": "s", "cost_per_1k": "USD per 1k", "output_tokens": "tokens"}
UNITS |= {NATS_PER_TOKEN: "nats per token"}
SAME_PATH = ("error_rate", "completion", "total_s", "first_token_s")  # these are compared with the control's repeat
LOST, JUDGED = "lost", "judge failed"  # metrics that only the gates use
MISSING = "applies to one arm"
"""Whether the primary has a value of one arm's answer alone, on pairs where it has one of either. Of the gate on
completeness: a candidate whose bad answers have no score would otherwise look as good as the rest of its answers. Of a
preference: whether the pair has none, which does not say whose answer is the reason."""
WORST = "at worst"
"""The primary, where a score that one arm alone lacks, or a missing preference, is the worst possible for the
candidate. With rules 3, a score that the scorer failed to give counts 0 on either arm: what is left of the control's
failures and the candidate's is the candidate's excess."""
WORST_ONES = "at worst, failed scores as 1"
"""The same with 1 for a score that the scorer failed to give, which leaves the control's excess. `ship` needs both."""
NEGLIGIBLE = 0.25  # share of the margin; withheld pairs below it cannot change a verdict
EXCESS_RULES = 3  # from which only one arm's excess of failed scores counts against the candidate
SEGMENT = "segment "
"""Begins the name of the primary within a declared segment: "segment tools=yes". A score that one arm alone lacks is
the worst possible for the candidate there, as in WORST: it could be all of a small segment's losses. A pair whose
scorer failed is in no segment: of a small one, no excess can be told from chance."""
WEAK_SPOTS = "weak spots "
"""Begins the name under which the state of a candidate's search for weak spots is stored, next to the sequences."""
AT_WORST: tuple[Source, ...] = ("worst", "worst_ones")
OF_GATES: tuple[Source, ...] = ("lost", "judge", "missing", *AT_WORST)  # sources of such metrics
ALONE = "failed alone"
"""Whether the candidate failed, on every pair. A pair exists only where the served answer did not fail, so this is no
comparison: the control's own rate on the same requests is known from its repeats only. But that rate is at least 0, so
"the candidate fails in less than the margin" already shows that it does not fail more often by the margin; and this is
known from every pair, whatever the share of repeats."""


def metrics_of(plan: Plan, joined: JoinedPair) -> list[Metric]:
    """Every metric that this pair may have a value of, in a fixed order."""
    if plan.likelihood:
        return _LIKELIHOOD
    again: Against = "repeat" if plan.repeat_control else "control"
    scored: Against = "repeat" if plan.compare == "repeat" else "control"
    found = [Metric("error_rate", "failed", against=again), Metric("completion", "completed", against=again)]
    found += [Metric(ALONE, "failed")] if counts_alone(plan) else []
    if not plan.guarded:
        found += [Metric("cost_per_1k", "measure", against=scored), Metric("output_tokens", "measure", against=scored)]
    if plan.repeat_control:
        found += [Metric("total_s", "measure", against="repeat"), Metric("first_token_s", "measure", against="repeat")]
    found += [Metric(LOST, "lost", against=again)]
    taken = {m.name for m in found}
    found += [m for m in sorted(_scored(joined, scored), key=lambda m: (m.name, m.identity)) if m.name not in taken]
    primary = next((m for m in found if m.name == plan.primary), None)
    if primary is None:
        return found
    found.append(Metric(JUDGED, "judge", primary.identity, primary.against))
    return [*found, *_of_completeness(plan, primary)]


def primary_metric(plan: Plan, metrics: Iterable[Metric]) -> Metric | None:
    """The primary among the metrics of a pair."""
    return next((m for m in metrics if m.name == plan.primary and m.source not in OF_GATES), None)


def segment_value(plan: Plan, primary: Metric, joined: JoinedPair, arm: str) -> PairValue | None:
    """The primary's value within a segment; None if the pair has none there."""
    if primary.source in ("score", "preference"):
        primary = Metric(SEGMENT, "worst", primary.identity, primary.against)
    value = pair_value(plan, primary, joined, arm)
    return value if isinstance(value, PairValue) else None


def _of_completeness(plan: Plan, primary: Metric) -> list[Metric]:
    """The metrics of the gate on completeness; none for a score without bounds, which has no worst value."""
    if plan.rules < 2 or primary.source not in ("score", "value", "preference"):
        return []
    missing = Metric(MISSING, "missing", primary.identity, primary.against)
    worst = [Metric(WORST, "worst", primary.identity, primary.against)] if primary.source != "value" else []
    if plan.rules >= EXCESS_RULES and primary.source == "score":
        worst.append(Metric(WORST_ONES, "worst_ones", primary.identity, primary.against))
    return [missing, *worst]


_LIKELIHOOD = [
    Metric("error_rate", "failed", against="repeat"),
    Metric("completion", "completed", against="repeat"),
    Metric(LOST, "lost", against="repeat"),
    Metric(NATS_PER_TOKEN, "likelihood", against="repeat"),
    Metric(TOP1_AGREEMENT, "agreement", against="repeat"),
]


def counts_alone(plan: Plan) -> bool:
    """Whether a plan has the metric ALONE: not where the control is asked again for every pair, or never."""
    return plan.method in ("hybrid", "anytime") and 0 < plan.repeat_control < 1


def _scored(joined: JoinedPair, against: Against) -> Iterator[Metric]:
    seen = [joined.control, *joined.arms.values()]
    singles = {key: o for arm in seen for key, o in arm.scores.items() if o.status == "scored"}
    for key in {key for arm in seen for key in arm.scores}:
        opinion = singles.get(key)
        bounded = opinion is None or opinion.value is not None
        if opinion is None or opinion.direction != "neutral":
            yield Metric(key[0], "score" if bounded else "value", key[1], against)
    pairwise = {key: o for arm in joined.arms.values() for key, o in arm.pair_scores.items()}
    for key, opinion in pairwise.items():
        distance = opinion.direction == "minimise"
        yield Metric(key[0], "distance" if distance else "preference", key[1], "repeat" if distance else "control")


def pair_value(plan: Plan, metric: Metric, joined: JoinedPair, arm: str) -> PairValue | WithheldPair | None:
    """The metric's value on this pair for one arm, or the reason why it has none.

    None if the arm, or what it is compared with, is not part of this pair, or the scorer did not sample it.
    """
    that = joined.arms.get(AGAIN if plan.likelihood and arm == REPEAT else arm)
    base = joined.control if metric.against == CONTROL else joined.arms.get(REPEAT)
    if that is None or base is None or that is base:
        return None
    if metric.source == "lost":
        return _indicator(base.state == "lost", that.state == "lost")
    for name, each in ((arm, that), (metric.against, base)):
        if each.state == "lost":
            return WithheldPair("lost", name)
    if that.tied:
        name = metric.name if metric.source == "preference" else str(plan.primary)
        if metric.source in _OF_PREFERENCE and (name, metric.identity) in that.pair_scores:
            return _tie(metric)
        that = replace(base, **{name: getattr(that, name) for name in TIED_BUT})
    if metric.source == "judge":
        return _judged(plan, metric, base, that)
    if metric.source in ("missing", *AT_WORST):
        return _one_sided(plan, metric, base, that)
    if plan.rules >= 2 and metric.source in _READ and (cut := _cut(metric, base, that, arm)):
        return cut
    return _TAKERS[metric.source](metric, base, that, arm)


_OF_PREFERENCE: tuple[Source, ...] = ("preference", "worst", "missing", "judge")


def _tie(metric: Metric) -> PairValue:
    """The value of a pair of one answer under a pairwise judge, which is not asked about it."""
    if metric.source in ("preference", "worst"):
        return PairValue(0.5, 0.5, 0.0)
    return PairValue(0.0, 0.0, 0.0)


def _indicator(a: bool, b: bool) -> PairValue:
    """Value of an event that counts against an arm."""
    return PairValue(float(a), float(b), float(a) - float(b))


def _failed(_: Metric, base: ArmObservation, that: ArmObservation, arm: str) -> PairValue:
    return _indicator(base.failed, that.failed)


def _completed(_: Metric, base: ArmObservation, that: ArmObservation, arm: str) -> PairValue:
    return PairValue(float(not base.failed), float(not that.failed), float(base.failed) - float(that.failed))


def _score(metric: Metric, base: ArmObservation, that: ArmObservation, arm: str) -> PairValue | WithheldPair | None:
    key = (metric.name, metric.identity)
    if key not in base.scores or key not in that.scores:
        return None
    found = []
    for name, each in ((metric.against, base), (arm, that)):
        opinion = each.scores[key]
        if each.failed:
            found.append(0.0)
        elif opinion.status not in ANSWERED:
            return WithheldPair("judge_failed", name)
        elif opinion.value is None:
            return WithheldPair("not_applicable")
        else:
            found.append(opinion.value)
    return PairValue(found[0], found[1], found[1] - found[0])


def _value(metric: Metric, base: ArmObservation, that: ArmObservation, arm: str) -> PairValue | WithheldPair | None:
    """The value of an answer; None for a failed answer under a scorer without bounds, which has no worst value."""
    key = (metric.name, metric.identity)
    if key not in base.scores or key not in that.scores:
        return None
    opinions = base.scores[key], that.scores[key]
    for name, opinion in zip((metric.against, arm), opinions, strict=True):
        if opinion.status not in ANSWERED:
            return WithheldPair("judge_failed", name)
    a, b = opinions[0].raw, opinions[1].raw
    if a is None or b is None or base.failed or that.failed:
        return WithheldPair("not_applicable")
    return PairValue(a, b, a - b if opinions[0].direction == "minimise" else b - a)


def _preference(
    metric: Metric, base: ArmObservation, that: ArmObservation, arm: str
) -> PairValue | WithheldPair | None:
    """The wins of each arm (a tie counts half); their difference is in [−1, 1]."""
    wins = _compared(metric, that, arm)
    return wins if wins is None or isinstance(wins, WithheldPair) else PairValue(1 - wins, wins, 2 * wins - 1)


def _distance(metric: Metric, base: ArmObservation, that: ArmObservation, arm: str) -> PairValue | WithheldPair | None:
    """The distance from the served answer to the control's repeat, and to the candidate's answer."""
    values = []
    for name, observed in ((REPEAT, base), (arm, that)):
        value = _compared(metric, observed, name)
        if value is None or isinstance(value, WithheldPair):
            return value
        values.append(value)
    return PairValue(values[0], values[1], values[0] - values[1])


def _compared(metric: Metric, observed: ArmObservation, arm: str) -> float | WithheldPair | None:
    """Result of a scorer of pairs on an answer and the served one; None if there is none yet."""
    opinion = observed.pair_scores.get((metric.name, metric.identity))
    if opinion is None:
        return None
    if opinion.status not in ANSWERED:
        return WithheldPair("judge_failed", arm)
    return WithheldPair("not_applicable") if opinion.raw is None else opinion.raw


def _measure(metric: Metric, base: ArmObservation, that: ArmObservation, arm: str) -> PairValue | WithheldPair:
    """Measures one metric of which less is better. A timeout counts with the time until then, which is a lower bound of
    its latency."""
    a, b = (_measured(metric.name, each) for each in (base, that))
    if a is None or b is None:
        return WithheldPair("incomplete", metric.against if a is None else arm)
    return PairValue(a, b, a - b)


def _measured(name: str, seen: ArmObservation) -> float | None:
    if name == "total_s" and seen.outcome == "timeout":
        return seen.total_s
    if seen.failed:
        return None
    value = {
        "total_s": seen.total_s,
        "first_token_s": seen.first_token_s,
        "output_tokens": seen.output_tokens,
        "cost_per_1k": None if seen.cost_usd is None else 1000 * seen.cost_usd,
    }[name]
    return None if value is None else float(value)


def _likelihood(metric: Metric, base: ArmObservation, that: ArmObservation, arm: str) -> PairValue | WithheldPair:
    """Nats per token of the served answer: less is better. An engine that fails has no likelihood."""
    for name, each in ((metric.against, base), (arm, that)):
        if each.failed and (each.likelihood is None or each.likelihood.refused not in NOT_ANSWERED):
            return WithheldPair("incomplete", name)
    pair = likelihood_pair(base.likelihood, that.likelihood)
    if isinstance(pair, NotComparable):
        return WithheldPair(pair.reason, arm if pair.of_b else metric.against)
    if metric.source == "agreement":
        return PairValue(1.0, pair.agreement, pair.agreement - 1.0)
    return PairValue(pair.a, pair.b, pair.a - pair.b)


def _judged(plan: Plan, metric: Metric, base: ArmObservation, that: ArmObservation) -> PairValue | None:
    """Whether the primary's judge failed on each arm."""
    key = (str(plan.primary), metric.identity)

    def failed(seen: ArmObservation) -> bool | None:
        opinion = seen.scores.get(key) or seen.pair_scores.get(key)
        return None if opinion is None else opinion.status not in ANSWERED

    a, b = failed(base), failed(that)
    if b is None or (a is None and key in base.scores):
        return None
    return _indicator(bool(a), b)


_READ = ("score", "value", "preference", "distance")  # sources that read an answer to its end


def _cut(metric: Metric, base: ArmObservation, that: ArmObservation, arm: str) -> WithheldPair | None:
    """A score of an answer whose record was cut does not count as a score of the answer."""
    for name, each in ((metric.against, base), (arm, that)):
        if each.truncated and not each.failed:
            return WithheldPair("cut", name)
    return None


def _one_sided(plan: Plan, metric: Metric, base: ArmObservation, that: ArmObservation) -> PairValue | None:
    """Values of MISSING; None if the primary has no value of either answer, was not sampled, or its judge failed."""
    key, found = (str(plan.primary), metric.identity), []
    if key in that.pair_scores:
        return _without_preference(metric, base, that, that.pair_scores[key])
    if plan.rules >= EXCESS_RULES and metric.name != SEGMENT and metric.source in AT_WORST:
        return _with_failed_scores(metric, key, base, that)
    for each in (base, that):
        opinion = each.scores.get(key)
        if opinion is None or (opinion.status not in ANSWERED and not each.failed):
            return None
        found.append(_known(opinion, each))
    a, b = found
    if a is None and b is None:
        return None
    if metric.source == "missing":
        return _indicator(a is None, b is None)
    a, b = 1.0 if a is None else a, 0.0 if b is None else b
    return PairValue(a, b, b - a)


def _with_failed_scores(metric: Metric, key: Key, base: ArmObservation, that: ArmObservation) -> PairValue | None:
    """The primary at worst, with one constant for each score that its scorer failed to give. None if it failed on both
    answers, was not sampled, or applies to neither."""
    constant = 1.0 if metric.source == "worst_ones" else 0.0
    if key not in base.scores or key not in that.scores:
        return None
    broken = [seen.scores[key].status not in ANSWERED and not seen.failed for seen in (base, that)]
    known = [_known(seen.scores[key], seen) for seen in (base, that)]
    if all(broken) or (known == [None, None] and not any(broken)):
        return None
    worst = [1.0 if known[0] is None else known[0], 0.0 if known[1] is None else known[1]]
    a, b = (constant if failed else value for failed, value in zip(broken, worst, strict=True))
    return PairValue(a, b, b - a)


def _without_preference(
    metric: Metric, base: ArmObservation, that: ArmObservation, opinion: StoredScore
) -> PairValue | None:
    """MISSING of a preference, which a pair has or lacks; a missing one counts for the control."""
    if opinion.status not in ANSWERED:
        return None
    cut = any(each.truncated and not each.failed for each in (base, that))
    wins = None if cut else opinion.raw
    if metric.source == "missing":
        return _indicator(False, wins is None)
    wins = 0.0 if wins is None else wins
    return PairValue(1 - wins, wins, 2 * wins - 1)


def _known(opinion: StoredScore, seen: ArmObservation) -> float | None:
    """The primary's value of one answer, on [0, 1] where it has bounds. None if it does not apply, or was cut."""
    if seen.failed:
        return 0.0
    if seen.truncated:
        return None
    return opinion.raw if opinion.value is None else opinion.value


_TAKERS = {
    "score": _score,
    "value": _value,
    "preference": _preference,
    "distance": _distance,
    "failed": _failed,
    "completed": _completed,
    "measure": _measure,
    "likelihood": _likelihood,
    "agreement": _likelihood,
}


def known_before(control: ArmObservation, scorer: Key | None) -> tuple[float, float, float, float] | None:
    """Covariates of the primary: facts about a request and its served answer, whether or not it becomes a pair.

    The last is the predictor's expectation, 0.5 without one; sequences that began before it was known ignore it.

    scorer: whose score of the served answer is one of them; None if the primary is not a score of one answer. None as a
    result: that score is missing.
    """
    opinion = control.scores.get(scorer) if scorer is not None else None
    value = 0.0 if scorer is None else None if opinion is None else opinion.value
    if value is None:
        return None
    expected = 0.5 if control.predicted is None else control.predicted
    return value, math.log1p(control.request_bytes or 0), math.log1p(control.output_tokens or 0), expected


def noise_metrics(metrics: Iterable[Metric]) -> list[Metric]:
    """The metrics that compare the control's repeat with the served answer, or with itself once more: the A/A pairs."""
    likelihoods = ("likelihood", "agreement")
    return [m for m in metrics if m.source in likelihoods or _compares_served(m)]


def _compares_served(m: Metric) -> bool:
    return m.against == "control" and m.source not in OF_GATES and m.name != ALONE
