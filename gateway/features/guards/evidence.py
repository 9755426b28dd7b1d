"""Estimates of how often a guard has a hit, and how often it is wrong, from its recorded decisions and from people's
labels.

Every call stands for 1 / π calls; a labelled one for 1 / (π of its record times π of its draw). The decisions are those
with the config that decided last. Hits come together: in bursts, and within conversations. So each interval is the
widest of those of independent calls, of conversations, and of blocks of time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gateway.core.guards import GuardAction, GuardFailure, GuardResult, GuardSide
from gateway.features.guards.hourly.hours import DAY_S, HOUR_S, JUDGED, DecisionHour, Hours, ResultSums, seconds_at
from gateway.features.guards.hourly.usual_range import GuardDrift, drift_of
from gateway.features.guards.rows import hours_since, unsampled_strata, watched
from gateway.features.labels.correction import LabelledItem, StoredLabel, labelled_items
from gateway.features.labels.desk import newest_version
from gateway.features.labels.rows import OF_GUARD, ON_REQUESTS, ScorerVersion, labels_of_guard
from gateway.statistics.detection import ClusterSums, PartSums, ShareEstimate, WeightSums, recall, share_of_calls
from gateway.statistics.failure_groups import clustered_rate
from gateway.store.query import Reading

K = TypeVar("K")
ALPHA = 0.05
FEWEST_BLOCKS = 10
"""Number of blocks of time below which it cannot be known whether hits come together."""
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
    """Action in force for the newest call; None if no call is that new."""
    config_hash: str
    since: float | None
    """Arrival of the oldest call that counts here, Unix seconds; None if there is none."""
    recorded: int
    """Decisions on recorded calls that count here."""
    other_configs: int
    """Decisions with an earlier config, which do not count."""
    calls: float
    """Estimated number of calls judged, recorded or not."""
    hit: ShareEstimate | None
    """Share of the calls judged; None if none was judged."""
    near: ShareEstimate | None
    failed: ShareEstimate | None
    """Share of all calls for which the guard gave no score."""
    keys: tuple[KeyShare, ...]
    """Keys, most hits first."""
    labels: int
    """Labelled calls with a known probability."""
    precision: LabelledShare | None
    """Share of the calls with a hit for which people say that the hit was right; None if none is labelled."""
    recall: LabelledShare | None
    """Share of the calls that should have a hit that have one. right: labelled calls with a right hit; labelled: those
    that should have one."""
    missed: LabelledShare | None
    """Share of the calls without a hit that should have had one; None if none of them is labelled."""
    recall_unknown: str | None
    """Reason why recall is None."""
    unsampled: tuple[str, ...] = ()
    """Strata of its models of which sampling drew no call: no share speaks of their calls without a hit."""
    acted: float = 0.0
    """Estimated number of calls that got a flag, a mark or a refusal."""
    failures: Mapping[GuardFailure, float] = field(default_factory=dict)
    """Estimated number of calls without a score, by reason; `timeout` are the late ones."""
    p99_s: float | None = None
    """Time within which 99 % of its decisions were made, to within a quarter; None if there are none."""
    few_blocks: bool = False
    """Whether fewer than ten quarters of an hour have calls, so that the intervals take calls as independent over
    time."""
    drift: GuardDrift | None = None
    """Whether its hits or scores have left their usual range; None if that is not known yet."""


@dataclass(frozen=True, slots=True)
class _LabelledPart:
    """The calls of one result, and the labels among them."""

    calls: WeightSums
    items: tuple[LabelledItem, ...]
    weights: tuple[float, ...]
    """1 / π of each item, of its record and of its draw together."""
    blocks: tuple[str, ...]
    """The key and the hour of each item."""

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
        """The share with the interval of conversations, or with that of the calls of a key within an hour, whichever is
        wider; fewer than ten such blocks do not tell whether their calls depend on each other."""
        objected, weights = np.array(self.objected, dtype=np.bool_), np.array(self.weights)
        units = [item.unit or item.id for item in self.items]
        ways = [units, self.blocks] if len(set(self.blocks)) >= FEWEST_BLOCKS else [units]
        found = [clustered_rate(objected, weights, _numbered(names), ALPHA) for names in ways]
        return ShareEstimate(found[0].value, min(f.low for f in found), max(f.high for f in found))


def _numbered(names: Sequence[str]) -> NDArray[np.intp]:
    return np.unique(names, return_inverse=True)[1]


@dataclass(frozen=True, slots=True)
class GuardRecords:
    """Stored records of a guard since some time."""

    version: ScorerVersion
    """The config with which it decided last."""
    hours: Hours
    labels: Sequence[StoredLabel]
    """See labels_of_guard."""
    unsampled: tuple[str, ...]
    """See unsampled_strata."""
    drift: GuardDrift | None = None


def evidence_of(connection: Reading, guard: str, since: float, now: float) -> GuardEvidence:
    """since, now: Unix seconds. Raises CannotRun if the guard has decided on no recorded call."""
    version = newest_version(connection, OF_GUARD + guard)
    hours = hours_since(connection, guard, since, now)
    labels, unsampled = labels_of_guard(connection, version, since), unsampled_strata(connection, version, since)
    drift = drift_of(guard, watched(connection, guard)[0])
    return estimated(GuardRecords(version, hours, labels, unsampled, drift))


def estimated(records: GuardRecords) -> GuardEvidence:
    version = records.version
    hours = {
        begin: hour
        for begin, of in sorted(records.hours.items())
        for hour in of
        if hour.same_config(version.version, version.config_hash)
    }
    sums = _DecisionSums(hours)
    parts = _parts(records, sums)
    found, unknown = _recall(parts, sums)
    judged, failed = sums.total(JUDGED), sums.total(("failed",))
    n = sum(hour_n for of in records.hours.values() for hour_n in map(_recorded, of))
    recorded = sum(map(_recorded, hours.values()))
    return GuardEvidence(
        guard=version.scorer.removeprefix(OF_GUARD),
        on="request" if version.version == ON_REQUESTS else "answer",
        action=_newest_action(records.hours),
        config_hash=version.config_hash,
        since=min((hour.first for hour in hours.values()), default=None),
        recorded=recorded,
        other_configs=n - recorded,
        calls=judged.weight,
        hit=sums.share(("hit",), JUDGED),
        near=sums.share(("near",), JUDGED),
        failed=sums.share(("failed",), (*JUDGED, "failed")) if judged.weight + failed.weight > 0 else None,
        keys=sums.keys(),
        labels=sum(len(part.items) for part in parts.values()),
        precision=parts["hit"].share,
        recall=found,
        missed=_missed(parts),
        recall_unknown=unknown,
        unsampled=records.unsampled,
        acted=sum(hour.acted for hour in hours.values()),
        failures=_added(hour.failures for hour in hours.values()),
        p99_s=seconds_at(0.99, _added(hour.seconds for hour in hours.values())),
        few_blocks=judged.weight > 0 and not sums.blocks,
        drift=records.drift,
    )


def hit_share(hours: Hours, config: tuple[str, str]) -> tuple[ShareEstimate | None, float]:
    """(the share of hits, the estimated number of judged calls) of these hours. None if no call was judged. config:
    side and hash.
    """
    mine = {begin: hour for begin, of in hours.items() for hour in of if hour.same_config(*config)}
    sums = _DecisionSums(mine)
    return sums.share(("hit",), JUDGED), sums.total(JUDGED).weight


def _recorded(hour: DecisionHour) -> int:
    return sum(of.n for caller in hour.callers.values() for of in caller.results.values())


def _newest_action(hours: Hours) -> GuardAction | None:
    found = [hour for of in hours.values() for hour in of]
    return max(found, key=lambda hour: hour.last).action if found else None


def _added(maps: Iterable[Mapping[K, float]]) -> dict[K, float]:
    found: dict[K, float] = {}
    for each in maps:
        for key, weight in each.items():
            found[key] = found.get(key, 0.0) + weight
    return found


class _DecisionSums:
    """The hours of one config, added up in several ways."""

    def __init__(self, hours: Mapping[float, DecisionHour]) -> None:
        self._hours = hours
        self._callers: dict[str, dict[GuardResult, ResultSums]] = {}
        for hour in hours.values():
            for name, of in hour.callers.items():
                mine = self._callers.setdefault(name, {})
                for result, more in of.results.items():
                    mine.setdefault(result, ResultSums()).plus(more)
        busy = sum(hour.weight(*JUDGED) > 0 for hour in hours.values())
        quarters = sum(quarter.judged > 0 for hour in hours.values() for quarter in hour.quarters)
        self.blocks = "hours" if busy >= FEWEST_BLOCKS else "quarters" if quarters >= FEWEST_BLOCKS else ""
        """The blocks of time that tell whether hits come together; "" if too few have calls."""

    def total(self, results: Sequence[GuardResult], caller: str | None = None) -> WeightSums:
        mine = self._callers.values() if caller is None else [self._callers[caller]]
        return sum((of[r].sums for of in mine for r in results if r in of), WeightSums())

    def sampled(self, result: GuardResult) -> int:
        return sum(of[result].sampled for of in self._callers.values() if result in of)

    def share(
        self, these: Sequence[GuardResult], among: Sequence[GuardResult], caller: str | None = None
    ) -> ShareEstimate | None:
        """The share of these decisions among others; None if there are no others."""
        part, whole = self.total(these, caller), self.total(among, caller)
        if whole.weight <= 0:
            return None
        others = WeightSums(max(0.0, whole.weight - part.weight), max(0.0, whole.squares - part.squares))
        some = 0.0 < part.weight < whole.weight  # otherwise nothing is known of how they come together
        clusterings = [*self._by_time(these, among, caller)] if some else []
        if tuple(these) == ("hit",):
            clusterings.append(self._units(caller))
        return share_of_calls(part, others, ALPHA, clusterings)

    def _units(self, caller: str | None) -> ClusterSums:
        return sum(
            (of.units for hour in self._hours.values() for name, of in hour.callers.items() if caller in (None, name)),
            ClusterSums(),
        )

    def _by_time(
        self, these: Sequence[GuardResult], among: Sequence[GuardResult], caller: str | None
    ) -> Iterable[ClusterSums]:
        """Blocks of calls: hours and, where there are enough, days; or quarters of an hour, if only they are known."""
        if self.blocks == "quarters" and tuple(these) == ("hit",) and caller is None:
            yield _clusters((q.hits, q.judged) for hour in self._hours.values() for q in hour.quarters)
        if self.blocks == "hours":
            hours = {
                begin: (_weight(hour, these, caller), _weight(hour, among, caller))
                for begin, hour in self._hours.items()
            }
            yield _clusters(hours.values())
            days = _added({begin // DAY_S: a} for begin, (a, _) in hours.items())
            calls = _added({begin // DAY_S: b} for begin, (_, b) in hours.items())
            if len(days) >= FEWEST_BLOCKS:
                yield _clusters((days[day], calls[day]) for day in days)

    def keys(self) -> tuple[KeyShare, ...]:
        found = []
        for caller in self._callers:
            share = self.share(("hit",), JUDGED, caller)
            if share is not None:
                calls, hits = self.total(JUDGED, caller).weight, self.total(("hit",), caller).weight
                found.append(KeyShare(caller, calls, hits, share))
        return tuple(sorted(found, key=lambda each: (-each.hits, -each.calls, each.key)))


def _weight(hour: DecisionHour, results: Sequence[GuardResult], caller: str | None) -> float:
    if caller is None:
        return hour.weight(*results)
    of = hour.callers.get(caller)
    return 0.0 if of is None else sum(of.results[r].weight for r in results if r in of.results)


def _clusters(blocks: Iterable[tuple[float, float]]) -> ClusterSums:
    """blocks: the weight of the calls of one kind, and of all calls, in each block."""
    found = ClusterSums()
    for a, b in blocks:
        found = found.with_cluster(a, b) if b > 0 else found
    return found


def _parts(records: GuardRecords, sums: _DecisionSums) -> dict[GuardResult, _LabelledPart]:
    items = [item for item in labelled_items(records.version.scorer, records.labels) if item.pi > 0]
    recorded = {row["subject_id"]: row for row in records.labels}
    parts = {}
    for result in JUDGED:
        mine = tuple(item for item in items if item.key[3] == result)
        rows = [recorded[item.id] for item in mine]
        weights = tuple(float(row["weight"]) / item.pi for row, item in zip(rows, mine, strict=True))
        blocks = tuple(f"{row['caller']} {row['received'] // HOUR_S:.0f}" for row in rows)
        parts[result] = _LabelledPart(sums.total((result,)), mine, weights, blocks)
    return parts


def _missed(parts: Mapping[GuardResult, _LabelledPart]) -> LabelledShare | None:
    near, rest = parts["near"], parts["pass"]
    calls = near.calls + rest.calls
    return _LabelledPart(calls, near.items + rest.items, near.weights + rest.weights, near.blocks + rest.blocks).share


def _recall(parts: Mapping[GuardResult, _LabelledPart], sums: _DecisionSums) -> tuple[LabelledShare | None, str | None]:
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


def _unknown(parts: Mapping[GuardResult, _LabelledPart], sums: _DecisionSums) -> str | None:
    if not sums.sampled("pass"):
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
