"""Customers that have cells, and those who are left out until they are known."""

from __future__ import annotations

import numpy as np

from gateway.features.models.watch.cells import OTHERS, CellHours, TrafficCell, grouped_cells, in_cells, members
from gateway.statistics.adjusted_means import SUMS, HourlySums


def of(calls: dict[str, list[float]]) -> CellHours:
    """Hours of customers of one form, with as many values as calls."""
    array = np.array(list(calls.values())).T
    values = array[..., None]
    hours = np.arange(len(array)) + 1_000
    sums = HourlySums(hours, np.stack([values] * SUMS, axis=3))
    return CellHours([TrafficCell(name, "chat") for name in calls], ["score j"], sums, array, hours)


def test_small_customers_are_one() -> None:
    hours = of({"a": [50.0], "b": [49.0], "c": [1.0], OTHERS: [5.0]})
    assert members(hours) == {"a", "b"}
    cells, index = grouped_cells(hours, {"a", "b"})
    assert cells == [TrafficCell("a", "chat"), TrafficCell("b", "chat"), TrafficCell(OTHERS, "chat")]
    assert index.tolist() == [0, 1, 2, 2]


def test_a_newcomer_with_many_calls_is_left_out() -> None:
    known = {TrafficCell("a", "chat"): 0, TrafficCell(OTHERS, "chat"): 1}
    hours = of({"a": [100.0] * 30, "big": [0.0] * 20 + [50.0] * 10, "small": [0.0] * 29 + [1.0]})
    grouped = in_cells(hours, known, {"a"}, 20)
    assert grouped.sums.strata[-1, :, 0, 0].tolist() == [100.0, 1.0]
    assert abs(grouped.left_out[-1] - 50 / 151) < 1e-9
    assert grouped.mix[-1].tolist() == [3000.0, 1.0]


def test_a_new_form_of_a_known_customer_is_left_out() -> None:
    grouped = in_cells(of({"a": [10.0], "b": [5.0]}), {TrafficCell("b", "chat"): 0}, {"a", "b"}, 0)
    assert grouped.sums.strata[0, :, 0, 0].tolist() == [5.0]
    assert abs(grouped.left_out[0] - 2 / 3) < 1e-9
