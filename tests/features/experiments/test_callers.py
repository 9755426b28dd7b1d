"""No caller weighs more than a fifth, from five callers on, and nobody loses more than that takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.features.experiments.callers import CAP, CAPPED_FROM, LEFT, may_be_left_out, thinned


@given(st.lists(st.integers(0, 10_000), max_size=40))
def test_no_caller_has_more_than_its_share(units: list[int]) -> None:
    weights = thinned(units)
    left = [n * w for n, w in zip(units, weights, strict=True)]
    assert all(0.0 < w <= 1.0 for w in weights)
    if min(weights, default=1.0) < 1.0:
        assert max(left) <= CAP * sum(left) * (1 + 1e-9)
        assert sum(left) >= LEFT * sum(units) * (1 - 1e-9)
        largest = max(left)
        assert all(w == 1.0 or n == pytest.approx(largest) for n, w in zip(left, weights, strict=True)), "no more cut"


@pytest.mark.parametrize(
    ("units", "weights"),
    [
        ([100], [1.0]),
        ([100, 1, 1, 1], [1.0] * 4),
        ([50, 50, 50, 50, 50], [1.0] * 5),
        ([400, 50, 50, 50, 50], [0.125, 1.0, 1.0, 1.0, 1.0]),
        ([100, *[10] * 10], [0.25, *[1.0] * 10]),
        ([10_000, 1, 1, 1, 1], [1.0] * 5),
        ([0, 400, 50, 50, 50, 50], [1.0, 0.125, 1.0, 1.0, 1.0, 1.0]),
    ],
    ids=["one", "fewer than five", "equal", "five", "one of eleven", "nothing would be left", "one without units"],
)
def test_known_cases_of_thinning(units: list[int], weights: list[float]) -> None:
    assert CAPPED_FROM == 5
    assert thinned(units) == pytest.approx(weights)


def test_a_caller_with_half_of_the_calls_is_the_traffic() -> None:
    assert may_be_left_out({"one": 10}) == []
    assert may_be_left_out({"a": 50, "b": 50}) == []
    assert may_be_left_out({"a": 80, "b": 20}) == ["b"]
    assert may_be_left_out({"a": 40, "b": 40, "c": 20}) == ["a", "b", "c"]
