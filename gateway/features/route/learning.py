"""Learns a route from the pairs of an experiment: features, an honest split by time, the tree, the choice.

The older pairs find the groups of requests, the newer ones say which may be moved. Between the two is a gap, so that
requests of one burst are not on both sides. The features are those that `gateway serve` computes.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from gateway.core.answer_features import CASCADE_FEATURES, answer_features, cascade_condition_text
from gateway.core.completion import assemble, from_json
from gateway.core.errors import CannotRun
from gateway.core.json_values import parse_object
from gateway.core.learned_route import APIS, STREAM, Kind, LearnedRoute, Node, RouteLeaf, route_from_json
from gateway.core.request_features import FEATURES, SCRIPTS, request_features
from gateway.features.route.boosting import boosted_groups
from gateway.features.route.model import Floats, Groups, LearnedChoice, LearningPairs, RouteTerms
from gateway.features.route.rows import StoredPair
from gateway.statistics.dependence import BLOCK_S
from gateway.statistics.route_choice import (
    FEWEST_UNITS,
    GrownTree,
    RouteCurve,
    RoutePairs,
    SplitCondition,
    choose_route,
    effective_units,
    grow_tree,
    leaves_of,
)

FEWEST_PAIRS = 300
LEARNED_SHARE = 0.5
"""Share of the pairs from which the groups are learned; the newer ones choose."""
_GAP_S = BLOCK_S
_LARGEST_GAP = 0.1  # of the pairs
_FEWEST_CHOSEN = 10  # newer pairs of a leaf without which it is not moved
_FEWEST_OF_SCRIPT = 10
_BANDS = 20  # of the expected difference, where a route is boosted


class NotLearnable(CannotRun):
    """Raised where pairs do not support a route; the message gives the reason."""


def learning_pairs(rows: Iterable[StoredPair], *, cascade: bool = False) -> LearningPairs:
    """Reads the features of each pair's request; for a cascade, those of the cheaper answer as well."""
    kept: list[tuple[StoredPair, list[float], int]] = []
    unreadable = 0
    for row in rows:
        found = with_answer(row) if cascade else features_of(row)
        if found is None:
            unreadable += 1
        else:
            kept.append((row, *found))

    def column(of: Callable[[StoredPair], float | None]) -> Floats:
        return np.array([np.nan if (v := of(row)) is None else v for row, _, _ in kept], dtype=np.float64)

    return LearningPairs(
        np.array([values for _, values, _ in kept], dtype=np.float64).reshape(
            len(kept), len(CASCADE_FEATURES if cascade else FEATURES)
        ),
        np.array([script for _, _, script in kept], dtype=np.intp),
        column(lambda row: row.difference),
        column(lambda row: 1.0 / row.pi),
        column(lambda row: row.cost_control),
        column(lambda row: row.cost_candidate),
        column(lambda row: row.received),
        np.array([row.place for row, _, _ in kept], dtype=np.intp),
        tuple(unit_of(row) for row, _, _ in kept),
        any(row.user is not None or row.conversation is not None for row, _, _ in kept),
        unreadable,
    )


def unit_of(row: StoredPair) -> str:
    if row.user is not None:
        return f"{row.caller}\0{row.user}"
    return row.caller if row.conversation is None else f"{row.caller}\0\0{row.conversation}"


def features_of(row: StoredPair) -> tuple[list[float], int] | None:
    """Computes features as the gateway computes them for a call. None if the request is of another API, is not
    recorded, or was cut.
    """
    request = parse_object(row.request)
    turns = None if request is None else request.get("messages" if row.api == "chat" else "prompt")
    if request is None or row.api not in APIS or not isinstance(turns, list | str):
        return None
    size = len(row.request) if row.client_bytes is None else row.client_bytes
    return request_features(size, row.stream, request, orjson.dumps(turns))


def with_answer(row: StoredPair) -> tuple[list[float], int] | None:
    """Adds the features of the candidate's answer. None if one of the two is not recorded, or was cut."""
    found = features_of(row)
    if found is None or not row.response:
        return None
    read = (
        from_json(row.response) if row.form == "assembled" else assemble(row.api, row.response_streamed, row.response)
    )
    values, script = found
    return [*values, *answer_features(values, read)], script


