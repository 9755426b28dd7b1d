"""The course of a difference: the margin, the band, and where it stands now."""

from __future__ import annotations

import math
import re

import pytest

from gateway.evals.experiments.report import IntervalTrail
from gateway.evals.reports.experiment.html.trails import MOST_POINTS, Course


def course(*points: tuple[int, float, float, float], margin: float | None = 0.02, small: bool = False) -> Course:
    return Course("t", IntervalTrail("m", points), "m", margin, small)


def numbers(d: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", d)]


def test_the_last_values_are_written_beside_the_line_and_said_to_who_cannot_see_it(read):
    svg = read(course((1, 0.01, -0.4, 0.4), (300, 0.004, -0.011, 0.019)).figure()).all("svg")[0]
    assert [t.text for t in svg.all("text", "bound")] == ["+0.019", "−0.011"]
    assert svg.one("text", "value").text == "+0.004"
    assert svg.one("desc").text == "After 300 pairs: +0.004, interval −0.011 … +0.019; the margin is 0.02."


def test_the_band_goes_along_the_upper_and_back_along_the_lower_bound(read):
    svg = read(course((1, 0.0, -0.1, 0.1), (2, 0.0, -0.05, 0.05), margin=None).figure()).all("svg")[0]
    (x1, up1), (x2, up2), (x3, low2), (x4, low1) = numbers(svg.one("path", "band").attributes["d"])
    assert (x1, x2) == (x4, x3)
    assert up1 < up2 < low2 < low1  # SVG's y grows downwards
    assert svg.all("rect") == svg.all("line", "margin") == []


def test_the_margin_lies_where_the_axis_says(read):
    svg = read(course((10, 0.0, -0.02, 0.02)).figure()).all("svg")[0]
    zone, margin = svg.one("rect", "zone"), svg.one("line", "margin")
    _, y = numbers(svg.one("path", "trail").attributes["d"])[0]
    bottom = float(zone.attributes["y"]) + float(zone.attributes["height"])
    assert bottom == pytest.approx(float(margin.attributes["y1"]), abs=0.02)
    assert y == pytest.approx((float(zone.attributes["y"]) + bottom) / 2, abs=0.1)
    tick = next(t for t in svg.all("text") if t.text == "−0.020")
    assert float(tick.attributes["y"]) - 4 == pytest.approx(float(margin.attributes["y1"]), abs=0.02)


def test_ten_thousand_points_are_thinned_and_the_drawing_stays_small():
    points = tuple((n, 0.1 / n, -1 / n, 1 / n) for n in range(1, 10_001))
    figure = course(*points).figure()
    assert len(figure) < 60_000
    assert len(numbers(re.findall(r'd="([^"]*)" class="trail"', figure)[0])) == MOST_POINTS
    assert "After 10\u202f000 pairs" in figure


def test_what_is_wide_before_it_settles_leaves_the_drawing_and_not_the_scale(read):
    svg = read(course((1, 5.0, -90.0, 90.0), (1000, 0.0, -0.01, 0.01)).figure()).all("svg")[0]
    assert {t.text for t in svg.all("text")} >= {"+0.020", "−0.020"}
    height = int(svg.attributes["viewbox"].split()[3])
    assert all(0 <= y <= height for _, y in numbers(svg.one("path", "band").attributes["d"]))


@pytest.mark.parametrize("points", [(), ((1, math.nan, 0.0, 0.0),)])
def test_without_a_point_there_is_no_drawing(points):
    assert course(*points).figure() is None


@pytest.mark.parametrize(
    "point", [(0, 0.0, 0.0, 0.0), (1, 0.0, -math.inf, math.inf), (5, 1e-9, -1e-9, 1e-9), (5, 1e6, -1e7, 1e7)]
)
@pytest.mark.parametrize("margin", [None, 0.0, 0.02])
def test_odd_values_are_drawn_too(read, point, margin):
    figure = course(point, margin=margin).figure()
    assert read(figure).one("svg", "wide")
    assert not re.search(r"\b(nan|inf)\b", re.sub("<desc.*?</desc>", "", figure))
