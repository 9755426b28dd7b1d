"""The drawings of the reports: to scale, readable at two widths, and finite for any numbers."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.reports.charts import (
    CURVE_POINTS,
    NARROW,
    TRAIL_POINTS,
    WIDE,
    Chart,
    Drawing,
    IntervalScale,
    LatencyCurves,
    Scale,
    Shape,
    Trail,
    Variant,
    amount_bar,
    extent,
    interval_bar,
    latency_chart,
    price_bar,
    share_bar,
    ticks,
    trail_chart,
)
from gateway.reports.html import environment
from gateway.reports.model import ArmLatency, Estimate, IntervalTrail

Figure = Drawing | Variant


def shapes(figure: Figure, name: str, look: str | None = None) -> list[Shape]:
    return [
        s for s in figure.shapes if s.name == name and look in (None, *s.attributes.get("class", "").split())
    ]  # fmt: skip


def shape(figure: Figure, name: str, look: str | None = None) -> Shape:
    (found,) = shapes(figure, name, look)
    return found


def at(found: Shape, name: str) -> float:
    return float(found.attributes[name])


def numbers(d: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", d)]


def text_of(figure: Figure) -> str:
    return " ".join(" ".join([s.name, *s.attributes.values(), s.text]) for s in figure.shapes)


def test_a_value_outside_the_scale_is_drawn_at_its_edge():
    x = Scale(0, 10, 100, 200)
    assert [x(v) for v in (-5, 0, 5, 10, float("inf"))] == [100, 100, 150, 200, 200]
    assert Scale(0, 1, 90, 10)(0.25) == 70


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 12))
def test_ticks_are_about_as_many_as_wanted(low, span, about):
    high = low + span
    assume(high > low)
    assume(span > abs(low) * 1e-6)  # else a float cannot represent the distance between two ticks
    found = ticks(low, high, about)
    assert all(low - span * 1e-6 <= v <= high + span * 1e-6 for v in found)
    assert found == sorted(set(found))
    assert about / 3 <= len(found) + 1
    assert len(found) <= about + 2


def test_ticks_are_round_numbers():
    assert ticks(-0.3, 0.3, 6) == [-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3]
    assert ticks(0, 1240, 6) == [0, 200, 400, 600, 800, 1000, 1200]


def bar(*estimate: float | None, margin: float | None = 0.02, to: float = 0.04) -> Drawing:
    drawn = interval_bar(Estimate(*estimate), IntervalScale(to, margin), "good")
    assert drawn is not None
    return drawn


def test_an_interval_is_drawn_against_its_margin():
    drawn = bar(0.01, 0.0, 0.02)
    edge, zero = at(shape(drawn, "line", "margin"), "x1"), at(shape(drawn, "line", "zero"), "x1")
    zone, whisker = shape(drawn, "rect", "zone"), shape(drawn, "line", "whisker")
    assert at(zone, "x") == edge < zero
    right = edge + at(zone, "width")
    assert (at(whisker, "x1"), at(whisker, "x2")) == (zero, pytest.approx(right))
    assert at(shape(drawn, "circle"), "cx") == pytest.approx((zero + right) / 2)
    assert shapes(drawn, "path") == []


def test_an_interval_that_leaves_the_drawing_has_an_arrow():
    drawn = bar(-0.5, -0.9, 0.01)
    assert len(shapes(drawn, "path", "arrow")) == 1
    assert shapes(drawn, "circle") == [], "the value is outside"
    assert len(shapes(bar(0.0, -math.inf, math.inf), "path", "arrow")) == 2


def test_a_chart_without_a_margin_has_no_zone():
    drawn = bar(0.01, margin=None)
    assert shapes(drawn, "rect") == shapes(drawn, "line", "margin") == []


def test_an_estimate_without_a_value_has_no_bar():
    assert interval_bar(Estimate(None), IntervalScale(1.0, 0.02), "open") is None


@given(st.lists(st.tuples(*[st.none() | st.floats()] * 3), max_size=5), st.none() | st.floats(0, 1e3))
def test_any_interval_can_be_drawn(values, margin):
    estimates = [Estimate(*each) for each in values]
    to = extent(estimates, margin)
    assert 0 < to < math.inf
    for e in estimates:
        drawn = interval_bar(e, IntervalScale(to, margin), "open")
        assert drawn is None or not re.search("nan|inf", text_of(drawn))


def test_a_scale_covers_its_intervals_up_to_three_margins():
    assert extent([Estimate(0.0, -0.03, 0.01)], 0.02) == pytest.approx(0.033)
    assert extent([Estimate(0.0, -9.0, 0.01)], 0.02) == pytest.approx(0.064)
    assert extent([Estimate(0.0, -0.001, 0.001)], 0.02) == pytest.approx(0.032)
    assert extent([], None) == 1.0


def test_amounts_are_on_one_scale():
    bars = [amount_bar(Estimate(v), 2.0, "control") for v in (2.0, 1.0)]
    full, half = (at(shape(drawn, "rect"), "width") for drawn in bars if drawn)
    assert half == pytest.approx(full / 2)
    with_interval = amount_bar(Estimate(1.0, 0.5, 1.5), 2.0, "control")
    assert with_interval is not None
    assert shape(with_interval, "line", "whisker")


@pytest.mark.parametrize(("value", "most"), [(None, 1.0), (math.inf, 1.0), (0.0, 0.0)])
def test_an_amount_without_a_scale_is_not_drawn(value, most):
    assert amount_bar(Estimate(value), most, "control") is None


def test_a_price_is_drawn_as_paid_and_to_go() -> None:
    bar = price_bar(30, 90, 120)
    assert bar is not None
    paid, to_go = shapes(bar, "rect")
    assert at(to_go, "width") == pytest.approx(3 * at(paid, "width"))
    assert at(to_go, "x") == pytest.approx(at(paid, "x") + at(paid, "width"))
    longer = price_bar(30, 30, 120)
    assert longer is not None
    assert at(shapes(longer, "rect")[0], "width") == at(paid, "width"), "all bars of a page have one scale"
    assert price_bar(30, None, 120) is None
    assert price_bar(0, 0, 0) is None


def test_shares_fill_the_width_in_proportion():
    wins, losses = shapes(share_bar([(3, "wins"), (0, "ties"), (1, "losses")]), "rect")
    assert (at(wins, "width"), at(losses, "x"), at(losses, "width")) == (750, 750, 250)
    assert share_bar([(0, "wins")]).shapes == ()


def course(*points: tuple[int, float, float, float], margin: float | None = 0.02, small: bool = False) -> Chart:
    chart = trail_chart(Trail("t", IntervalTrail("m", points), "m", margin, small))
    assert chart is not None
    return chart


def test_a_trail_shows_its_last_values_as_numbers():
    chart = course((1, 0.01, -0.4, 0.4), (300, 0.004, -0.011, 0.019))
    drawn = chart.variants[0]
    assert [s.text for s in shapes(drawn, "text", "bound")] == ["+0.019", "−0.011"]
    assert shape(drawn, "text", "value").text == "+0.004"
    assert chart.description == "After 300 pairs: +0.004, interval −0.011 … +0.019; the margin is 0.02."


def test_a_trail_ends_with_the_interval_that_decides():
    """The interval of the last look, or of one look at the end, is narrower than the band, which holds at every
    look.
    """
    points = ((1, 0.01, -0.4, 0.4), (300, 0.004, -0.011, 0.019))
    final = Estimate(0.004, -0.006, 0.014)
    chart = trail_chart(Trail("t", IntervalTrail("m", points), "m", 0.02, final=final))
    assert chart is not None
    drawn = chart.variants[0]
    assert [s.text for s in shapes(drawn, "text", "bound")] == ["+0.014", "−0.006"]
    assert chart.description == "After 300 pairs: +0.004, interval −0.006 … +0.014; the margin is 0.02."
    band = numbers(shape(drawn, "path", "band").attributes["d"])
    bar = shape(drawn, "line", "whisker")
    assert band[1][1] < at(bar, "y2") < at(bar, "y1") < band[2][1]


def test_a_trail_without_a_final_interval_ends_with_its_band():
    points = ((300, 0.004, -0.011, 0.019),)
    chart = trail_chart(Trail("t", IntervalTrail("m", points), "m", 0.02, final=Estimate(None)))
    assert chart is not None
    assert "interval −0.011 … +0.019" in chart.description


def test_the_band_lies_between_the_two_bounds():
    drawn = course((1, 0.0, -0.1, 0.1), (2, 0.0, -0.05, 0.05), margin=None).variants[0]
    (x1, up1), (x2, up2), (x3, low2), (x4, low1) = numbers(shape(drawn, "path", "band").attributes["d"])
    assert (x1, x2) == (x4, x3)
    assert up1 < up2 < low2 < low1  # SVG's y grows downwards
    assert shapes(drawn, "rect") == shapes(drawn, "line", "margin") == []


def test_the_margin_lies_where_the_axis_says():
    drawn = course((10, 0.0, -0.02, 0.02)).variants[0]
    zone, margin = shape(drawn, "rect", "zone"), shape(drawn, "line", "margin")
    _, y = numbers(shape(drawn, "path", "trail").attributes["d"])[0]
    bottom = at(zone, "y") + at(zone, "height")
    assert bottom == pytest.approx(at(margin, "y1"), abs=0.02)
    assert y == pytest.approx((at(zone, "y") + bottom) / 2, abs=0.1)
    tick = next(s for s in shapes(drawn, "text") if s.text == "−0.020")
    assert at(tick, "y") - 4 == pytest.approx(at(margin, "y1"), abs=0.02)


def test_ten_thousand_points_are_thinned():
    chart = course(*((n, 0.1 / n, -1 / n, 1 / n) for n in range(1, 10_001)))
    for drawn in chart.variants:
        assert len(numbers(shape(drawn, "path", "trail").attributes["d"])) == TRAIL_POINTS
        assert len(text_of(drawn)) < 30_000
    assert "After 10\u202f000 pairs" in chart.description


def test_a_wide_early_interval_does_not_set_the_scale():
    chart = course((1, 5.0, -90.0, 90.0), (1000, 0.0, -0.01, 0.01))
    drawn = chart.variants[0]
    assert {s.text for s in shapes(drawn, "text")} >= {"+0.020", "−0.020"}
    assert all(0 <= y <= chart.height for _, y in numbers(shape(drawn, "path", "band").attributes["d"]))


@pytest.mark.parametrize("points", [(), ((1, math.nan, 0.0, 0.0),)])
def test_a_trail_without_a_point_has_no_chart(points):
    assert trail_chart(Trail("t", IntervalTrail("m", points), "m", 0.02)) is None


@pytest.mark.parametrize(
    "point", [(0, 0.0, 0.0, 0.0), (1, 0.0, -math.inf, math.inf), (5, 1e-9, -1e-9, 1e-9), (5, 1e6, -1e7, 1e7)]
)
@pytest.mark.parametrize("margin", [None, 0.0, 0.02])
def test_extreme_values_have_finite_coordinates(point, margin):
    for drawn in course(point, margin=margin).variants:
        assert not re.search(r"\b(nan|inf)\b", text_of(drawn))


def arm(name: str, *curve: tuple[float, float], p50: float | None = 1.0, comparable: bool = True) -> ArmLatency:
    late = None if p50 is None else 2 * p50
    return ArmLatency(name, "total_s", len(curve), Estimate(p50), Estimate(late), curve, comparable)


def curves(*arms: ArmLatency) -> Chart:
    chart = latency_chart(LatencyCurves("c", "Whole answers", arms, {"a": "control", "b": "candidate"}))
    assert chart is not None
    return chart


def test_each_arm_has_its_colour_and_its_quantiles():
    chart = curves(arm("a", (1.0, 0.5), (2.0, 1.0), comparable=False), arm("b", (0.5, 0.5), (1.0, 1.0), p50=0.5))
    drawn = chart.variants[0]
    assert [s.attributes["class"] for s in shapes(drawn, "path")] == ["curve control apart", "curve candidate"]
    assert len(shapes(drawn, "circle")) == 4
    assert chart.description == "a: half by 1.0 s, 95 % by 2.0 s; b: half by 0.50 s, 95 % by 1.0 s"


def test_a_latency_curve_consists_of_steps():
    drawn = curves(arm("a", (1.0, 0.5), (2.0, 1.0))).variants[0]
    points = numbers(shape(drawn, "path").attributes["d"])
    assert len(points) == 5
    assert points[1][1] == points[0][1]
    assert points[1][0] == points[2][0]
    assert points[3][1] == points[2][1]


def test_the_slowest_answer_does_not_compress_the_curve():
    slowest = (*((0.01 * n, n / 100) for n in range(1, 100)), (600.0, 1.0))
    drawn = curves(arm("a", *slowest, p50=0.5)).variants[0]
    assert max(float(s.text) for s in shapes(drawn, "text") if re.fullmatch(r"[\d.]+", s.text)) <= 1.1


def test_a_curve_is_thinned_and_leaves_out_odd_values():
    many = (*((0.001 * n, n / 5000) for n in range(1, 5001)), (math.inf, 1.0), (math.nan, 1.0))
    chart = latency_chart(LatencyCurves("c", "t", [arm("x", *many)], {}))
    assert chart is not None
    for drawn in chart.variants:
        assert not re.search("inf|nan", text_of(drawn))
        assert shape(drawn, "path", "other").attributes["d"].count("L") <= 2 * (CURVE_POINTS + 1)


@pytest.mark.parametrize("arms", [(), (arm("a"),), (arm("a", (math.nan, 1.0), p50=None),)])
def test_a_latency_chart_needs_a_curve(arms):
    assert latency_chart(LatencyCurves("c", "t", arms, {})) is None


def test_an_arm_without_answers_appears_in_the_description():
    chart = curves(arm("a", p50=None), arm("b", (0.0, 1.0), p50=0.0))
    assert len(shapes(chart.variants[0], "path")) == 1
    assert "a: half by – s" in chart.description


def test_a_chart_has_two_widths_and_an_accessible_name(read):
    chart = course((1, 0.0, -0.1, 0.1))
    figure = read(environment().get_template("chart.html.jinja").module.figure(chart, "The <title>", ": better"))
    wide, narrow = figure.all("svg")
    assert (wide.attributes["viewbox"], narrow.attributes["viewbox"]) == (f"0 0 {WIDE} 320", f"0 0 {NARROW} 320")
    assert (wide.attributes["class"], narrow.attributes["class"]) == ("wide", "narrow")
    for svg in (wide, narrow):
        assert svg.attributes["role"] == "img"
        named = svg.attributes["aria-labelledby"].split()
        assert named == [svg.one("title").attributes["id"], svg.one("desc").attributes["id"]]
        assert (svg.one("title").text, svg.one("desc").text) == ("m", chart.description)
    assert figure.one("figcaption").text == "The <title>: better"


def test_a_small_chart_has_one_width():
    (only,) = course((1, 0.0, -0.1, 0.1), small=True).variants
    assert (only.look, only.width) == ("small", NARROW)


def test_a_drawing_in_a_cell_is_hidden_from_screen_readers(read):
    drawn = read(environment().get_template("chart.html.jinja").module.inline(bar(0.01))).one("svg")
    assert drawn.attributes["aria-hidden"] == "true"
