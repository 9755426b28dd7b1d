"""A learned route: which requests of a model name go to the cheaper target, as trees over features of the request.

Learned and checked by features/route, stored as JSON next to gateway.yaml, and evaluated here, by Python alone, for
each call. A cascade is a route that decides later: the cheaper target is asked first, and its tree reads the answer as
well. Nothing in a file is executed. A digest over all of it names the route in plans, so that a route of an experiment
cannot change, and a file that was edited does not load.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

import orjson

from gateway.core.answer_features import CASCADE_FEATURE_SET, CASCADE_FEATURES
from gateway.core.exchange import Target
from gateway.core.json_values import as_list, as_object
from gateway.core.request_features import FEATURE_SET, FEATURES, SCRIPTS
from gateway.core.segments import SegmentDesign, segment_name
from gateway.core.variant_text import variant_text

FORMAT = 1
ROUTE = "route"
"""Upstream of the Target that stands for a learned route: its model is the route's name, its variant the digest."""
APIS = ("chat", "completions")
"""The APIs whose calls a route may move; those of all others go to the control."""
RETURNED = "route-leaves"
"""Name in the shared state of the leaves that were taken back."""
WATCHED = 0.02
"""Share of the moved calls that are also sent to the control, where a target says nothing else."""
UNLIKE = "unlike"
"""Label of calls that are unlike the requests that the route was learned from."""
UNANSWERED = "unanswered"
"""Label of calls of a cascade whose first target gave no answer that could be checked."""
STREAM = FEATURES.index("stream")
"""The feature of streams, of which a cascade accepts none: its tree begins with it."""
MOST_TREES = 100
MOST_DEPTH = 6
MOST_LEAVES = 64
"""Leaves of the route: groups of requests that are moved, counted and taken back together."""
NAMES = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.A)
"""Names of routes, which are part of file names and header lines."""
MOST_SPLITS = 8
"""Depth of the tree of a route that is one: at most eight leaves, and the branch of streams."""
_MOST_NODES = 2 ** (MOST_DEPTH + 1) - 1
Kind = Literal["tree", "boosted"]
Node = tuple[Any, ...]
"""(feature, threshold, node for at most the threshold, node for more), or (-1, value)."""


class InvalidRoute(ValueError):
    """A file is not a learned route of this version; the message says why."""


@dataclass(frozen=True, slots=True)
class RouteLeaf:
    """A group of requests that is moved or kept together."""

    moved: bool
    says: str
    """The requests in it, for people: "no tools, request up to 2.0 KB"."""
    pairs: int
    """Pairs of the experiment that fell into it."""
    share: float
    """Share of the traffic."""
    difference: float | None = None
    """Mean difference of the primary, positive where the cheaper target is better; None if there is no pair with a
    value.
    """


@dataclass(frozen=True, slots=True)
class RouteTarget:
    """A target with all the settings that gateway.yaml would give it."""

    upstream: str
    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    """`set`, `system` and `headers`, as far as the target has them."""

    @property
    def target(self) -> Target:
        of = self.settings
        return Target(
            self.upstream, self.model, variant_text(of.get("set", {}), of.get("system"), of.get("headers", {}))
        )

    @property
    def section(self) -> dict[str, Any]:
        """The target as gateway.yaml names it."""
        return {"upstream": self.upstream, "model": self.model, **self.settings}


