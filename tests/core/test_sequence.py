"""The record of a sequence, as rows of its tables."""

from __future__ import annotations

from gateway.core.sequence import Increment, SequenceName, TrailPoint
from gateway.store.tables import SEQUENCE, increments, trails

NAME = SequenceName("plan", "candidate", "quality", "1 c1")


def test_a_name_is_the_key_of_its_tables() -> None:
    assert tuple(NAME.values) == SEQUENCE
    assert tuple(NAME.values.values()) == ("plan", "candidate", "quality", "1 c1")


def test_rows_have_the_columns_of_their_table() -> None:
    assert set(Increment(NAME, "p", 1, None, 0.0, 1.0, 1.0).row) <= set(increments.c.keys())
    assert set(TrailPoint(NAME, 1, 0.0, -1.0, 1.0).row) <= set(trails.c.keys())