def learn(terms: RouteTerms, pairs: LearningPairs, now: float | None = None) -> LearnedChoice:
    """Raises NotLearnable. now: Unix seconds; None: the present."""
    if len(pairs) < FEWEST_PAIRS:
        left = f"; {pairs.unreadable} more have no readable request" if pairs.unreadable else ""
        raise NotLearnable(
            f"{terms.plan.name} has {len(pairs)} pairs with a value of {terms.plan.primary}{left}; a route is learned "
            f"from {FEWEST_PAIRS} or more, and 2 000 show a margin of 0.05"
        )
    older, newer = split_by_time(pairs)
    others = terms.population(pairs) == "others"
    if others:
        _check_units(terms.plan.name, newer)
    groups = _cascade_groups(terms, older) if terms.cascade else _groups(terms.kind, older)
    routed = newer.as_routed(groups.of(newer.x), cascade=terms.cascade, others=others)
    order, movable = _safest_first(groups, older, routed, terms.margin)
    curve = choose_route(routed, order, terms.margin, terms.alpha, movable)
    moved = () if curve.chosen is None else curve.points[curve.chosen].leaves
    leaves = _leaves(groups, pairs, newer, frozenset(moved))
    evidence = _evidence(terms, (older, newer), curve, time.time() if now is None else now)
    if curve.chosen is None:
        return LearnedChoice(None, curve, leaves, evidence)
    counts = Counter(pairs.script.tolist())
    route = LearnedRoute(
        name=terms.name,
        kind=terms.kind,
        alias=terms.plan.model,
        control=terms.control,
        moved=terms.moved,
        trees=groups.trees,
        leaves=leaves,
        scripts=tuple(SCRIPTS[script] for script, n in sorted(counts.items()) if n >= _FEWEST_OF_SCRIPT),
        baseline=groups.baseline,
        cuts=groups.cuts,
        evidence=evidence,
        cascade=terms.cascade,
    )
    return LearnedChoice(route_from_json(route.to_json()), curve, leaves, evidence)


def _check_units(name: str, newer: LearningPairs) -> None:
    """Raises NotLearnable where too few users send the pairs to say anything about others."""
    effective = effective_units(newer.units, newer.weights)
    if effective < FEWEST_UNITS:
        raise NotLearnable(
            f"{name}: its newer pairs come from {effective:.1f} effective users ({len(set(newer.units))}, not equally "
            f"heavy), and fewer than {FEWEST_UNITS:g} say nothing about others; collect pairs of more users, or write "
            "`population: these` into the experiment and start it again: the route is then for the users seen"
        )


def split_by_time(pairs: LearningPairs) -> tuple[LearningPairs, LearningPairs]:
    """(older, newer), with a gap of a quarter of an hour, but of no more than a tenth of the pairs."""
    end = round(len(pairs) * LEARNED_SHARE)
    after = pairs.received[end - 1] + _GAP_S
    start = int(np.searchsorted(np.maximum.accumulate(pairs.received), after))
    start = min(max(start, end + 1), end + max(1, int(_LARGEST_GAP * len(pairs))))
    return pairs.part(slice(0, end)), pairs.part(slice(start, None))


def _groups(kind: Kind, older: LearningPairs) -> Groups:
    if kind == "boosted":
        return boosted_groups(older, _BANDS)
    grown = grow_tree(older.x, older.difference, older.weights)
    says: dict[int, str] = {}
    node = _node(grown, (), says)
    return Groups((node,), tuple(says[leaf] for leaf in sorted(says)), lambda x: leaves_of(grown, x))


def _cascade_groups(terms: RouteTerms, older: LearningPairs) -> Groups:
    """The groups of plain calls by request and answer, and that of streams, which a cascade keeps. Raises
    NotLearnable."""
    if terms.kind != "tree":
        raise NotLearnable("a cascade is learned as a tree; leave --kind out")
    plain, fewest = older.plain, round(FEWEST_PAIRS * LEARNED_SHARE)
    if plain.sum() < fewest:
        raise NotLearnable(
            f"{terms.plan.name}: {int(plain.sum())} of its {len(older)} older pairs are of calls without `stream: true`"
            f", which alone a cascade serves; {fewest} teach one. Learn a route that decides before the call: leave "
            "--cascade out"
        )
    grown = grow_tree(older.x[plain], older.difference[plain], older.weights[plain])
    says: dict[int, str] = {}
    node = _node(grown, (), says)
    streamed = len(says)

    def of(x: Floats) -> NDArray[np.intp]:
        return np.where(x[:, STREAM] > 0.5, streamed, leaves_of(grown, x))

    named = (*(says[leaf] for leaf in sorted(says)), "streamed")
    return Groups(((STREAM, 0.5, node, (-1, streamed)),), named, of, kept=frozenset({streamed}))


