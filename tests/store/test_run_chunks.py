"""The shared parts of a run's calls are stored once, and read back byte for byte."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fixtures.run_histories import growing, histories
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from gateway.core.exchange import Exchange, new_id
from gateway.features.calls.rows import erase
from gateway.features.calls.rows.export import ExportSource
from gateway.features.runs.rows import requests_of
from gateway.store import retention, run_chunks
from gateway.store.query import ExchangeFilter, full_exchange, list_exchanges, reading
from gateway.store.retention import RetentionLimits, size
from gateway.store.run_chunks import request_size, whole_request
from gateway.store.tables import exchanges
from gateway.store.where import parse

pytestmark = pytest.mark.dialect

NOW, LATER = 1_000_000.0, 4e9
CHUNKS = "SELECT run_id, chunk FROM run_chunks ORDER BY run_id, chunk"
NEEDED = "SELECT id, run_id, request_chunks FROM exchanges WHERE request_chunks IS NOT NULL"


def calls_of(exchange: Any, requests: Sequence[bytes], run: str = "r", **fields: Any) -> list[Exchange]:
    return [exchange(run=run, request=body, received=NOW + n, **fields) for n, body in enumerate(requests)]


def read_back(store: Any) -> dict[str, tuple[bytes, int]]:
    query = select(exchanges.c.id, whole_request(), request_size())
    return {row[0]: (bytes(row[1]), row[2]) for row in store.run(lambda c: c.execute(query).all())}


def expected(calls: Sequence[Exchange]) -> dict[str, tuple[bytes, int]]:
    return {call.id: (call.request, len(call.request)) for call in calls}


def sweep(store: Any, now: float, **bounds: Any) -> None:
    store.run(lambda c: c.execute(update(exchanges).values(stored=NOW)))
    store.run(lambda c: retention.sweep(c, RetentionLimits(protected_s=0.0, **bounds), "me", now))


def assert_no_chunk_is_unused(store: Any) -> None:
    import orjson

    needed = {(run, number) for _, run, numbers in store.sql(NEEDED) for number in orjson.loads(numbers)}
    assert set(store.sql(CHUNKS)) == needed
    stored = dict(store.sql("SELECT run_id, SUM(LENGTH(body)) FROM run_chunks GROUP BY run_id"))
    counted = dict(store.sql("SELECT run_id, chunk_bytes FROM runs WHERE chunk_bytes > 0"))
    assert {run: int(n) for run, n in stored.items()} == counted


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), requests=st.lists(histories(), min_size=1, max_size=2))
def test_any_history_reads_back_and_leaves_nothing(store: Any, exchange: Any, data: st.DataObject, requests) -> None:
    """Calls of two runs may repeat each other, and are stored and deleted in any order."""
    left = [row[0] for row in store.sql("SELECT id FROM exchanges")]  # of an example that failed
    store.run(lambda c: erase.erase(c, left, LATER))
    calls = [call for n, of in enumerate(requests) for call in calls_of(exchange, of, run=f"r{n}")]
    calls = data.draw(st.permutations(calls))
    half = data.draw(st.integers(0, len(calls)))
    store.write(*calls[:half])
    store.write(*calls[half:])
    assert read_back(store) == expected(calls)
    while calls:
        gone = data.draw(st.integers(1, len(calls)))
        store.run(lambda c, ids=[call.id for call in calls[:gone]]: erase.erase(c, ids, LATER))
        calls = calls[gone:]
        assert read_back(store) == expected(calls)
        assert_no_chunk_is_unused(store)


def test_fifty_calls_of_a_megabyte_take_two(file_store: Any, exchange: Any) -> None:
    requests = growing(50, 1_000_000)
    assert sum(map(len, requests)) > 24_000_000
    for call in calls_of(exchange, requests):
        file_store.write(call)
    assert file_store.run(size) < 1_500_000


def test_every_reader_sees_the_whole_request(store: Any, exchange: Any) -> None:
    requests = [body.replace(b"src/parser.py", b"src/needle.py") for body in growing(4, 40_000)]
    calls = calls_of(exchange, requests)
    small = exchange(run="r", request=b'{"messages":[]}', received=NOW + 9)
    store.write(*calls, small)
    assert store.sql("SELECT COUNT(*) FROM exchanges WHERE request_chunks IS NULL") == [(1,)]
    with reading(store.url) as connection:
        found = {call.id: full_exchange(connection, call.id)["request"] for call in calls}
        run = calls[0].id and store.sql("SELECT DISTINCT run_id FROM exchanges")[0][0]
        of_run = requests_of(connection, run)
        listed = list_exchanges(connection, ExchangeFilter(where=parse("request~needle")))
    assert found == {call.id: call.request for call in calls}
    assert of_run == {call.id: call.request for call in (*calls, small)}
    assert {row["id"] for row in listed} == set(found)
    source = ExportSource(store.url, ExchangeFilter(), NOW + 99, most_bytes=60_000)
    try:
        batches = [{row["id"]: bytes(row["request"]) for row in batch} for batch in source.batches()]
    finally:
        source.close()
    assert len(batches) > 1, "a batch is limited by what its requests take in memory"
    assert {id: body for batch in batches for id, body in batch.items()} == of_run


def test_runs_and_callers_share_nothing(store: Any, exchange: Any) -> None:
    [body] = growing(2, 40_000)[1:]
    store.write(
        exchange(run="r", request=body), exchange(run="s", request=body), exchange(run="r", caller="b", request=body)
    )
    per_run = store.sql("SELECT run_id, COUNT(*), COUNT(DISTINCT digest) FROM run_chunks GROUP BY run_id")
    assert len(per_run) == 3
    assert all(n == digests for _, n, digests in per_run)


def test_calls_without_a_run_are_stored_as_they_are(store: Any, exchange: Any) -> None:
    call = exchange(request=growing(2, 40_000)[1])
    store.write(call)
    assert store.sql("SELECT request_chunks, request_bytes FROM exchanges") == [(None, None)]
    assert store.sql(CHUNKS) == []
    assert read_back(store) == expected([call])


def test_a_call_that_comes_twice_is_stored_once(store: Any, exchange: Any) -> None:
    calls = calls_of(exchange, growing(3, 40_000))
    store.write(*calls)
    before = store.sql(CHUNKS), store.sql("SELECT chunk_bytes FROM runs")
    store.write(*calls)
    assert (store.sql(CHUNKS), store.sql("SELECT chunk_bytes FROM runs")) == before
    assert read_back(store) == expected(calls)


def test_retention_by_age_keeps_what_a_newer_call_has(store: Any, exchange: Any) -> None:
    calls = calls_of(exchange, growing(5, 60_000))
    store.write(*calls)
    sweep(store, NOW + 103.5, keep_s=100.0)
    assert read_back(store) == expected(calls[4:])
    assert_no_chunk_is_unused(store)
    sweep(store, NOW + 500, keep_s=100.0)
    assert store.sql(CHUNKS) == store.sql("SELECT run_id FROM runs") == []


def test_retention_by_size_counts_chunks_once(store: Any, exchange: Any) -> None:
    old = calls_of(exchange, growing(10, 100_000), run="old")
    new = [exchange(run="new", request=call.request, received=NOW + 100 + n) for n, call in enumerate(old)]
    store.write(*old, *new)
    total = store.run(size)
    assert total < 2 * (100_000 + 10 * 12_000)
    sweep(store, NOW + 1e6, most_bytes=total / 2 + 3_000)
    assert read_back(store) == expected(new)
    assert_no_chunk_is_unused(store)


def test_an_emptied_call_frees_its_chunks(store: Any, exchange: Any) -> None:
    experiment = {"experiment": "swap", "plan": "p", "arm": "control"}
    calls = calls_of(exchange, growing(3, 40_000), **experiment)
    store.write(*calls)
    sweep(store, NOW + 101.5, keep_s=100.0)
    assert read_back(store) == expected(calls[2:]) | {call.id: (b"{}", 2) for call in calls[:2]}
    assert_no_chunk_is_unused(store)
    store.run(lambda c: erase.erase(c, [calls[2].id], LATER))
    assert store.sql(CHUNKS) == []
    assert read_back(store) == {call.id: (b"{}", 2) for call in calls}


def test_two_consumers_store_calls_of_one_run(two_consumers: Any, exchange: Any) -> None:
    from gateway.store.write import ScoredBatch

    book = two_consumers.book
    first, second = calls_of(exchange, growing(2, 40_000))
    batches = [ScoredBatch({}, [book.judged(call)]) for call in (first, second)]
    two_consumers.write(*batches, NOW)
    assert read_back(book) == expected([first, second])
    assert_no_chunk_is_unused(book)


def test_an_old_call_stays_as_it_was_stored(store: Any, exchange: Any, tmp_path: Path) -> None:
    """Rows of an earlier version have no chunks; calls that follow them in the run have."""
    calls = calls_of(exchange, growing(2, 40_000))
    store.write(calls[0])
    whole = {"request": calls[0].request, "request_chunks": None, "request_bytes": None}
    store.run(lambda c: c.execute(update(exchanges).where(exchanges.c.id == calls[0].id).values(whole)))
    store.write(calls[1])
    assert read_back(store) == expected(calls)
    assert new_id() > calls[1].id


COLUMN = re.compile(r"\b(?:e|c|served|arm|exchanges\.c|served\.c|arm\.c|of\.c)\.request\b(?!_)")
OWNERS = {"store/run_chunks.py", "store/rows.py"}  # the second has an Exchange named e


def test_no_query_reads_the_column_of_requests_itself() -> None:
    """The column holds what follows the chunks; `whole_request` has all."""
    package = Path(run_chunks.__file__).parents[1]
    queries = [path for path in package.rglob("*.py") if "sqlalchemy" in path.read_text("utf-8")]
    found = {str(path.relative_to(package)) for path in queries if COLUMN.search(path.read_text("utf-8"))}
    assert found <= OWNERS
