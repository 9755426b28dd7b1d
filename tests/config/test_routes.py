"""Routes that a config names: found next to it, checked, pinned by their digest, and refused with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import pytest
import yaml
from fixtures.learned_routes import EVIDENCE, ROUTE, a_route

from gateway.config.derive import asked_targets, has_control, plans_of, refs_of_model, target_of
from gateway.config.loading import load, load_for_consumer
from gateway.config.retirements import retiring_targets
from gateway.config.routes import is_route, read_route, read_routes, route_path, write_route
from gateway.config.schema import json_schema
from gateway.core.errors import CannotRun, ConfigError
from gateway.core.learned_route import LearnedRoute, RouteTarget, digest_of

CONTROL = {"upstream": "u0", "model": "model-u0"}
BASE: dict[str, Any] = {
    "open": True,
    "upstreams": {"u0": {"kind": "fake"}, "u1": {"kind": "fake"}},
    "models": {"chat": {"targets": [{"route": ROUTE}]}},
    "scorers": {"valid_json": {}},
}
SWAP = {"model": "chat", "control": CONTROL, "candidate": {"route": ROUTE}}


def placed(folder: Path, route: LearnedRoute | None = None, **sections: Any) -> Path:
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump({**BASE, **sections}))
    route = route or a_route()
    route_path(path, route.name).write_bytes(route.to_json())
    return path


def of_experiment(**changes: Any) -> dict[str, Any]:
    return {"models": {"chat": {"targets": [CONTROL]}}, "experiments": {"safe": {**SWAP, **changes}}}


def test_a_route_represents_its_two_targets(tmp_path: Path) -> None:
    config = load(placed(tmp_path))
    [ref] = config.models["chat"].targets
    assert target_of(ref) == a_route().target
    assert is_route(target_of(ref))
    assert [str(target_of(each)) for each in refs_of_model(config, config.models["chat"])] == [
        "u0/model-u0",
        "u1/small",
    ]
    assert [str(each) for each in asked_targets(config, target_of(ref))] == ["u0/model-u0", "u1/small"]
    assert load_for_consumer(tmp_path / "gateway.yaml").routes.keys() == {ROUTE}


def test_the_plan_names_the_digest_of_the_route(tmp_path: Path) -> None:
    plan = plans_of(load(placed(tmp_path, **of_experiment())))["safe"]
    assert plan.candidates == (("candidate", a_route().target),)
    other = a_route(evidence={**EVIDENCE, "margin": 0.1})
    assert plans_of(load(placed(tmp_path, other, **of_experiment())))["safe"].hash != plan.hash


def test_another_content_is_another_config(tmp_path: Path) -> None:
    first = load(placed(tmp_path))
    second = load(placed(tmp_path, a_route(evidence={**EVIDENCE, "margin": 0.1})))
    assert first.digest != second.digest
    assert route_path(tmp_path / "gateway.yaml", ROUTE) in first.secret_files


def test_a_model_behind_a_route_retires_with_notice(tmp_path: Path) -> None:
    moved = a_route(moved=RouteTarget("openai", "gpt-4o-mini"))
    upstreams = {**BASE["upstreams"], "openai": {"kind": "openai"}}
    [found] = retiring_targets(load(placed(tmp_path, moved, upstreams=upstreams)))
    assert (str(found.target), found.served) == ("openai/gpt-4o-mini", True)


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"models": {"chat": {"targets": [{"route": "smal-where-safe"}]}}}, f'no route "smal-where-safe": .*"{ROUTE}"'),
    ({"models": {"chat": {"targets": [{"route": ROUTE}, CONTROL]}}}, "make it the only one"),
    ({"models": {"chat": {"targets": [CONTROL], "fallback": [{"route": ROUTE}]}}}, "a fallback is one target"),
    ({"models": {"chat": {"targets": [{"route": ROUTE, "model": "x"}]}}}, "give `route` alone"),
    ({"models": {"chat": {"targets": [{"route": ROUTE, "digest": "0" * 16}]}}}, "another one than was chosen here"),
    ({"models": {"mail": {"targets": [{"route": ROUTE}]}}}, 'was learned on the calls of "chat", not mail'),
    ({"models": {"c*": {"targets": [{"route": ROUTE}]}}}, "c\\* is a pattern"),
    ({"upstreams": {"u0": {"kind": "fake"}}}, 'its moved target is u1/small, and there is no upstream "u1"'),
    ({"upstreams": {**BASE["upstreams"], "route": {"kind": "fake"}}}, "rename the upstream"),
    (of_experiment(control={"route": ROUTE}, candidate=CONTROL), "a route cannot be the control"),
    (of_experiment(mode="likelihood"), "use `mode: shadow` for a route"),
    ({"models": {"chat": {"targets": [{"upstream": "u1", "model": "m"}]}},
      "experiments": {"safe": {**SWAP, "control": {"upstream": "u1", "model": "m"}}}}, "its control is u0/model-u0"),
]  # fmt: skip


@pytest.mark.parametrize(("sections", "message"), MISTAKES, ids=[m for _, m in MISTAKES])
def test_mistakes_are_refused_with_what_to_do(tmp_path: Path, sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(placed(tmp_path, **sections))


def test_a_file_that_was_changed_by_hand_does_not_load(tmp_path: Path) -> None:
    path = placed(tmp_path)
    file = route_path(path, ROUTE)
    file.write_bytes(file.read_bytes().replace(b'"share": 0.8', b'"share": 0.9'))
    with pytest.raises(ConfigError, match=rf"gateway.route.{ROUTE}.json: it was changed after it was learned"):
        load(path)


def test_a_route_of_other_features_is_refused_with_the_command(tmp_path: Path) -> None:
    """The route is of another version of the gateway, whose numbers about requests this one does not compute."""
    path = placed(tmp_path)
    fields = {**a_route().fields(), "features": "0" * 12}
    route_path(path, ROUTE).write_bytes(orjson.dumps({**fields, "digest": digest_of(fields)}))
    again = "learned from other features than this version computes; learn it again, under another name: "
    with pytest.raises(ConfigError, match=f"{again}gateway route learn swap --name NAME --write"):
        load(path)


def test_nothing_but_json_is_a_route(tmp_path: Path) -> None:
    """A pickle, which would run what it says when it is read, is not even looked at."""
    path = placed(tmp_path)
    route_path(path, ROUTE).write_bytes(b"\x80\x04cos\nsystem\n(S'touch " + bytes(tmp_path / "ran") + b"'\ntR.")
    with pytest.raises(ConfigError, match=rf"gateway.route.{ROUTE}.json: not JSON"):
        load(path)
    assert not (tmp_path / "ran").exists()


def test_a_file_that_no_target_names_is_not_read(tmp_path: Path) -> None:
    path = placed(tmp_path)
    (tmp_path / "gateway.route.draft.json").write_text("not yet")
    assert load(path).routes.keys() == {ROUTE}
    assert set(read_routes(path).texts) == {ROUTE, "draft"}


def test_a_frozen_route_is_not_replaced(tmp_path: Path) -> None:
    path = placed(tmp_path)
    assert read_route(path, ROUTE) == a_route()
    with pytest.raises(CannotRun, match="a frozen route stays as it is"):
        write_route(route_path(path, ROUTE), a_route())
    write_route(route_path(path, "second"), a_route(name="second"))
    assert read_route(path, "second").name == "second"
    with pytest.raises(CannotRun, match='no route "third"'):
        read_route(path, "third")


def test_a_route_that_serves_is_watched(tmp_path: Path) -> None:
    """An experiment watches what the moved target has served, against the control."""
    config = load(placed(tmp_path))
    plan = plans_of(config)[f"{ROUTE}-watch"]
    assert (str(plan.control), [str(t) for _, t in plan.candidates]) == ("u1/small", ["u0/model-u0"])
    assert (plan.shadow, plan.mode, plan.primary, plan.margin) == (0.02, "shadow", "valid_json", 0.05)
    assert has_control(config, plan)
    assert plans_of(load(placed(tmp_path, models={"chat": {"targets": [{"route": ROUTE, "watch": 0}]}}))) == {}
    more = load(placed(tmp_path, models={"chat": {"targets": [{"route": ROUTE, "watch": 0.5}]}}))
    assert plans_of(more)[f"{ROUTE}-watch"].shadow == 0.5


def test_the_watch_may_be_written_down(tmp_path: Path) -> None:
    own = {"model": "chat", "control": {"upstream": "u1", "model": "small"}, "candidate": CONTROL, "shadow": 0.3}
    config = load(placed(tmp_path, experiments={f"{ROUTE}-watch": own}))
    assert plans_of(config)[f"{ROUTE}-watch"].shadow == 0.3


def test_a_watch_without_its_scorer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='it is watched by the scorer "valid_json"'):
        load(placed(tmp_path, scorers={}))


def test_the_control_behind_a_route_is_one_of_its_targets(tmp_path: Path) -> None:
    other = {"model": "chat", "control": {"upstream": "u1", "model": "tiny"}, "candidate": CONTROL}
    with pytest.raises(ConfigError, match="is served by u0/model-u0 and u1/small; name one of them"):
        load(placed(tmp_path, experiments={"third": other}))


def test_the_schema_of_editors_takes_a_route(tmp_path: Path) -> None:
    schema = jsonschema_rs.validator_for(json_schema())
    assert schema.is_valid(yaml.safe_load(placed(tmp_path).read_text()))
    for target in ({"model": "m"}, {"upstream": "u0"}, {}):
        assert not schema.is_valid({**BASE, "models": {"chat": {"targets": [target]}}}), target


def test_a_ramp_may_lead_to_a_route(tmp_path: Path) -> None:
    plan = plans_of(load(placed(tmp_path, **of_experiment(primary="valid_json", ramp={"steps": [0.1, 1.0]}))))["safe"]
    assert (plan.mode, plan.unit) == ("both", "conversation")
    assert plan.ramp is not None
