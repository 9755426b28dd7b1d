"""The same number is written in the same way wherever it is shown."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.reports import number_format as say
from gateway.reports.model import Estimate


@pytest.mark.parametrize(
    ("scale", "places"),
    [(0.02, 3), (0.5, 2), (3.0, 1), (40.0, 0), (1e-9, 6), (0.0, 3), (None, 3), (math.inf, 3), (-0.02, 3)],
)
def test_decimals_tell_apart_a_tenth_of_the_scale(scale, places):
    assert say.digits(scale) == places


def test_a_row_has_the_decimals_of_margin_interval_or_value():
    wide, tight = Estimate(10.0, 0.0, 20.0), Estimate(1.0, 0.99, 1.01)
    assert say.digits_of(wide, tight, margin=0.5) == 2
    assert say.digits_of(wide, tight) == 3
    assert say.digits_of(Estimate(212.0), Estimate(None)) == 0
    assert say.digits_of(Estimate(None)) == 3


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0041, "0.004"), (-0.0041, "−0.004"), (-0.0001, "0.000"), (None, "–"), (math.nan, "–"), (math.inf, "∞"),
        (-math.inf, "−∞"), (1234567.0, "1\u202f234\u202f567.000"),
    ],
)  # fmt: skip
def test_a_number_has_a_real_minus_and_its_thousands_apart(value, shown):
    assert say.number(value, 3) == shown


@given(st.floats(), st.integers(0, 6))
def test_a_sign_is_shown_just_where_something_is_not_zero(value, places):
    shown = say.number(value, places, signed=True)
    assert (shown[0] in "+−") == any(sign in shown for sign in "123456789∞")
    assert "e" not in shown
    assert "nan" not in shown


def test_an_interval_without_a_bound_says_so():
    assert say.interval(Estimate(0.0, -0.0111, 0.0189), 3) == "−0.011 … +0.019"
    assert say.interval(Estimate(0.0, None, 0.02), 2) == "… +0.02"
    assert say.interval(Estimate(0.03, 0.02, None), 2, signed=False) == "0.02 …"
    assert say.interval(Estimate(0.0), 2) == "–"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (say.counted(1, "pair"), "1 pair"),
        (say.counted(1900, "pair"), "1\u202f900 pairs"),
        (say.share(0.0834), "8.3\u202f%"),
        (say.share(1.0), "100\u202f%"),
        (say.share(None), "–"),
        (say.change(2.41, 0.7), "−71\u202f%"),
        (say.change(0.0, 0.7), "–"),
        (say.change(2.0, None), "–"),
        (say.dollars(2.413), "$2.41"),
        (say.dollars(0.00321), "$0.0032"),
        (say.dollars(None), "–"),
        (say.when(0.0), "1970-01-01 00:00 UTC"),
        (say.when(None), "–"),
    ],
)
def test_counts_shares_changes_dollars_and_times(text, expected):
    assert text == expected


@given(st.lists(st.integers(), max_size=300), st.integers(2, 50))
def test_thinned_points_keep_order_the_first_and_the_last(points, most):
    kept = say.thinned(points, most)
    assert len(kept) == min(len(points), most)
    assert not points or (kept[0], kept[-1]) == (points[0], points[-1])
    places = iter(points)
    assert all(each in places for each in kept)
