"""Sums of past hours come back as they were stored. On both databases."""

from __future__ import annotations

import pytest

from gateway.features.today.rows.hour_history import (
    hour_from_json,
    hour_to_json,
    store_hour,
    stored_begins,
    stored_hours,
)
from gateway.features.today.rows.hours import hour_sums
from gateway.store.query import reading

BEGIN = 1_764_000_000.0


@pytest.fixture
def sums(store, exchange):
    store.write(
        exchange("1", received=BEGIN + 10, pi=0.5, total_s=1.0),
        exchange("0", received=BEGIN + 20, total_s=2.0, outcome="timeout", status=504),
    )
    with reading(store.url) as connection:
        return hour_sums(connection, BEGIN)


def test_an_hour_comes_back_as_it_was(store, sums):
    with store.engine.begin() as connection:
        store_hour(connection, BEGIN, sums, 0.0)
        store_hour(connection, BEGIN, {}, 0.0)
    with reading(store.url) as connection:
        assert stored_hours(connection, [BEGIN, BEGIN + 3600]) == {BEGIN: sums}
        assert stored_begins(connection, BEGIN + 1) == set()
        assert stored_begins(connection, BEGIN) == {BEGIN}


def test_old_hours_are_forgotten(store):
    with store.engine.begin() as connection:
        for begin in (BEGIN, BEGIN + 3600):
            store_hour(connection, begin, {}, begin)
    with reading(store.url) as connection:
        assert stored_begins(connection, 0.0) == {BEGIN + 3600}


def test_json_holds_names_of_any_kind(sums):
    odd = {('"quoted"\n', "up/m\u202e\x00"): next(iter(sums.values()))}
    assert hour_from_json(hour_to_json(odd)) == odd