@dataclass(frozen=True, slots=True)
class LearnedRoute:
    """One frozen route."""

    name: str
    kind: Kind
    alias: str
    control: RouteTarget
    moved: RouteTarget
    trees: tuple[Node, ...]
    leaves: tuple[RouteLeaf, ...]
    scripts: tuple[str, ...]
    """Scripts of the requests that it was learned from."""
    baseline: float = 0.0
    """Constant added to the sum of the trees of a boosted route; the sum is the expected difference."""
    cuts: tuple[float, ...] = ()
    """Expected differences at which the next leaf of a boosted route begins, ascending."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """Provenance of the route: experiment, plan, margin, alpha, the curve."""
    digest: str = ""
    segments: SegmentDesign | None = None
    """The declared segments that distinguish the calls, instead of trees: leaf 0 is of those in no segment of `kept`.
    None means that the trees decide."""
    kept: tuple[str, ...] = ()
    """Names of the segments that stay with the control, each a leaf from 1 on."""
    cascade: bool = False
    """The moved target is asked first, and the leaf, of request and answer, says whether its answer is served.
    Otherwise the control is asked as well. Streams, which cannot be held back, go to the control."""

    @property
    def target(self) -> Target:
        return route_target(self.name, self.digest)

    @property
    def certificates(self) -> tuple[str, ...]:
        """The certificates that a cascade of decisions obeys, instead of its tree."""
        return tuple(self.evidence.get("certificates", ()))

    @property
    def streamed_leaf(self) -> int:
        """The leaf of streams, of a cascade."""
        return self.trees[0][3][1]  # type: ignore[no-any-return]

    def to_json(self) -> bytes:
        """The file, with its digest."""
        fields = self.fields()
        return orjson.dumps({**fields, "digest": digest_of(fields)}, option=orjson.OPT_INDENT_2) + b"\n"

    def fields(self) -> dict[str, Any]:
        """The content without the digest, JSON-able."""
        return {
            "format": FORMAT,
            "features": CASCADE_FEATURE_SET if self.cascade else FEATURE_SET,
            **({"cascade": True} if self.cascade else {}),
            **({} if self.segments is None else {"segments": self.segments.fields(), "kept": list(self.kept)}),
            "name": self.name,
            "kind": self.kind,
            "alias": self.alias,
            "control": self.control.section,
            "moved": self.moved.section,
            "scripts": list(self.scripts),
            "baseline": self.baseline,
            "cuts": list(self.cuts),
            "trees": [_listed(tree) for tree in self.trees],
            "leaves": [
                {"moved": of.moved, "says": of.says, "pairs": of.pairs, "share": of.share, "difference": of.difference}
                for of in self.leaves
            ],
            "evidence": self.evidence,
        }

    def leaf_of(self, values: Sequence[float]) -> int:
        """The leaf of a request. values: as request_features returns them; of a cascade, with those of the answer."""
        if self.kind == "tree":
            node = self.trees[0]
            while (at := node[0]) >= 0:
                node = node[2] if values[at] <= node[1] else node[3]
            return node[1]  # type: ignore[no-any-return]
        total = self.baseline
        for node in self.trees:
            while (at := node[0]) >= 0:
                node = node[2] if values[at] <= node[1] else node[3]
            total += node[1]
        return bisect_left(self.cuts, total)

    def leaf_of_segments(self, values: Mapping[str, str]) -> int:
        """The leaf of a request by its declared segments: property → value."""
        named = {segment_name(*each) for each in values.items()}
        return next((leaf for leaf, name in enumerate(self.kept, 1) if name in named), 0)

    def knows(self, script: int) -> bool:
        return SCRIPTS[script] in self.scripts


def returned_to_json(leaves: Mapping[str, frozenset[int]]) -> str:
    """leaves: those that were taken back, by the digest of their route."""
    return orjson.dumps({digest: sorted(found) for digest, found in leaves.items()}).decode()


def returned_from_json(text: str) -> dict[str, frozenset[int]]:
    """Raises ValueError."""
    raw = as_object(orjson.loads(text))
    return {digest: frozenset(int(leaf) for leaf in as_list(found)) for digest, found in raw.items()}


def route_target(name: str, digest: str) -> Target:
    """The Target that stands for a route in plans and reports."""
    return Target(ROUTE, name, digest)


def digest_of(fields: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of the SHA-256 of everything but the digest."""
    return sha256(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def route_from_json(text: bytes) -> LearnedRoute:
    """Raises InvalidRoute."""
    try:
        raw = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidRoute(f"not JSON: {error}") from error
    fields = dict(as_object(raw))
    digest = fields.pop("digest", None)
    if fields.get("format") != FORMAT:
        raise InvalidRoute(f"not a route of format {FORMAT}: format is {fields.get('format')!r}")
    if digest != digest_of(fields):
        raise InvalidRoute("it was changed after it was learned: its digest is that of another content")
    if fields.get("features") != (CASCADE_FEATURE_SET if fields.get("cascade") else FEATURE_SET):
        of = as_object(fields.get("evidence")).get("experiment", "EXPERIMENT")
        raise InvalidRoute(
            "it was learned from other features than this version computes; learn it again, under another name: "
            f"gateway route learn {of} --name NAME --write"
        )
    try:
        return _route(fields, str(digest))
    except InvalidRoute:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InvalidRoute(f"it lacks a member, or one has another type: {error}") from error


def _route(fields: dict[str, Any], digest: str) -> LearnedRoute:
    kind, leaves = fields["kind"], tuple(RouteLeaf(**leaf) for leaf in fields["leaves"])
    if kind not in ("tree", "boosted") or not 0 < len(leaves) <= MOST_LEAVES:
        raise InvalidRoute(f"expected kind tree or boosted and 1 to {MOST_LEAVES} leaves")
    cuts = tuple(_finite(each, "cuts") for each in fields["cuts"])
    if kind == "boosted" and (len(cuts) != len(leaves) - 1 or list(cuts) != sorted(cuts)):
        raise InvalidRoute("cuts: expected one less than there are leaves, ascending")
    most = 1 if kind == "tree" else MOST_TREES
    if not 0 < len(fields["trees"]) <= most:
        raise InvalidRoute(f"trees: expected at most {most}")
    cascade, depth = fields.get("cascade") is True, MOST_SPLITS if kind == "tree" else MOST_DEPTH
    shape = len(CASCADE_FEATURES if cascade else FEATURES), depth
    trees = tuple(_tree(nodes, f"trees[{i}]", shape) for i, nodes in enumerate(fields["trees"]))
    if kind == "tree" and not all(value in range(len(leaves)) for value in _values(trees[0])):
        raise InvalidRoute("trees[0]: a leaf is not in `leaves`")
    if cascade and not (kind == "tree" and _keeps_streams(trees[0], leaves)):
        raise InvalidRoute("a cascade is one tree whose root keeps streams on the control")
    if not NAMES.fullmatch(fields["name"]):
        raise InvalidRoute(f"name: expected letters, digits, `_`, `-` and `.`, up to 64, got {fields['name']!r}")
    control, moved = _target(fields["control"]), _target(fields["moved"])
    segments = None if "segments" not in fields else SegmentDesign.from_fields(fields["segments"])
    kept = tuple(fields.get("kept", ()))
    if segments is not None and not _keeps_segments(segments, kept, leaves):
        raise InvalidRoute("kept: expected declared segments, each with a leaf that stays with the control")
    evidence = as_object(fields["evidence"])
    if not all(0 < _finite(evidence[name], f"evidence.{name}") < 1 for name in ("margin", "alpha")):
        raise InvalidRoute("evidence: expected a margin and an alpha in (0, 1)")
    return LearnedRoute(
        name=str(fields["name"]),
        kind=kind,
        alias=str(fields["alias"]),
        control=control,
        moved=moved,
        trees=trees,
        leaves=leaves,
        scripts=tuple(fields["scripts"]),
        baseline=_finite(fields["baseline"], "baseline"),
        cuts=cuts,
        evidence=evidence,
        digest=digest,
        cascade=cascade,
        segments=segments,
        kept=kept,
    )


def _keeps_segments(design: SegmentDesign, kept: tuple[str, ...], leaves: Sequence[RouteLeaf]) -> bool:
    known = {segment_name(*each) for each in design.segments}
    stays = not any(leaf.moved for leaf in leaves[1:])
    return bool(kept) and set(kept) <= known and len(leaves) == 1 + len(kept) and stays


def _keeps_streams(root: Node, leaves: Sequence[RouteLeaf]) -> bool:
    return root[0] == STREAM and root[3][0] < 0 and not leaves[root[3][1]].moved


def _target(raw: dict[str, Any]) -> RouteTarget:
    settings = {name: value for name, value in raw.items() if name not in ("upstream", "model")}
    return RouteTarget(str(raw["upstream"]), str(raw["model"]), settings)


def _tree(nodes: Any, at: str, shape: tuple[int, int]) -> Node:
    """The root of a tree whose nodes are a list, each before its children: [feature, threshold, left, right], or
    [value]. shape: the number of features, and the greatest depth."""
    features, most_depth = shape
    rows = as_list(nodes)
    if not 0 < len(rows) <= _MOST_NODES:
        raise InvalidRoute(f"{at}: expected 1 to {_MOST_NODES} nodes")
    children = [child for row in rows if len(row) == 4 for child in row[2:]]
    if len(set(children)) != len(children):
        raise InvalidRoute(f"{at}: a node is the child of two others")
    built: list[Node] = [()] * len(rows)
    for i in range(len(rows) - 1, -1, -1):
        row = rows[i]
        if len(row) == 1:
            built[i] = (-1, row[0] if type(row[0]) is int else _finite(row[0], at))
            continue
        feature, threshold, left, right = row
        known = type(feature) is int and 0 <= feature < features
        if not known or not all(type(child) is int and i < child < len(rows) for child in (left, right)):
            raise InvalidRoute(f"{at}[{i}]: a feature or a child that does not exist")
        built[i] = (feature, _finite(threshold, at), built[left], built[right])
    if _depth(built[0]) > most_depth + 1:
        raise InvalidRoute(f"{at}: deeper than {most_depth}")
    return built[0]


def _depth(node: Node) -> int:
    return 1 if node[0] < 0 else 1 + max(_depth(node[2]), _depth(node[3]))


def _values(node: Node) -> list[Any]:
    return [node[1]] if node[0] < 0 else [*_values(node[2]), *_values(node[3])]


def _listed(root: Node) -> list[list[Any]]:
    """The nodes of a tree, each before its children."""
    rows: list[list[Any]] = []

    def add(node: Node) -> int:
        at = len(rows)
        rows.append([])
        rows[at] = [node[1]] if node[0] < 0 else [node[0], node[1], add(node[2]), add(node[3])]
        return at

    add(root)
    return rows


def _finite(value: Any, at: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidRoute(f"{at}: expected a finite number, got {value!r}")
    return float(value)
