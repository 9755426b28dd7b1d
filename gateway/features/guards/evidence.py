"""Estimates of how often a guard has a hit, and how often it is wrong, from its recorded decisions and from people's
labels.

Every call stands for 1 / π calls; a labelled one for 1 / (π of its record times π of its draw). The decisions are those
with the config that decided last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gateway.core.guards import GuardAction, GuardResult, GuardSide
from gateway.features.guards.rows import DecisionSpan, DecisionSums, decision_span, decision_sums, unsampled_strata
from gateway.features.labels.correction import LabelledItem, StoredLabel, labelled_items
from gateway.features.labels.desk import newest_version
from gateway.features.labels.rows import OF_GUARD, ON_REQUESTS, ScorerVersion, labels_of_guard
from gateway.statistics.detection import PartSums, ShareEstimate, WeightSums, recall, share_of_calls
from gateway.statistics.failure_groups import clustered_rate
from gateway.store.query import Reading

ALPHA = 0.05
JUDGED: tuple[GuardResult, ...] = ("hit", "near", "pass")
_OBJECTED = 0.5  # the label below which a hit would be right


@dataclass(frozen=True, slots=True)
class LabelledShare:
    """A share estimated from labelled calls, with its interval of 95 %."""

    share: float
    low: float
    high: float
    right: int
    """Labelled calls in it, not weighted."""
    labelled: int


@dataclass(frozen=True, slots=True)
class KeyShare:
    """A guard's hits in the calls of one key."""

    key: str
    """The key's name."""
    calls: float
    """Estimated number of calls judged."""
    hits: float
    """Estimated number of calls with a hit: those that are refused where the guard blocks."""
    share: ShareEstimate
    """Share of its calls, with the interval of 95 %."""


@dataclass(frozen=True, slots=True)
class GuardEvidence:
    """Summary of one guard's decisions, and of its mistakes. Shares have intervals of 95 %, for one look."""

    guard: str
    on: GuardSide
    action: GuardAction | None
    """Action in force for the newest call; None: no call is that new."""
    config_hash: str
    since: float | None
    """Arrival of the oldest call that counts here, Unix seconds; None: there is none."""
    recorded: int
    """Decisions on recorded calls that count here."""
    other_configs: int
    """Decisions with an earlier config, which do not count."""
    calls: float
    """Estimated number of calls judged, recorded or not."""
    hit: ShareEstimate | None
    """Share of the calls judged; None: none was judged."""
    near: ShareEstimate | None
    failed: ShareEstimate | None
    """Share of all calls for which the guard gave no score."""
    keys: tuple[KeyShare, ...]
    """Keys, most hits first."""
    labels: int
    """Labelled calls with a known probability."""
    precision: LabelledShare | None
    """Share of the calls with a hit for which people say that the hit was right; None: none is labelled."""
    recall: LabelledShare | None
    """Share of the calls that should have a hit that have one. right: labelled calls with a right hit; labelled: those
    that should have one."""
    missed: LabelledShare | None
    """Share of the calls without a hit that should have had one; None: none of them is labelled."""
    recall_unknown: str | None
    """Reason why recall is None."""
    unsampled: tuple[str, ...] = ()
    """Strata of its models of which sampling drew no call: no share speaks of their calls without a hit."""


@dataclass(frozen=True, slots=True)
class _LabelledPart:
    """The calls of one result, and the labels among them."""

    calls: WeightSums
    items: tuple[LabelledItem, ...]
    weights: tuple[float, ...]
    """1 / π of each item, of its record and of its draw together."""

    @property
    def objected(self) -> list[bool]:
        return [item.y < _OBJECTED for item in self.items]

    @property
    def share(self) -> LabelledShare | None:
        if not self.items:
            return None
        found, right = self.estimate(), self.objected
        return LabelledShare(found.share, found.low, found.high, sum(right), len(right))

    def estimate(self) -> ShareEstimate:
        units = np.unique([item.unit or item.id for item in self.items], return_inverse=True)[1]
        found = clustered_rate(np.array(self.objected, dtype=np.bool_), np.array(self.weights), units, ALPHA)
        return ShareEstimate(found.value, found.low, found.high)


@dataclass(frozen=True, slots=True)
class GuardRecords:
    """Stored records of a guard since some time."""

    version: ScorerVersion
    """The config with which it decided last."""
    span: DecisionSpan
    sums: Sequence[DecisionSums]
    labels: Sequence[StoredLabel]
    """See labels_of_guard."""
    unsampled: tuple[str, ...]
    """See unsampled_strata."""


