"""Latency curves: steps, quantiles, and which arms may be compared."""

from __future__ import annotations

import math
import re

import pytest

from gateway.evals.experiments.report import ArmLatency, Estimate
from gateway.evals.reports.experiment.html.curves import MOST_POINTS, LatencyCurves


def arm(name: str, *curve: tuple[float, float], p50: float | None = 1.0, comparable: bool = True) -> ArmLatency:
    late = None if p50 is None else 2 * p50
    return ArmLatency(name, "total_s", len(curve), Estimate(p50), Estimate(late), curve, comparable)


def drawn(read, *arms: ArmLatency):
    return read(LatencyCurves("c", "Whole answers", arms, {"a": "control", "b": "candidate"}).figure()).all("svg")[0]


def test_each_arm_has_its_colour_its_quantiles_and_a_dash_where_it_may_not_be_compared(read):
    svg = drawn(read, arm("a", (1.0, 0.5), (2.0, 1.0), comparable=False), arm("b", (0.5, 0.5), (1.0, 1.0), p50=0.5))
    assert [p.attributes["class"] for p in svg.all("path")] == ["curve control apart", "curve candidate"]
    assert len(svg.all("circle")) == 4
    assert svg.one("desc").text == "a: half by 1.0 s, 95 % by 2.0 s; b: half by 0.50 s, 95 % by 1.0 s"


def test_a_curve_is_of_steps(read):
    d = drawn(read, arm("a", (1.0, 0.5), (2.0, 1.0))).one("path").attributes["d"]
    points = re.findall(r"([\d.]+) ([\d.]+)", d)
    assert len(points) == 5
    assert points[1][1] == points[0][1]
    assert points[1][0] == points[2][0]
    assert points[3][1] == points[2][1]


def test_the_slowest_of_a_hundred_does_not_press_the_others_together(read):
    curve = (*((0.01 * n, n / 100) for n in range(1, 100)), (600.0, 1.0))
    svg = drawn(read, arm("a", *curve, p50=0.5))
    assert max(float(t.text) for t in svg.all("text") if re.fullmatch(r"[\d.]+", t.text)) <= 1.1


def test_many_answers_are_thinned_and_odd_ones_left_out():
    curve = (*((0.001 * n, n / 5000) for n in range(1, 5001)), (math.inf, 1.0), (math.nan, 1.0))
    figure = LatencyCurves("c", "t", [arm("a", *curve)], {}).figure()
    assert "inf" not in figure
    assert "nan" not in figure
    assert figure.count("L") <= 2 * 2 * (MOST_POINTS + 1)
    assert "curve other" in figure


@pytest.mark.parametrize("arms", [(), (arm("a"),), (arm("a", (math.nan, 1.0), p50=None),)])
def test_without_a_curve_there_is_no_drawing(arms):
    assert LatencyCurves("c", "t", arms, {}).figure() is None


def test_an_arm_without_answers_stands_beside_one_that_has_some(read):
    svg = drawn(read, arm("a", p50=None), arm("b", (0.0, 1.0), p50=0.0))
    assert len(svg.all("path")) == 1
    assert "a: half by – s" in svg.one("desc").text
