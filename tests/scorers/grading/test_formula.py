"""A multi grader's formula: arithmetic and nothing else."""

from __future__ import annotations

import math

import pytest

from gateway.scorers.grading.formula import Formula


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a", 0.5), ("(a + b) / 2", 0.375), ("0.7 * a + 0.3 * b", 0.425), ("a^2", 0.25), ("-a + 1", 0.5), ("+b", 0.25),
        ("min(a, b)", 0.25), ("max(a, b, 1)", 1.0), ("abs(b - a)", 0.25), ("floor(a)", 0.0), ("ceil(a)", 1.0),
        ("sqrt(b)", 0.5), ("exp(0)", 1.0), ("log(1)", 0.0), ("a - b", 0.25), ("2 ** 3", 8.0),
    ],
)  # fmt: skip
def test_arithmetic(text, value):
    assert math.isclose(Formula(text, {"a": 1, "b": 1}).value({"a": 0.5, "b": 0.25}), value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a +", "is not a formula"),
        ("", "is not a formula"),
        ("c", 'no grader "c"; known: a, b'),
        ("__import__('os')", "is not allowed in a formula"),
        ("a.real", "is not allowed in a formula"),
        ("a if b else 1", "is not allowed in a formula"),
        ("[a]", "is not allowed in a formula"),
        ("'x' * 9", "is not allowed in a formula"),
        ("True", "is not allowed in a formula"),
        ("a < b", "is not allowed in a formula"),
        ("lambda: a", "is not allowed in a formula"),
        ("pow(a, b)", "is not allowed in a formula"),
        ("min(a, key=b)", "is not allowed in a formula"),
        ("a" * 3000, "longer than 2000"),
        ("+".join("a" * 200), "more than 300 parts"),
        ("-" * 1500 + "a", "formula|parts"),
        ("(" * 999 + "a", "is not a formula"),
    ],
)
def test_anything_else_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Formula(text, {"a": 1, "b": 1})


@pytest.mark.parametrize("text", ["a / (b - b)", "sqrt(0 - a)", "log(0)", "exp(1000)", "9 ^ 9 ^ 9", "min(a)"])
def test_where_it_has_no_value_that_is_said(text):
    with pytest.raises(ValueError, match="has no value here"):
        Formula(text, {"a": 1, "b": 1}).value({"a": 0.5, "b": 0.25})
