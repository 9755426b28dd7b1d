"""Cost against quality: what is on the front, drawn for a page and for a terminal."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.reports.model import Estimate
from gateway.reports.pareto import CostChart, PricedModel, cost_chart, front_of, in_characters


def a_chart(*models: tuple[str, float, float, bool], bounds: float = 0.1) -> CostChart:
    made = (
        PricedModel(name, Estimate(cost), Estimate(q, q - bounds, q + bounds), "candidate", front)
        for name, cost, q, front in models
    )
    return CostChart("costs", "Cost and quality", "Difference on quality", tuple(made))


THREE = a_chart(("control", 2.0, 0.0, True), ("fast", 0.5, -0.02, True), ("slow", 2.5, -0.04, False))


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([], []),
        ([(1.0, 0.0)], [True]),
        ([(1.0, 0.0), (1.0, 0.0)], [True, True]),
        ([(1.0, 0.0), (1.0, 0.1)], [False, True]),
        ([(1.0, 0.0), (0.5, 0.0)], [False, True]),
        ([(1.0, 0.1), (0.5, 0.0), (2.0, 0.05)], [True, True, False]),
    ],
)
def test_the_front_is_what_no_other_beats(points: list[tuple[float, float]], front: list[bool]) -> None:
    assert front_of(points) == front


POINTS = st.lists(st.tuples(st.floats(0, 100), st.floats(-1, 1)), min_size=1, max_size=8)


@given(POINTS)
def test_each_point_is_on_the_front_or_behind_one_that_is(points: list[tuple[float, float]]) -> None:
    front = front_of(points)
    ahead = [point for point, on in zip(points, front, strict=True) if on]
    assert ahead
    assert min(points)[0] == min(ahead)[0], "the cheapest is on it"
    assert max(q for _, q in points) == max(q for _, q in ahead), "and so is the best"
    for (cost, quality), on in zip(points, front, strict=True):
        assert on or any(c <= cost and q >= quality for c, q in ahead)


@example([(0.0, 0.0), (0.0, 5e-324)], 1.0)
@example([(0.0, 0.0), (0.0, 5e-324)], 0.0)
@given(POINTS.filter(lambda points: len(points) > 1), st.floats(0, 1e9))
def test_a_chart_is_finite_for_any_numbers(points: list[tuple[float, float]], bounds: float) -> None:
    front = front_of(points)
    chart = a_chart(
        *((f"m{i}", c, q, on) for i, ((c, q), on) in enumerate(zip(points, front, strict=True))), bounds=bounds
    )
    drawn = cost_chart(chart)
    assert drawn is not None
    for variant in drawn.variants:
        for shape in variant.shapes:
            numbers = [
                float(shape.attributes[name]) for name in ("x", "y", "cx", "cy", "x1", "y2") if name in shape.attributes
            ]
            assert all(map(math.isfinite, numbers))
            assert all(0 <= shape_x <= variant.width for shape_x in numbers[:1])
    lines = in_characters(chart)
    assert max(map(len, lines[1:13])) <= 72
    assert len({line[0] for line in lines[-len(points) :]}) == len(points), "a letter each"


def test_a_model_alone_is_not_a_chart() -> None:
    one = a_chart(("control", 2.0, 0.0, True))
    assert cost_chart(one) is None
    assert in_characters(one) == []


def test_the_chart_says_what_it_shows() -> None:
    drawn = cost_chart(THREE)
    assert drawn is not None
    assert drawn.description == (
        "USD per thousand requests and difference from the control. fast: $0.50, −0.020; control: $2.00, 0.000; slow: "
        "$2.50, −0.040. On the front: fast, control."
    )
    for variant in drawn.variants:
        names = [shape.text for shape in variant.shapes if shape.name == "text"]
        assert {"fast", "control", "slow", "USD per thousand requests"} <= set(names)
        sizes = [shape.attributes["r"] for shape in variant.shapes if shape.name == "circle"]
        assert sorted(sizes) == ["4", "6", "6"], "those on the front are larger"


def test_a_terminal_has_it_in_characters() -> None:
    lines = in_characters(THREE)
    assert lines[0] == "Difference on quality (up) against USD per thousand requests (right); capitals: the front"
    assert lines[-3:] == [
        "A fast: $0.50, −0.020, on the front",
        "B control: $2.00, 0.000, on the front",
        "c slow: $2.50, −0.040",
    ]
    rows = {letter: i for i, line in enumerate(lines[1:12]) for letter in "ABc" if letter in line.partition("│")[2]}
    assert rows["B"] < rows["A"] < rows["c"], "the better is above"
    columns = {letter: lines[1 + rows[letter]].index(letter, 10) for letter in "ABc"}
    assert columns["A"] < columns["B"] < columns["c"], "the cheaper is to the left"
