"""Learned routes show each loss and saving within its interval: in texts, as JSON and on the curve."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import orjson
import pytest
from fixtures.route_worlds import World, terms, world
from fixtures.shown_figures import drawn, figures_in_json, figures_in_svg, figures_in_text, outside

from gateway.features.route.curve import curve_chart, described
from gateway.features.route.learning import learn
from gateway.features.route.report import choice_dict, choice_text, verification_dict, verification_text
from gateway.features.route.verification import verify


def heavy(of: World, tenths: int) -> World:
    """One user makes some tenths of the pairs, and a few weigh a hundred times as much."""
    n = len(of.pairs)
    units = tuple("u0" if i % 10 >= 10 - tenths else unit for i, unit in enumerate(of.pairs.units))
    return World(replace(of.pairs, units=units, weights=np.where(np.arange(n) % 97 == 0, 100.0, 1.0)), of.kinds)


WORLDS = {
    "one bad kind": world(1200, {"code": 0.3}, 1),
    "harmless": world(1200, {}, 2),
    "hopeless": world(600, {"code": 0.9, "small talk": 0.9, "translation": 0.9, "summary": 0.9}, 3, noise=0.0),
    "a heavy user": heavy(world(1200, {"code": 0.3}, 4), 9),
    "a heavy user among others": heavy(world(1200, {"code": 0.3}, 4), 4),
    "unpriced": World(
        replace(world(600, {"code": 0.3}, 5).pairs, cost_moved=np.full(600, np.nan)), world(600, {}, 5).kinds
    ),
}


@pytest.mark.parametrize("name", WORLDS)
def test_losses_and_savings_lie_in_their_intervals(name: str) -> None:
    design, of = terms(), WORLDS[name]
    if name == "a heavy user":  # who says nothing about others
        design = terms(plan=replace(design.plan, population="these"))
    choice = learn(design, of.pairs, now=2e9)
    texts = [choice_text(design, choice), described(choice.evidence)]
    documents = [choice_dict(design, choice)]
    if choice.route is not None:
        for newer in (world(300, {"code": 0.3}, 9).pairs, world(3, {}, 9).pairs):
            found = verify(choice.route, newer, 0.05, 0.05)
            assert found is not None
            texts.append(verification_text(choice.route, found, 0.05))
            documents.append(dict(verification_dict(found)))
    for document in documents:
        figures = list(figures_in_json(orjson.loads(orjson.dumps(document))))
        assert outside(iter(figures)) == []
        assert figures
    for text in texts:
        assert outside(figures_in_text(text)) == []
    chart = curve_chart(choice.evidence)
    assert chart is not None
    figures = list(figures_in_svg(drawn(chart)))
    assert len(figures) >= len(choice.evidence["curve"])
    assert outside(iter(figures)) == []


def test_texts_of_routes_have_figures() -> None:
    """The patterns would pass where they match nothing."""
    design = terms()
    text = choice_text(design, learn(design, WORLDS["one bad kind"].pairs, now=2e9))
    assert len(list(figures_in_text(text))) >= 3
