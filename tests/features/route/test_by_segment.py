"""`gateway route except`: the route of a verdict that leaves some segments with the control."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fixtures.json_outputs import conforms
from fixtures.learned_routes import a_segment_route

from gateway.config.routes import read_route
from gateway.core.learned_route import InvalidRoute, LearnedRoute, route_from_json

SEGMENTS = {"by": ["metadata.product"], "values": {"metadata.product": ["code"]}, "margin": 0.2, "weak_spots": 0}
KEPT = "metadata.product=code"
Run = Callable[..., str]


async def test_a_verdict_with_exceptions_becomes_a_route(experiment: Any, run: Run, refused: Run) -> None:
    plan = experiment.configure(segments=SEGMENTS, repeat_control=1.0, aa="alarm")
    await experiment.room.begin(plan)
    await experiment.send(plan, 60)
    early = await asyncio.to_thread(refused, "except", "swap")
    assert "swap: the verdict is hold, and only `ship except` names what stays with the control" in early
    await experiment.send(plan, 340)
    printed, _, note = (await asyncio.to_thread(run, "except", "swap", "--json")).partition("--write")
    assert conforms("route except", printed)["kept"] == [KEPT]
    assert note.startswith(" freezes it in a file")
    made = await asyncio.to_thread(run, "except", "swap", "--write")
    assert "targets: [{route: swap-except}]" in made
    route = read_route(experiment.path, "swap-except")
    assert route.kept == (KEPT,)
    assert [(leaf.moved, leaf.says) for leaf in route.leaves] == [(True, f"without {KEPT}"), (False, KEPT)]
    assert 0.7 < route.leaves[0].share < 0.9
    shown = await asyncio.to_thread(run, "show", "swap-except")
    assert conforms("route show", await asyncio.to_thread(run, "show", "swap-except", "--json"))["kept"] == [KEPT]
    assert "Ship, but keep metadata.product=code on u0/model-u0" in shown
    assert route_from_json(route.to_json()) == route
    assert "swap-except keeps metadata.product=code by the verdict of swap" in await asyncio.to_thread(
        refused, "verify", "swap-except"
    )


async def test_a_plan_without_segments_excepts_none(experiment: Any, refused: Run) -> None:
    plan = experiment.configure()
    await experiment.room.begin(plan)
    await experiment.send(plan, 60)
    assert "its plan declares no segments" in await asyncio.to_thread(refused, "except", "swap")


def test_calls_are_told_by_their_segments(by_product: LearnedRoute) -> None:
    assert by_product.leaf_of_segments({"metadata.product": "code"}) == 1
    assert by_product.leaf_of_segments({"metadata.product": "other"}) == 0


BROKEN: list[tuple[str, dict[str, Any]]] = [
    ("of another plan", {"kept": ("tools=yes",)}),
    ("kept by nothing", {"kept": ()}),
    ("a leaf too few", {"kept": (KEPT, "metadata.product=other")}),
]


@pytest.mark.parametrize("changes", [row[1] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_a_file_whose_segments_do_not_fit_does_not_load(by_product: LearnedRoute, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidRoute, match="kept: expected declared segments"):
        route_from_json(replace(by_product, **changes).to_json())


def test_a_kept_segment_cannot_move(by_product: LearnedRoute) -> None:
    leaves = tuple(replace(leaf, moved=True) for leaf in by_product.leaves)
    with pytest.raises(InvalidRoute, match="kept"):
        route_from_json(replace(by_product, leaves=leaves).to_json())


@pytest.fixture
def by_product() -> LearnedRoute:
    """A route that keeps the calls of one product."""
    return a_segment_route()
