"""What each metric takes from a pair: a number of each arm and their difference, or why it takes none. Pure.

Differences are turned so that positive is better for the candidate. An arm that was asked and failed has a score of 0
and a distance of 1; one whose record was lost, or whose judge failed, has none, and the pair is withheld and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from gateway.core.plan import CONTROL, REPEAT, Plan

Source = Literal[
    "score", "value", "preference", "distance", "failed", "completed", "measure", "lost", "judge"
]  # where the numbers are from
Against = Literal["control", "repeat"]
Key = tuple[str, str]  # name of a scorer; version and hash of its options, since these do not mix
BUILT_IN = "-"  # identity of metrics that no scorer gives
ANSWERED = ("scored", "not_applicable")


@dataclass(frozen=True, slots=True)
class StoredScore:
    """A row of scores. value: on [0, 1] with 1 best where the scorer has bounds; raw: as it was said."""

    status: str
    value: float | None = None
    raw: float | None = None
    direction: str = "maximise"


@dataclass(frozen=True, slots=True)
class ArmObservation:
    """One arm of a pair. state: failed: asked, and no whole answer came; lost: its record never came. beside: what pair
    scorers said of the served answer and this one."""

    state: Literal["ok", "failed", "lost"]
    exchange: str | None = None
    outcome: str = "ok"
    total_s: float | None = None
    first_token_s: float | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    scores: Mapping[Key, StoredScore] = field(default_factory=dict)
    beside: Mapping[Key, StoredScore] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return self.state == "failed"


@dataclass(frozen=True, slots=True)
class JoinedPair:
    """A settled pair. arms: those that were asked beside the served answer."""

    id: str
    control: ArmObservation
    arms: Mapping[str, ArmObservation]
    cluster: str | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """against: what the arm is compared with: the served answer, or the control asked again by the same path."""

    name: str
    source: Source
    identity: str = BUILT_IN
    against: Against = "control"

    @property
    def bounded(self) -> bool:
        """Differences lie in [−1, 1]."""
        return self.source not in ("measure", "value")


@dataclass(frozen=True, slots=True)
class PairValue:
    """a: of the control; b: of the arm; both in the metric's units. difference: positive is better for the arm."""

    a: float
    b: float
    difference: float


@dataclass(frozen=True, slots=True)
class WithheldPair:
    """reason: lost, judge_failed, not_applicable or incomplete. arm: whose doing it is; "": nobody's."""

    reason: str
    arm: str = ""


MEASURES = ("total_s", "first_token_s", "cost_per_1k", "output_tokens")
UNITS = {"total_s": "s", "first_token_s": "s", "cost_per_1k": "USD per 1k", "output_tokens": "tokens"}
SAME_PATH = ("error_rate", "completion", "total_s", "first_token_s")  # claims of these need the control asked again
LOST, JUDGED = "lost", "judge failed"  # sequences of the gates


def metrics_of(plan: Plan, joined: JoinedPair) -> list[Metric]:
    """All that this pair may say something of, in one order everywhere."""
    again: Against = "repeat" if plan.repeat_control else "control"
    found = [Metric("error_rate", "failed", against=again), Metric("completion", "completed", against=again)]
    found += [Metric("cost_per_1k", "measure"), Metric("output_tokens", "measure")]
    if plan.repeat_control:
        found += [Metric("total_s", "measure", against="repeat"), Metric("first_token_s", "measure", against="repeat")]
    found += [Metric(LOST, "lost", against=again)]
    taken = {m.name for m in found}
    found += [m for m in sorted(_scored(joined), key=lambda m: (m.name, m.identity)) if m.name not in taken]
    primary = next((m for m in found if m.name == plan.primary), None)
    return [*found, Metric(JUDGED, "judge", primary.identity, primary.against)] if primary else found


def _scored(joined: JoinedPair) -> Iterator[Metric]:
    seen = [joined.control, *joined.arms.values()]
    singles = {key: o for arm in seen for key, o in arm.scores.items() if o.status == "scored"}
    for key in {key for arm in seen for key in arm.scores}:
        opinion = singles.get(key)
        bounded = opinion is None or opinion.value is not None
        if opinion is None or opinion.direction != "neutral":
            yield Metric(key[0], "score" if bounded else "value", key[1])
    pairwise = {key: o for arm in joined.arms.values() for key, o in arm.beside.items()}
    for key, opinion in pairwise.items():
        distance = opinion.direction == "minimise"
        yield Metric(key[0], "distance" if distance else "preference", key[1], "repeat" if distance else "control")


def pair_value(plan: Plan, metric: Metric, joined: JoinedPair, arm: str) -> PairValue | WithheldPair | None:
    """None: the arm was not asked here, or not what it is compared with, or the scorer was not drawn."""
    that = joined.arms.get(arm)
    base = joined.control if metric.against == CONTROL else joined.arms.get(REPEAT)
    if that is None or base is None or that is base:
        return None
    if metric.source == "lost":
        return _indicator(base.state == "lost", that.state == "lost")
    for name, each in ((arm, that), (metric.against, base)):
        if each.state == "lost":
            return WithheldPair("lost", name)
    if metric.source == "judge":
        return _judged(plan, metric, base, that)
    return _TAKERS[metric.source](metric, base, that, arm)


def _indicator(a: bool, b: bool) -> PairValue:
    """Of something bad."""
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
    """A scorer without bounds: nothing stands for a failed answer."""
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
    """The share of wins (ties half) of each; their difference is in [−1, 1]."""
    opinion = that.beside.get((metric.name, metric.identity))
    if opinion is None:
        return None
    if opinion.status not in ANSWERED:
        return WithheldPair("judge_failed", arm)
    if opinion.raw is None:
        return WithheldPair("not_applicable")
    return PairValue(1 - opinion.raw, opinion.raw, 2 * opinion.raw - 1)


def _distance(metric: Metric, base: ArmObservation, that: ArmObservation, arm: str) -> PairValue | WithheldPair | None:
    """How far the served answer is from the control's next one, and how far from the candidate's."""
    opinions = {name: s.beside.get((metric.name, metric.identity)) for name, s in ((REPEAT, base), (arm, that))}
    values = []
    for name, opinion in opinions.items():
        if opinion is None:
            return None
        if opinion.status not in ANSWERED:
            return WithheldPair("judge_failed", name)
        if opinion.raw is None:
            return WithheldPair("not_applicable")
        values.append(opinion.raw)
    return PairValue(values[0], values[1], values[0] - values[1])


def _measure(metric: Metric, base: ArmObservation, that: ArmObservation, arm: str) -> PairValue | WithheldPair:
    """Less is better. One that was given up counts with the time until then, since it took at least so long."""
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


def _judged(plan: Plan, metric: Metric, base: ArmObservation, that: ArmObservation) -> PairValue | None:
    """Whether the primary's judge failed, by arm."""
    key = (str(plan.primary), metric.identity)

    def failed(seen: ArmObservation) -> bool | None:
        opinion = seen.scores.get(key) or seen.beside.get(key)
        return None if opinion is None else opinion.status not in ANSWERED

    a, b = failed(base), failed(that)
    if b is None or (a is None and key in base.scores):
        return None
    return _indicator(bool(a), b)


_TAKERS = {
    "score": _score,
    "value": _value,
    "preference": _preference,
    "distance": _distance,
    "failed": _failed,
    "completed": _completed,
    "measure": _measure,
}


def noise_metrics(metrics: Iterable[Metric]) -> list[Metric]:
    """Those of which the control asked again can be compared with the served answer: the A/A pairs."""
    return [m for m in metrics if m.against == "control" and m.source not in ("lost", "judge")]
