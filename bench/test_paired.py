"""The cost of the statistics of pairs is measured by the rules of plans. No number is judged."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # as in test_simulator.py
from paired import TURN, Load, measured


def test_the_cost_of_pairs_is_measured_by_rules() -> None:
    found = measured((1, 2), Load(6, 3, 2), seconds=2 * TURN, warm=0)
    assert list(found) == [1, 2]
    for cost in found.values():
        assert min(cost.reading, cost.experiments) > 0
        assert cost.all == cost.reading + cost.experiments