def _node(tree: GrownTree, path: tuple[tuple[SplitCondition, bool], ...], says: dict[int, str]) -> Node:
    """The tree as a route stores it. says: gets the words of each leaf."""
    if tree.branches is None:
        says[tree.leaf] = path_text(path)
        return (-1, tree.leaf)
    of, at_most, more = tree.branches
    left, right = (_node(t, (*path, (of, up)), says) for t, up in ((at_most, False), (more, True)))
    return (of.feature, of.threshold, left, right)


def path_text(path: Sequence[tuple[SplitCondition, bool]]) -> str:
    """The requests that take this path; the last condition on a feature and side is the tightest."""
    last = {(condition.feature, above): condition.threshold for condition, above in path}
    words = (cascade_condition_text(CASCADE_FEATURES[f], t, above) for (f, above), t in last.items())
    return ", ".join(words) or "every request"


def _safest_first(groups: Groups, older: LearningPairs, newer: RoutePairs, margin: float) -> tuple[list[int], int]:
    """(leaves in the order in which they are tried, number of those that may move), by what the older pairs say.

    A leaf with few pairs or units is not tried. One that loses more than the margin on its own is not moved, even where
    all moved ones together would lose less: its users would not accept a loss that others make up for.
    """
    leaf = groups.of(older.x)
    sums = np.bincount(leaf, weights=older.weights * older.difference, minlength=len(groups.says))
    weights = np.bincount(leaf, weights=older.weights, minlength=len(groups.says))
    means = np.divide(sums, weights, out=np.full(len(sums), -np.inf), where=weights > 0)
    enough = [i for i in range(len(groups.says)) if weights[i] > 0 and i not in groups.kept and _tried(newer, i)]
    order = sorted(enough, key=lambda i: -means[i]) if not groups.cuts else sorted(enough, reverse=True)
    best = [*groups.cuts, math.inf] if groups.cuts else means.tolist()  # a band's own mean is of few pairs
    return order, next((k for k, i in enumerate(order) if best[i] < -margin), len(order))


def _tried(newer: RoutePairs, leaf: int) -> bool:
    """Whether a leaf has enough newer pairs, of enough units, to be shown anything about."""
    inside = newer.leaf == leaf
    if inside.sum() < _FEWEST_CHOSEN:
        return False
    return newer.units is None or effective_units(newer.units, np.where(inside, newer.weights, 0.0)) >= FEWEST_UNITS


def _leaves(groups: Groups, pairs: LearningPairs, newer: LearningPairs, moved: frozenset[int]) -> tuple[RouteLeaf, ...]:
    everywhere, here = groups.of(pairs.x), groups.of(newer.x)
    found = []
    for i, says in enumerate(groups.says):
        inside, share = here == i, float(np.average(everywhere == i, weights=pairs.weights))
        value = float(np.average(newer.difference[inside], weights=newer.weights[inside])) if inside.any() else None
        found.append(RouteLeaf(i in moved, says, int((everywhere == i).sum()), share, value))
    return tuple(found)


def _evidence(
    terms: RouteTerms, parts: tuple[LearningPairs, LearningPairs], curve: RouteCurve, now: float
) -> dict[str, Any]:
    older, newer = parts
    population, units = terms.population(newer), round(effective_units(newer.units, newer.weights), 1)
    return {
        "experiment": terms.plan.name,
        "plan": terms.plan_hash,
        "candidate": terms.candidate,
        "primary": terms.plan.primary,
        "margin": terms.margin,
        "alpha": terms.alpha,
        "pairs": {"learned": len(older), "chosen": len(newer)},
        **({"population": population, "units": units} if population else {}),
        "last_place": int(newer.place[-1]),
        "from": float(older.received[0]),
        "to": float(newer.received[-1]),
        "learned_at": now,
        "chosen": curve.chosen,
        "curve": [
            {"leaves": list(p.leaves), "share": p.share, "p": p.p, "loss": asdict(p.loss),
             "saved": None if p.saved is None else asdict(p.saved)}
            for p in curve.points
        ],
    }  # fmt: skip
