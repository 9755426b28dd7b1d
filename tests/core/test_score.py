"""Values on a scorer's own scale, rescaled to [0, 1] with 1 as the best."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gateway.core.score import Bounds, Direction, Kind, unit_value


@dataclass(frozen=True)
class Info:
    bounds: Bounds
    direction: Direction = "maximise"
    version: str = "1"
    kind: Kind = "code"


@pytest.mark.parametrize(
    ("value", "bounds", "direction", "expected"),
    [
        (3.0, (1.0, 5.0), "maximise", 0.5),
        (5.0, (1.0, 5.0), "maximise", 1.0),
        (1.0, (1.0, 5.0), "minimise", 1.0),
        (0.25, (0.0, 1.0), "neutral", 0.25),
    ],
)
def test_the_best_value_becomes_1(value: float, bounds: Bounds, direction: Direction, expected: float) -> None:
    assert unit_value(value, Info(bounds, direction)) == expected


@pytest.mark.parametrize("bounds", [(0.0, None), (None, 1.0), (None, None), (2.0, 2.0)])
def test_a_scale_without_two_ends_has_no_unit_value(bounds: Bounds) -> None:
    assert unit_value(3.0, Info(bounds)) is None
