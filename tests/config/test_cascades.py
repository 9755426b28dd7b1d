"""Cascades of gateway.yaml: the rule becomes a tree, and what is wrong is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures.cascades import ACCEPT, CASCADE, a_cascade, cascade_section
from fixtures.learned_routes import a_route
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.cascades import ACCEPTED, DECLINED, STREAMED
from gateway.config.cautions import cautions
from gateway.config.derive import plans_of, refs_of_model, target_of
from gateway.config.loading import load
from gateway.config.routes import read_route, route_path
from gateway.core.answer_features import CASCADE_FEATURES
from gateway.core.errors import CannotRun, ConfigError
from gateway.core.learned_route import InvalidRoute, LearnedRoute, route_from_json

CONTROL = {"upstream": "u0", "model": "model-u0"}
STREAM = CASCADE_FEATURES.index("stream")


def placed(folder: Path, cascades: dict[str, Any] | None = None, **sections: Any) -> Path:
    path = folder / "gateway.yaml"
    base = {
        "open": True, "upstreams": {"u0": {"kind": "fake"}, "u1": {"kind": "fake"}}, "scorers": {"valid_json": {}},
        "models": {"chat": {"targets": [{"route": CASCADE}]}}, "cascades": {CASCADE: cascade_section()},
    }  # fmt: skip
    path.write_text(yaml.safe_dump({**base, **({} if cascades is None else {"cascades": cascades}), **sections}))
    return path


def test_a_cascade_is_a_route_of_its_two_targets(tmp_path: Path) -> None:
    config = load(placed(tmp_path))
    route = config.routes[CASCADE].route
    assert (route, route.cascade) == (a_cascade(), True)
    assert [str(target_of(each)) for each in refs_of_model(config, config.models["chat"])] == [
        "u0/model-u0",
        "u1/small",
    ]
    assert route_from_json(route.to_json()) == route
    assert read_route(tmp_path / "gateway.yaml", CASCADE) == route


def test_another_rule_is_another_plan(tmp_path: Path) -> None:
    swap = {"model": "chat", "control": CONTROL, "candidate": {"route": CASCADE}}
    sections = {"models": {"chat": {"targets": [CONTROL]}}, "experiments": {"try": swap}}
    first = plans_of(load(placed(tmp_path, **sections)))["try"]
    assert first.candidates == (("candidate", a_cascade().target),)
    other = {CASCADE: cascade_section(accept="hedges < 2")}
    assert plans_of(load(placed(tmp_path, other, **sections)))["try"].hash != first.hash


def test_the_check_says_that_streams_are_not_served(tmp_path: Path) -> None:
    [found] = [each for each in cautions(load(placed(tmp_path))) if "cascade" in each]
    assert found.startswith(f"models.chat: the cascade {CASCADE} serves plain calls alone")
    assert "`stream: true` go to u0/model-u0" in found


def test_its_primary_is_watched_unless_that_is_switched_off(tmp_path: Path) -> None:
    assert f"{CASCADE}-watch" in load(placed(tmp_path)).experiments
    off = {"chat": {"targets": [{"route": CASCADE, "watch": 0}]}}
    assert load(placed(tmp_path, models=off)).experiments == {}


NAMES = ("hedges", "length", "refusal", "code")
CONDITIONS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(("<", "<=", ">", ">=")), st.integers(0, 4)),
    min_size=1, max_size=7,
)  # fmt: skip


@given(CONDITIONS, st.lists(st.integers(0, 4), min_size=4, max_size=4), st.booleans())
def test_the_tree_accepts_what_meets_all_conditions(
    conditions: list[tuple[str, str, int]], values: list[int], stream: bool
) -> None:
    route = a_cascade(accept=" and ".join(f"{name} {sign} {number}" for name, sign, number in conditions))
    of = dict(zip(NAMES, values, strict=True))
    row = [float(of.get(name, 0.0)) for name in CASCADE_FEATURES]
    row[STREAM] = float(stream)
    compared = {"<": float.__lt__, "<=": float.__le__, ">": float.__gt__, ">=": float.__ge__}
    holds = all(compared[sign](float(of[name]), float(number)) for name, sign, number in conditions)
    assert route.leaf_of(row) == (STREAMED if stream else ACCEPTED if holds else DECLINED)


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"accept": "hegdes < 1"}, r'accept: "hegdes" is not a number about a request or its answer.*"hedges"'),
    ({"accept": "judge >= 0.5"}, r'accept: "judge" is not a number .*there are: request_bytes, .*refusal'),
    (
        {"accept": "hedges is low"},
        r'accept: "hedges is low" is not a condition; expected NAME, <, <=, > or >=, a number',
    ),
    ({"accept": " and ".join(["hedges < 1"] * 8)}, "accept: 8 conditions, and at most 7 are evaluated"),
    ({"then": {"upstream": "u1", "model": "small"}}, "then: it is the same target as `first`"),
    ({"first": {"upstream": "u9", "model": "small"}}, f'cascades.{CASCADE}: its moved target .* no upstream "u9"'),
    ({"model": "mail"}, f'{CASCADE} is a cascade for the calls of "mail", not chat'),
    ({"margin": 1.5}, f"cascades.{CASCADE}.margin"),
    ({"primary": "gone"}, 'watched by the scorer "gone"'),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES, ids=[str(row[0])[:40] for row in MISTAKES])
def test_a_mistake_is_named_where_it_is(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(placed(tmp_path, {CASCADE: cascade_section(**changes)}))


def test_a_name_that_a_file_has_is_refused(tmp_path: Path) -> None:
    path = placed(tmp_path)
    route_path(path, CASCADE).write_bytes(a_route(name=CASCADE).to_json())
    with pytest.raises(ConfigError, match=r"gateway\.route\.careful\.json is a route of this name; rename one"):
        load(path)


def test_an_unknown_name_suggests_the_cascade(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f'no route "carefull".*"{CASCADE}"'):
        load(placed(tmp_path, models={"chat": {"targets": [{"route": "carefull"}]}}))
    with pytest.raises(CannotRun, match='no route "carefull"'):
        read_route(placed(tmp_path), "carefull")


def changed(**fields: Any) -> LearnedRoute:
    return replace(a_cascade(), **fields)


BROKEN = [
    changed(trees=((0, 1.0, (-1, 0), (-1, 1)),)),
    changed(leaves=a_route().leaves[:1] * 3),
    changed(cascade=False),
]


@pytest.mark.parametrize("route", BROKEN, ids=["streams are not the root", "streams move", "of another set"])
def test_a_file_that_would_hold_streams_back_does_not_load(route: LearnedRoute) -> None:
    with pytest.raises(InvalidRoute):
        route_from_json(route.to_json())


def test_the_rule_is_what_people_read() -> None:
    assert a_cascade().leaves[ACCEPTED].says == f"accepted: {ACCEPT}"
