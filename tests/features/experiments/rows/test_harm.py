"""The quarter-hours that a plan's pairs are of, which a stop for harm needs three of."""

from __future__ import annotations

from typing import Any

from gateway.features.experiments.rows.harm import times_of_pairs
from gateway.store.tables import pairs

QUARTER = 900.0


def test_many_pairs_a_second_are_of_all_their_quarter_hours(store: Any) -> None:
    """The newest thousands of a busy model would all be of one quarter-hour."""
    rows = [
        {
            "id": f"{quarter}-{i}", "experiment": "swap", "plan": "p", "position": f"{quarter}-{i}", "asked": "[]",
            "received": quarter * QUARTER + i / 10, "state": "joined", "place": 3000 * (quarter - 1000) + i,
        }
        for quarter in (1000, 1001, 1002) for i in range(3000)
    ]  # fmt: skip
    rows.append({**rows[0], "id": "open", "received": 1003 * QUARTER, "state": "open", "place": None})
    rows.append({**rows[0], "id": "other", "received": 1004 * QUARTER, "plan": "q"})
    store.run(lambda c: c.execute(pairs.insert(), rows))
    assert sorted(store.run(lambda c: list(times_of_pairs(c, "p")))) == [q * QUARTER for q in (1000, 1001, 1002)]