def evidence_of(connection: Reading, guard: str, since: float) -> GuardEvidence:
    """since: Unix seconds. Raises CannotRun if the guard has decided on no recorded call."""
    version = newest_version(connection, OF_GUARD + guard)
    span, sums = decision_span(connection, version, since), decision_sums(connection, version, since)
    labels, unsampled = labels_of_guard(connection, version, since), unsampled_strata(connection, version, since)
    return estimated(GuardRecords(version, span, sums, labels, unsampled))


def estimated(records: GuardRecords) -> GuardEvidence:
    version, span, sums = records.version, records.span, records.sums
    items = [item for item in labelled_items(version.scorer, records.labels) if item.pi > 0]
    recorded = {row["subject_id"]: float(row["weight"]) for row in records.labels}
    parts = {result: _part(result, sums, items, recorded) for result in JUDGED}
    found, unknown = _recall(parts, sums)
    judged, failed = _total(sums, JUDGED), _total(sums, ("failed",))
    return GuardEvidence(
        guard=version.scorer.removeprefix(OF_GUARD),
        on="request" if version.version == ON_REQUESTS else "answer",
        action=span.action,
        config_hash=version.config_hash,
        since=span.first,
        recorded=span.n - span.other_configs,
        other_configs=span.other_configs,
        calls=judged.weight,
        hit=_share(parts["hit"].calls, judged),
        near=_share(parts["near"].calls, judged),
        failed=_share(failed, judged + failed),
        keys=_keys(sums),
        labels=len(items),
        precision=parts["hit"].share,
        recall=found,
        missed=_missed(parts),
        recall_unknown=unknown,
        unsampled=records.unsampled,
    )


def _part(
    result: GuardResult, sums: Iterable[DecisionSums], items: Iterable[LabelledItem], recorded: Mapping[str, float]
) -> _LabelledPart:
    mine = tuple(item for item in items if item.key[3] == result)
    return _LabelledPart(_total(sums, (result,)), mine, tuple(recorded[i.id] / i.pi for i in mine))


def _total(sums: Iterable[DecisionSums], results: Sequence[GuardResult]) -> WeightSums:
    return sum((each.sums for each in sums if each.result in results), WeightSums())


def _share(these: WeightSums, whole: WeightSums) -> ShareEstimate | None:
    """these: a part of the whole. None: the whole is empty."""
    if whole.weight <= 0:
        return None
    others = WeightSums(max(0.0, whole.weight - these.weight), max(0.0, whole.squares - these.squares))
    return share_of_calls(these, others, ALPHA)


def _keys(sums: Sequence[DecisionSums]) -> tuple[KeyShare, ...]:
    found = []
    for caller in {each.caller for each in sums}:
        mine = [each for each in sums if each.caller == caller]
        hits, judged = _total(mine, ("hit",)), _total(mine, JUDGED)
        share = _share(hits, judged)
        if share is not None:
            found.append(KeyShare(caller, judged.weight, hits.weight, share))
    return tuple(sorted(found, key=lambda each: (-each.hits, -each.calls, each.key)))


def _missed(parts: Mapping[GuardResult, _LabelledPart]) -> LabelledShare | None:
    near, rest = parts["near"], parts["pass"]
    calls = near.calls + rest.calls
    return _LabelledPart(calls, near.items + rest.items, near.weights + rest.weights).share


def _recall(
    parts: Mapping[GuardResult, _LabelledPart], sums: Sequence[DecisionSums]
) -> tuple[LabelledShare | None, str | None]:
    """The recall, or why it is unknown."""
    unknown = _unknown(parts, sums)
    if unknown is not None:
        return None, unknown
    made = {result: PartSums(part.calls, part.estimate()) for result, part in parts.items() if part.items}
    hits = made.pop("hit")
    found = recall(hits, made.values(), ALPHA)
    if found is None:
        return None, "none of the labelled calls should have had a hit"
    wanted = sum(sum(part.objected) for part in parts.values())
    return LabelledShare(found.share, found.low, found.high, sum(parts["hit"].objected), wanted), None


def _unknown(parts: Mapping[GuardResult, _LabelledPart], sums: Sequence[DecisionSums]) -> str | None:
    if not any(each.sampled for each in sums if each.result == "pass"):
        return (
            "no call without a hit was drawn by sampling, so calls that the guard misses are not in the records: set "
            "sampling.rate above 0"
        )
    names: tuple[tuple[GuardResult, str], ...] = (
        ("hit", "with a hit"),
        ("near", "nearly hit"),
        ("pass", "without a hit"),
    )
    open_ = [name for result, name in names if parts[result].calls.weight > 0 and not parts[result].items]
    if open_:
        return f"no call {' and none '.join(open_)} is labelled yet"
    return None if parts["hit"].items else "the guard had no hit"
