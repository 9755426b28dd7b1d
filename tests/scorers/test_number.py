"""The number of the reference, however it is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.score import Skipped
from gateway.scorers.number import Number, numbers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$1,234.50", [1234.5]),
        ("−7 °C, +3", [-7, 3]),
        ("1e5 and 2E-3", [1e5, 0.002]),
        ("1,2,3", [1, 2, 3]),
        ("12,34", [12, 34]),
        (".5 or 5%", [0.5, 5]),
        ("v1.2, x3 and a_4", []),
        ("It is 4.", [4]),
        ("3/4", [3, 4]),
        ("9" * 500, []),
        ("", []),
    ],
)
def test_numbers_are_read_as_people_write_them(text, expected):
    assert numbers(text) == expected


@given(st.integers(-(10**9), 10**9), st.integers(0, 6))
def test_every_way_to_write_a_number_is_that_number(value, places):
    for written in (f"{value}", f"{value:,}", f"so: {value}.", f"{value:.{places}f} kg"):
        assert numbers(written) == [value]


@pytest.mark.parametrize(
    ("options", "answer", "reference", "expected"),
    [
        ({}, "First 3, then 4. The answer is 7.", "It takes 5 + 2 = 7", 1),
        ({}, "7 apples, of 9", "7", 0),
        ({"which": "first"}, "7 apples, of 9", "7", 1),
        ({"which": "any"}, "8, 7 or 9", "7", 1),
        ({}, "none", "7", 0),
        ({"tolerance": 0.5}, "7.4", "7", 1),
        ({"tolerance": 0.3}, "7.4", "7", 0),
        ({"relative": 0.1}, "107", "100", 1),
        ({"relative": 0.0}, "107", "100", 0),
        ({}, "", "7", 0),
    ],
)
def test_options_decide_which_number_and_how_near(ask, subject, options, answer, reference, expected):
    assert ask(Number("n", **options), subject(answer, None, reference)).value == expected


def test_a_reference_without_a_number_is_not_scored(ask, subject):
    assert ask(Number("n"), subject("7", None, "seven")) == Skipped("a reference with a number in it")
