"""Finds groups of failing calls: leaves of a small tree, grown on half of the calls and measured on the other. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gateway.core.randomization import draw
from gateway.features.groups.features import FeatureTable, table_of_calls, table_of_words, telling_words
from gateway.features.groups.rows import CallChoice, ScoredCall
from gateway.statistics.failure_groups import ClusteredRate, GroupEstimate, clustered_rate, onset, standing_groups
from gateway.statistics.route_choice import GrownTree, SplitCondition, grow_tree, leaves_of

CUT = 0.5
"""A score below it is a failure."""
ALPHA = 0.05
FEWEST_CALLS = 100
FEWEST_FAILURES = 20
EXAMPLES = 3
LEAST_Z = 4.0
"""Minimum difference between the two sides of a split: with some hundred conditions to choose from, noise differs by
less."""
Kind = Literal["calls", "reasons"]
"""Subject of a group's rule: the calls themselves, or the words of the reasons of their scores."""
KINDS: tuple[Kind, ...] = ("calls", "reasons")
Path = tuple[tuple[SplitCondition, bool], ...]


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """A group, with figures of the half on which it was not found."""

    kind: Kind
    rule: str
    """The calls in it, in words."""
    estimate: GroupEstimate
    since: float | None
    """Unix seconds since which they fail more often; None if there is no change in the calls that were looked at."""
    examples: tuple[ScoredCall, ...]
    """The newest failures."""


@dataclass(frozen=True, slots=True)
class GroupsFound:
    """The groups found in the calls of one scorer."""

    choice: CallChoice
    cut: float
    calls: int
    failed: int
    rate: ClusteredRate | None = None
    """Share of failures in the second half; None if there are too few calls."""
    groups: tuple[FailureGroup, ...] = ()
    earliest: float = 0.0
    """Unix seconds of the oldest call."""

    @property
    def too_few(self) -> str:
        """Reason why no groups were looked for; "" if they were."""
        if self.rate is not None:
            return ""
        return (
            f"{self.calls} calls with {self.failed} failures; groups are looked for from {FEWEST_CALLS} calls and "
            f"{FEWEST_FAILURES} failures"
        )


def find_groups(choice: CallChoice, calls: Sequence[ScoredCall], cut: float = CUT) -> GroupsFound:
    """Finds groups of failures. The half of a call follows from its cluster: the same calls give the same groups."""
    calls = sorted(calls, key=lambda call: (call.received, call.id))
    failed = np.array([call.value < cut for call in calls], dtype=np.bool_)
    earliest = calls[0].received if calls else 0.0
    found = GroupsFound(choice, cut, len(calls), int(failed.sum()), earliest=earliest)
    if len(calls) < FEWEST_CALLS or failed.sum() < FEWEST_FAILURES:
        return found
    first = np.array([draw("failure groups", call.cluster) < 0.5 for call in calls], dtype=np.bool_)
    if first.all() or not first.any():  # all are of one conversation
        return found
    weights = np.array([1.0 if call.pi is None else 1.0 / call.pi for call in calls])
    clusters = np.unique(np.array([call.cluster for call in calls]), return_inverse=True)[1].astype(np.intp)
    halves = _Halves(calls, failed, weights, clusters, first)
    words = telling_words([call for call, here in zip(calls, first, strict=True) if here], failed[first].tolist())
    groups = (
        *_groups(halves, table_of_calls(calls), "calls"),
        *_groups(halves, table_of_words(calls, words), "reasons"),
    )
    rate = clustered_rate(failed[~first], weights[~first], clusters[~first], ALPHA)
    return replace(found, rate=rate, groups=groups)


@dataclass(frozen=True, slots=True)
class _Halves:
    """The calls in order of arrival: the first half, on which groups are found, and the second, which measures them."""

    calls: Sequence[ScoredCall]
    failed: NDArray[np.bool_]
    weights: NDArray[np.float64]
    clusters: NDArray[np.intp]
    first: NDArray[np.bool_]


def _groups(of: _Halves, table: FeatureTable, kind: Kind) -> Iterator[FailureGroup]:
    """The groups of one tree: of the calls themselves, or of the words of the reasons. They share the error equally."""
    first, second = of.first, ~of.first
    tree = grow_tree(table.x[first], of.failed[first].astype(np.float64), of.weights[first], least_z=LEAST_Z)
    leaf = leaves_of(tree, table.x)
    wanted = _candidates(leaf[first], of.failed[first], of.weights[first])
    measured = (leaf[second], of.failed[second], of.weights[second], of.clusters[second])
    paths = dict(_paths(tree, ()))
    for estimate in standing_groups(*measured, wanted, ALPHA, tested_at=ALPHA / len(KINDS)):
        inner = second & (leaf == estimate.group)
        at = np.array([call.received for call, here in zip(of.calls, inner, strict=True) if here])
        examples = [call for call, bad in zip(of.calls, inner & of.failed, strict=True) if bad][::-1][:EXAMPLES]
        since = onset(at, of.failed[inner])
        yield FailureGroup(kind, _rule(paths[estimate.group], table), estimate, since, tuple(examples))


def _candidates(leaf: NDArray[np.intp], failed: NDArray[np.bool_], weights: NDArray[np.float64]) -> list[int]:
    """The leaves that fail more often than all calls of the first half."""
    mean = float(np.average(failed, weights=weights))
    numbers = [int(number) for number in np.unique(leaf)]
    if len(numbers) < 2:
        return []
    return [n for n in numbers if float(np.average(failed[leaf == n], weights=weights[leaf == n])) > mean]


def _paths(tree: GrownTree, path: Path) -> Iterator[tuple[int, Path]]:
    """Yields each leaf with the conditions on the way to it."""
    if tree.branches is None:
        yield tree.leaf, path
        return
    condition, at_most, above = tree.branches
    yield from _paths(at_most, (*path, (condition, False)))
    yield from _paths(above, (*path, (condition, True)))


def _rule(path: Path, table: FeatureTable) -> str:
    """The last condition on a column and side is the tightest. A condition "is not this model, target or key" is left
    out where a specific one is required."""
    last = {(condition.feature, above): condition.threshold for condition, above in path}
    required = {table.columns[f].key.partition(" ")[0] for f, above in last if above and " " in table.columns[f].key}
    kept = {
        (f, above): threshold
        for (f, above), threshold in last.items()
        if above or table.columns[f].key.partition(" ")[0] not in required - {"word"}
    }
    return ", ".join(table.columns[f].says(threshold, above) for (f, above), threshold in kept.items())
