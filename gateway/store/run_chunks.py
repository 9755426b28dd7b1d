"""Requests of a run's calls, whose shared parts are stored once.

Each call of a run sends all of its history again. A request that is not small is therefore stored as chunks, each of
which its run stores once, and the rest. Every query reads a request through `whole_request` and `request_size`, so that
nothing above the store sees the chunks. Chunks belong to one run, so they never outlive its caller's calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, FromClause, LargeBinary, delete, func, select, update
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from gateway.core.chunked import chunked
from gateway.core.content_chunks import digest, split
from gateway.core.exchange import Exchange
from gateway.core.request_delta import SMALL_BYTES
from gateway.store.bulk_insert import insert_new
from gateway.store.rows import ChunkedRequest
from gateway.store.tables import exchanges, run_chunks, runs

_CHUNK = 400


def store_chunks(
    connection: Connection, calls: Iterable[Exchange], run_of: Mapping[str, str]
) -> dict[str, ChunkedRequest]:
    """Stores the chunks of new calls that their runs do not have yet. Returns exchange → its request.

    run_of: exchange → run, of runs whose rows this transaction has written: PostgreSQL then has no other writer of
    their chunks.
    """
    of_run: dict[str, list[Exchange]] = {}
    for call in calls:
        if call.id in run_of and len(call.request) >= SMALL_BYTES:
            of_run.setdefault(run_of[call.id], []).append(call)
    found: dict[str, ChunkedRequest] = {}
    for run_id, of_this in sorted(of_run.items()):
        found |= _store_run(connection, run_id, of_this)
    return found


def _store_run(connection: Connection, run_id: str, calls: Sequence[Exchange]) -> dict[str, ChunkedRequest]:
    c = run_chunks.c
    query = select(c.digest, c.chunk).where(c.run_id == run_id)
    known: dict[bytes, int] = {bytes(row[0]): row[1] for row in connection.execute(query)}
    following = max(known.values(), default=-1) + 1
    new: list[tuple[str, int, bytes, bytes]] = []
    found: dict[str, ChunkedRequest] = {}
    for call in calls:
        chunks, rest = split(call.request)
        numbers = []
        for chunk in chunks:
            name = digest(chunk)
            if name not in known:
                known[name] = following
                new.append((run_id, following, name, chunk))
                following += 1
            numbers.append(known[name])
        if numbers:
            found[call.id] = ChunkedRequest(orjson.dumps(numbers).decode(), rest, len(call.request))
    insert_new(connection, run_chunks, new)
    _add_bytes(connection, run_id, sum(len(row[3]) for row in new))
    return found


def _add_bytes(connection: Connection, run_id: str, size: int) -> None:
    if size:
        grown = {"chunk_bytes": runs.c.chunk_bytes + size}
        connection.execute(update(runs).where(runs.c.run_id == run_id).values(grown))


def forget_unused(connection: Connection, run_ids: Iterable[str]) -> None:
    """Deletes those chunks of these runs that no stored call has any more."""
    r = runs.c
    for chunk in chunked(sorted(run_ids), _CHUNK):
        locked = select(r.run_id).where(r.run_id.in_(chunk), r.chunk_bytes > 0).order_by(r.run_id).with_for_update()
        for run_id in list(connection.execute(locked).scalars()):
            _forget_unused(connection, run_id)


def _forget_unused(connection: Connection, run_id: str) -> None:
    e, c = exchanges.c, run_chunks.c
    lists = select(e.request_chunks).where(e.run_id == run_id, e.request_chunks.is_not(None))
    used = {number for numbers in connection.execute(lists).scalars() for number in orjson.loads(numbers)}
    sizes = select(c.chunk, func.length(c.body)).where(c.run_id == run_id)
    unused = {row[0]: row[1] for row in connection.execute(sizes) if row[0] not in used}
    for numbers in chunked(unused, _CHUNK):
        connection.execute(delete(run_chunks).where(c.run_id == run_id, c.chunk.in_(numbers)))
    _add_bytes(connection, run_id, -sum(unused.values()))


class _WholeRequest(FunctionElement[bytes]):
    """The bytes of a request. Its clauses: request_chunks, run_id and request of a row."""

    name = "whole_request"
    type = LargeBinary()
    inherit_cache = True


@compiles(_WholeRequest, "sqlite")
def _on_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    """group_concat and || keep every byte of a BLOB, zeros included, and return text of the same bytes. The inner query
    puts them in order: ORDER BY within an aggregate needs SQLite 3.44."""
    chunks, run_id, rest = (compiler.process(clause, **options) for clause in element.clauses)
    in_order = (
        f"SELECT rc.body AS body FROM json_each({chunks}) AS rj JOIN run_chunks AS rc "  # noqa: S608 - columns
        f"ON rc.run_id = {run_id} AND rc.chunk = rj.value ORDER BY rj.key"
    )
    whole = f"CAST((SELECT group_concat(rw.body, '') FROM ({in_order}) AS rw) || {rest} AS BLOB)"  # noqa: S608
    return f"CASE WHEN {chunks} IS NULL THEN {rest} ELSE {whole} END"


@compiles(_WholeRequest, "postgresql")
def _on_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    chunks, run_id, rest = (compiler.process(clause, **options) for clause in element.clauses)
    whole = (
        "SELECT string_agg(rc.body, ''::bytea ORDER BY rj.place) "  # noqa: S608 - columns
        f"FROM jsonb_array_elements_text(CAST({chunks} AS jsonb)) WITH ORDINALITY AS rj(number, place) "
        f"JOIN run_chunks AS rc ON rc.run_id = {run_id} AND rc.chunk = CAST(rj.number AS bigint)"
    )
    return f"CASE WHEN {chunks} IS NULL THEN {rest} ELSE ({whole}) || {rest} END"


def whole_request(of: FromClause = exchanges) -> ColumnElement[bytes]:
    """The request of a row of `exchanges`, or of an alias of it, under the name `request`."""
    return _WholeRequest(of.c.request_chunks, of.c.run_id, of.c.request).label("request")


def request_size() -> ColumnElement[int]:
    """Bytes of the request of a row of `exchanges`."""
    return func.coalesce(exchanges.c.request_bytes, func.length(exchanges.c.request))


def requests_by_id(connection: Connection, ids: Sequence[str]) -> dict[str, bytes]:
    """The requests of those of these exchanges that are stored."""
    found: dict[str, bytes] = {}
    for chunk in chunked(ids, _CHUNK):
        query = select(exchanges.c.id, whole_request()).where(exchanges.c.id.in_(chunk))
        found |= {row[0]: bytes(row[1]) for row in connection.execute(query)}
    return found


_PARTS = frozenset({"request", "request_chunks", "request_bytes"})
WHOLE_EXCHANGE: Sequence[ColumnElement[Any]] = (
    *(column for column in exchanges.columns if column.name not in _PARTS),
    whole_request(),
)
"""Every column of an exchange, with its whole request."""
