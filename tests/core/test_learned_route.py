"""A route as a file: read back as it was written, refused as soon as anything of it was changed."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.learned_route import (
    InvalidRoute,
    LearnedRoute,
    RouteLeaf,
    RouteTarget,
    digest_of,
    route_from_json,
    route_target,
)
from gateway.core.request_features import FEATURES, SCRIPTS

CODE = FEATURES.index("code")


def a_route(**changes: Any) -> LearnedRoute:
    fields: dict[str, Any] = {
        "name": "small-where-safe", "kind": "tree", "alias": "chat",
        "control": RouteTarget("u0", "large"), "moved": RouteTarget("u1", "small", {"set": {"temperature": 0}}),
        "trees": ((CODE, 0.5, (-1, 0), (-1, 1)),),
        "leaves": (RouteLeaf(True, "no code", 800, 0.8, 0.01), RouteLeaf(False, "code", 200, 0.2, -0.3)),
        "scripts": ("latin",), "evidence": {"margin": 0.05, "alpha": 0.05},
    }  # fmt: skip
    return LearnedRoute(**{**fields, **changes})


def read_back(route: LearnedRoute) -> LearnedRoute:
    return route_from_json(route.to_json())


def test_a_file_reads_back_as_the_route_that_was_written() -> None:
    found = read_back(a_route())
    assert found == LearnedRoute(**{**{f: getattr(a_route(), f) for f in a_route().__slots__}, "digest": found.digest})
    assert read_back(found) == found
    assert found.target == route_target("small-where-safe", found.digest)
    assert str(found.moved.target) == "u1/small[temperature=0]"


@pytest.mark.parametrize("path", [("margin",), ("leaves",), ("name",), ("trees",)])
def test_a_file_that_was_changed_by_hand_does_not_load(path: tuple[str, ...]) -> None:
    raw = orjson.loads(a_route().to_json())
    if path == ("margin",):
        raw["evidence"]["margin"] = 0.5
    elif path == ("leaves",):
        raw["leaves"][1]["moved"] = True
    elif path == ("trees",):
        raw["trees"][0][0][1] = 9.5
    else:
        raw["name"] = "other"
    with pytest.raises(InvalidRoute, match="changed after it was learned"):
        route_from_json(orjson.dumps(raw))


def sealed(**changes: Any) -> bytes:
    """A file with these members and the digest of all of it, as an attacker would write it."""
    fields = {**a_route().fields(), **changes}
    return orjson.dumps({**fields, "digest": digest_of(fields)})


DEEP = [[0, 0.5, 2 * i + 1, 2 * i + 2] if i < 127 else [0] for i in range(255)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": 2}, "not a route of format 1"),
        ({"features": "0" * 12}, "learn it again"),
        ({"kind": "forest"}, "expected kind tree or boosted"),
        ({"trees": [[[0, 0.5, 0, 1], [0]]]}, "does not exist"),
        ({"trees": [[[0, 0.5, 1, 1], [0]]]}, "child of two others"),
        ({"trees": [[[99, 0.5, 1, 2], [0], [1]]]}, "does not exist"),
        ({"trees": [[[0, 0.5, 1, 2], [0], [7]]]}, "a leaf is not in `leaves`"),
        ({"trees": [DEEP]}, "expected 1 to 127 nodes"),
        ({"trees": [[[0, None, 1, 2], [0], [1]]]}, "expected a finite number"),
        ({"trees": []}, "expected at most 1"),
        ({"evidence": {"margin": 2.0, "alpha": 0.05}}, "evidence: expected a margin"),
        ({"evidence": {}}, "lacks a member"),
        ({"name": "../../etc/passwd"}, "name: expected letters"),
        ({"leaves": [{"moved": True}]}, "lacks a member"),
        ({"trees": 7}, "lacks a member"),
        ({"kind": "boosted", "cuts": [2.0, 1.0]}, "ascending"),
    ],
)
def test_anything_but_a_route_is_refused_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidRoute, match=reason):
        route_from_json(sealed(**changes))


@given(st.binary(max_size=200))
def test_no_bytes_but_a_route_load(data: bytes) -> None:
    with pytest.raises(InvalidRoute):
        route_from_json(data)


def values(**set_: float) -> list[float]:
    return [set_.get(name, 0.0) for name in FEATURES]


def test_a_tree_sends_a_request_to_the_leaf_of_its_conditions() -> None:
    route = read_back(a_route())
    assert (route.leaf_of(values(code=0)), route.leaf_of(values(code=1))) == (0, 1)
    assert route.knows(SCRIPTS.index("latin"))
    assert not route.knows(SCRIPTS.index("cjk"))


def test_boosted_trees_add_up_to_a_band() -> None:
    rng = random.Random(1)
    trees = tuple((CODE, 0.5, (-1, rng.random()), (-1, -rng.random())) for _ in range(100))
    leaves = tuple(RouteLeaf(i == 2, f"band {i}", 10, 0.3) for i in range(3))
    route = read_back(a_route(kind="boosted", trees=trees, leaves=leaves, cuts=(-5.0, 5.0), baseline=0.25))
    total = 0.25 + sum(tree[2][1] for tree in trees)
    assert total > 5.0
    assert (route.leaf_of(values(code=0)), route.leaf_of(values(code=1))) == (2, 0)
