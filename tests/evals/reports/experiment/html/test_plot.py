"""Scales, ticks, and figures that can be read at two widths and without eyes."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.evals.reports.experiment.html.markup import tag
from gateway.evals.reports.experiment.html.plot import NARROW, WIDE, Chart, Frame, Scale, path, ticks


def test_what_lies_outside_is_drawn_at_the_edge():
    x = Scale(0, 10, 100, 200)
    assert [x(v) for v in (-5, 0, 5, 10, float("inf"))] == [100, 100, 150, 200, 200]
    assert Scale(0, 1, 90, 10)(0.25) == 70


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 12))
def test_ticks_are_round_numbers_within_about_as_many_as_wanted(low, span, about):
    high = low + span
    assume(high > low)
    assume(span > abs(low) * 1e-6)  # else a float cannot tell the ticks apart
    found = ticks(low, high, about)
    assert all(low - span * 1e-6 <= v <= high + span * 1e-6 for v in found)
    assert found == sorted(set(found))
    assert about / 3 <= len(found) + 1
    assert len(found) <= about + 2


def test_ticks_have_no_crumbs():
    assert ticks(-0.3, 0.3, 6) == [-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3]
    assert ticks(0, 1240, 6) == [0, 200, 400, 600, 800, 1000, 1200]


def test_a_path_is_drawn_to_a_tenth_of_a_pixel():
    assert path([(0, 1), (2.345, 3)]) == "M0.0 1.0L2.3 3.0"
    assert path([(0, 1)], closed=True) == "M0.0 1.0Z"


def test_a_chart_is_drawn_for_both_widths_and_says_what_it_shows(read):
    figure = read(Chart("c", "The <title>", "What it says.", 100, lambda width: tag("g", width)).figure("Caption"))
    wide, narrow = figure.all("svg")
    assert (wide.one("g").text, narrow.one("g").text) == (str(WIDE), str(NARROW))
    assert (wide.attributes["class"], narrow.attributes["class"]) == ("wide", "narrow")
    for svg in (wide, narrow):
        assert svg.attributes["role"] == "img"
        named = svg.attributes["aria-labelledby"].split()
        assert named == [svg.one("title").attributes["id"], svg.one("desc").attributes["id"]]
        assert (svg.one("title").text, svg.one("desc").text) == ("The <title>", "What it says.")
    assert figure.one("figcaption").text == "Caption"


def test_a_small_chart_is_always_narrow(read):
    figure = read(Chart("c", "t", "s", 100, lambda width: str(width), small=True).figure())
    assert figure.one("svg").attributes["viewbox"] == f"0 0 {NARROW} 100"
    assert figure.all("figcaption") == []


def test_axes_have_a_line_and_a_label_for_each_tick(read):
    frame = Frame(Scale(0, 2, 50, 150), Scale(0, 1, 90, 10), ((0, "0"), (2, "two")), ((1, "one"),), "pairs")
    drawn = read(frame.drawn())
    assert [t.text for t in drawn.all("text")] == ["one", "0", "two", "pairs"]
    (grid,) = drawn.all("line", "grid")
    assert (grid.attributes["y1"], grid.attributes["x2"]) == ("10", "150")
