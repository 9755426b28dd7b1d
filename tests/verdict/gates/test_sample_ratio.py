"""A split has the planned shares: shown, not only not refuted."""

from __future__ import annotations

import pytest

from gateway.statistics.srm import SequentialRatio
from gateway.verdict.gates.sample_ratio import srm_gate, units_for_srm


@pytest.mark.parametrize(
    ("counts", "state"),
    [([0, 0], 0), ([52, 48], 0), ([25_000, 25_100], 1), ([6_000, 5_000], -1)],
    ids=["none", "too few", "as planned", "not as planned"],
)
def test_the_shares_of_a_split_are_shown_to_be_the_planned_ones(counts: list[int], state: int) -> None:
    test = SequentialRatio([0.5, 0.5])
    for arm, n in enumerate(counts):
        test.counts[arm] = n
    test.add(0, 0)
    gate = srm_gate(test, ["control", "candidate"])
    assert gate.state == state
    assert gate.value is None or (gate.value < 0.01) == (state < 0)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.9, 0.1), (0.4, 0.3, 0.3)])
def test_the_needed_units_make_the_gate_of_a_split_green(shares: tuple[float, ...]) -> None:
    names = [f"arm{i}" for i in range(len(shares))]

    def state(units: int) -> int:
        counts = [round(units * share) for share in shares]
        return srm_gate(SequentialRatio(list(shares), counts=counts, log_peak=0.0), names).state

    needed = units_for_srm(shares)
    assert (state(needed), state(needed - 50)) == (1, 0)
