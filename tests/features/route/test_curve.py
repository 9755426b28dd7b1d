"""The chart of a route: share moved against quality lost."""

from __future__ import annotations

from fixtures.route_worlds import terms, world

from gateway.features.route.curve import curve_chart, described
from gateway.features.route.learning import learn


def test_the_chart_shows_the_band_the_margin_and_the_chosen_share() -> None:
    evidence = learn(terms(), world(1200, {"code": 0.3}, 1).pairs, now=2e9).evidence
    chart = curve_chart(evidence)
    assert chart is not None
    for variant in chart.variants:
        looks = [shape.attributes.get("class") for shape in variant.shapes]
        assert {"band", "trail", "margin", "zero", "dot good"} <= set(looks)
        assert looks.count("dot") == len(evidence["curve"])
    assert "of the traffic can move" in chart.description


def test_a_curve_without_a_choice_says_so() -> None:
    evidence = learn(terms(margin=0.001), world(600, {"code": 0.3}, 1).pairs, now=2e9).evidence
    assert evidence["chosen"] is None
    assert "is shown to lose at most 0.001 of judge" in described(evidence)
    assert curve_chart({**evidence, "curve": []}) is None
