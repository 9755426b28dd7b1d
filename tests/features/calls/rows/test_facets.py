"""Counts of the newest calls by what the list filters."""

from __future__ import annotations

from gateway.core.exchange import Target
from gateway.features.calls.rows import facets
from gateway.store.query import reading


def test_each_facet_counts_what_the_other_choices_leave(store, exchange):
    made = [exchange("1", alias="chat" if i % 3 else "fast", outcome="ok" if i % 2 else "timeout") for i in range(12)]
    store.write(*made, exchange("1", target=Target("far", "other")))
    with reading(store.url) as connection:
        found = facets.count_facets(connection, None, {"alias": "chat"})
    by_name = {facet.name: dict(facet.values) for facet in found.facets}
    assert by_name["alias"]["fast"] == 4, "its own choice does not narrow a facet"
    assert by_name["outcome"] == {"ok": 5, "timeout": 4}
    assert (found.counted, found.whole) == (13, True)


def test_at_most_the_newest_calls_are_read(store, exchange):
    store.write(*(exchange("1", received=1_764_000_000.0 + i, alias="new" if i > 5 else "old") for i in range(9)))
    with reading(store.url) as connection:
        explain = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
        newest = "SELECT alias FROM exchanges ORDER BY received DESC, id DESC LIMIT 4000"
        plan = connection.exec_driver_sql(f"{explain} {newest}").fetchall()
        since = facets.count_facets(connection, 1_764_000_006.0, {})
    if explain != "EXPLAIN":
        assert "COVERING INDEX exchanges_found" in str(plan)
    assert since.counted == 3
