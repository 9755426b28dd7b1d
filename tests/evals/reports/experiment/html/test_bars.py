"""Small drawings in table rows: on scale, marked where they go on, silent to who listens."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.evals.experiments.report import Estimate
from gateway.evals.reports.experiment.html.bars import NARROW, amount_bar, interval_bar, parts_bar, reach


def bar(read, *estimate: float | None, margin: float | None = 0.02, to: float = 0.04):
    return read(interval_bar(Estimate(*estimate), margin, to, 1, NARROW)).one("svg")


def test_an_interval_lies_against_its_margin(read):
    svg = bar(read, 0.01, 0.0, 0.02)
    edge, zero = float(svg.one("line", "margin").attributes["x1"]), float(svg.one("line", "zero").attributes["x1"])
    zone, whisker = svg.one("rect", "zone"), svg.one("line", "whisker")
    assert float(zone.attributes["x"]) == edge < zero
    right = edge + float(zone.attributes["width"])
    assert (float(whisker.attributes["x1"]), float(whisker.attributes["x2"])) == (zero, pytest.approx(right))
    assert float(svg.one("circle").attributes["cx"]) == pytest.approx((zero + right) / 2)
    assert svg.attributes["aria-hidden"] == "true"
    assert svg.all("path") == []


def test_what_goes_on_has_an_arrow_and_a_value_outside_no_dot(read):
    svg = bar(read, -0.5, -0.9, 0.01)
    assert len(svg.all("path", "arrow")) == 1
    assert svg.all("circle") == []
    assert len(bar(read, 0.0, -math.inf, math.inf).all("path", "arrow")) == 2


def test_without_a_margin_there_is_no_zone_and_without_a_value_no_bar(read):
    svg = bar(read, 0.01, margin=None)
    assert svg.all("rect") == svg.all("line", "margin") == []
    assert interval_bar(Estimate(None), 0.02, 1.0, 0, NARROW) is None


@given(
    st.lists(st.tuples(*[st.none() | st.floats()] * 3), max_size=5),
    st.none() | st.floats(0, 1e3),
)
def test_any_interval_can_be_drawn(values, margin):
    estimates = [Estimate(*each) for each in values]
    to = reach(estimates, margin)
    assert 0 < to < math.inf
    for e in estimates:
        drawn = interval_bar(e, margin, to, 0, NARROW) or ""
        assert "nan" not in drawn
        assert "inf" not in drawn


def test_a_row_reaches_as_far_as_its_intervals_up_to_three_margins():
    assert reach([Estimate(0.0, -0.03, 0.01)], 0.02) == pytest.approx(0.033)
    assert reach([Estimate(0.0, -9.0, 0.01)], 0.02) == pytest.approx(0.064)
    assert reach([Estimate(0.0, -0.001, 0.001)], 0.02) == pytest.approx(0.032)
    assert reach([], None) == 1.0


def test_amounts_are_on_one_scale(read):
    whole, half = (float(read(amount_bar(Estimate(v), 2.0, "control")).one("rect").attributes["width"]) for v in (2, 1))
    assert half == pytest.approx(whole / 2)
    assert read(amount_bar(Estimate(1.0, 0.5, 1.5), 2.0, "control")).one("line", "whisker")
    for e, most in ((Estimate(None), 1.0), (Estimate(math.inf), 1.0), (Estimate(0.0), 0.0)):
        assert amount_bar(e, most, "control") is None


def test_parts_fill_the_width_in_proportion(read):
    wins, losses = read(parts_bar([(3, "wins"), (0, "ties"), (1, "losses")])).all("rect")
    assert (wins.attributes["width"], losses.attributes["x"], losses.attributes["width"]) == ("750", "750", "250")
    assert read(parts_bar([(0, "wins")])).one("svg").within == []
