"""Prints how long pages take with a million exchanges in the store: pytest -m long -n 0 -s -k page_times.

A page that is read again within seconds reads what it shows itself; reports and sums of hours are read in the
background, before.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from fixtures.console_world import TOKEN, ConsoleWorld, console_world
from sqlalchemy import Connection, Engine, event, inspect, text

from gateway.features.guards.work import GuardWatch, wanted_hours
from gateway.features.task import TaskWorker
from gateway.store import engine
from gateway.store.store import Store

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]
EXCHANGES, IN_EXPERIMENT = 1_000_000, 48_000
TIMES = 20
P95_S = 0.150
MOST_ROWS = 5_000
REQUEST = b'{"messages":[{"role":"user","content":"Give the river of Lima as JSON."}]}'
RESPONSE = (
    b'{"choices":[{"index":0,"message":{"content":"{\\"river\\":\\"Rimac\\"}"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":30,"completion_tokens":50}}'
)
SHORT = {"request": ":request", "response": ":response", "text": '\'{"river": "Rimac"}\'', "reasoning": "''"}


def multiplied(store_url: str) -> int:
    """Copies every exchange with its scores and pairs, until there are EXCHANGES of 30 days. Returns their number."""
    opened = engine.connect_writer(store_url)
    with opened.begin() as connection:
        _copy(connection, "plan IS NOT NULL", IN_EXPERIMENT)
        _copy(connection, "plan IS NULL", EXCHANGES - IN_EXPERIMENT)
    with opened.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
        found = connection.exec_driver_sql("SELECT count(*) FROM exchanges").scalar()
    opened.dispose()
    return int(found or 0)


def _copy(connection: Connection, which: str, n: int) -> None:
    lite = connection.dialect.name == "sqlite"
    for name in ("copied", "turns"):
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {name}")
    numbered = "CREATE TEMP TABLE copied AS SELECT row_number() OVER (ORDER BY id) AS t, id FROM exchanges"
    connection.execute(text(f"{numbered} WHERE {which} AND id NOT LIKE '%-8000-%'"))
    templates = int(connection.exec_driver_sql("SELECT count(*) FROM copied").scalar() or 0)
    each = n // templates
    below = f"(SELECT 1 UNION ALL SELECT k + 1 FROM s WHERE k < {each})"  # noqa: S608 - a number
    connection.exec_driver_sql(f"CREATE TEMP TABLE turns AS WITH RECURSIVE s(k) AS {below} SELECT k FROM s")  # noqa: S608
    step_ms = 30 * 86_400_000 // n
    age = f"((s.k * {templates} + {{t}}) * {step_ms})"
    now_ms = int(time.time() * 1000) - 3_600_000

    def id_of(table: str) -> str:
        ms = f"({now_ms} - {age.format(t=f'{table}.t')})"
        if lite:
            return f"printf('%08x-%04x-7%03x-8000-%012x', {ms} >> 16, {ms} & 65535, {table}.t, s.k)"
        parts = ((f"{ms} >> 16", 8), (f"{ms} & 65535", 4), (f"{table}.t", 3), ("s.k", 12))
        a, b, c, d = (f"lpad(to_hex(({value})::bigint), {width}, '0')" for value, width in parts)
        return f"{a} || '-' || {b} || '-7' || {c} || '-8000-' || {d}"

    received = f"({now_ms} - {age.format(t='c.t')}) / 1000.0"
    own = {
        "id": id_of("c"), "received": received, "stored": received, "unit": id_of("c"), "seq": "s.k * 1000 + c.t",
        "pair": f"CASE WHEN p.t IS NULL THEN NULL ELSE {id_of('p')} END", "upstream_id": "NULL", **SHORT,
    }  # fmt: skip
    given = {"request": REQUEST, "response": RESPONSE}
    _insert(connection, "exchanges", own, "LEFT JOIN copied p ON p.id = e.pair", "e.id", given)
    own = {"exchange_id": id_of("c"), "score_id": f"{id_of('c')} || e.scorer", "created": received}
    _insert(connection, "scores", own, "", "e.exchange_id", {})
    own = {"exchange_id": id_of("c"), "received": received}
    _insert(connection, "guard_decisions", own, "", "e.exchange_id", {})
    own = {"id": id_of("c"), "place": "e.place + 1000 * s.k"}
    _insert(connection, "pairs", own, "", "e.id", {})


def _insert(
    connection: Connection, table: str, own: dict[str, str], join: str, key: str, given: dict[str, Any]
) -> None:
    names = [column["name"] for column in inspect(connection).get_columns(table)]
    values = ", ".join(own.get(name, f"e.{_quoted(name)}") for name in names)
    query = (
        f"INSERT INTO {table} ({', '.join(map(_quoted, names))}) SELECT {values} FROM {table} e "  # noqa: S608
        f"JOIN copied c ON c.id = {key} {join} CROSS JOIN turns s"
    )
    connection.execute(text(query.replace("::bigint", "\\:\\:bigint")), given)


def _quoted(name: str) -> str:
    return f'"{name}"'


async def guards_are_summed(store_url: str) -> None:
    """The hours of a month, as a consumer sums them."""
    async with Store(store_url) as store:
        while True:
            await GuardWatch(TaskWorker(store, "c1"), ("secrets",)).look()
            if not await store.look(lambda c: wanted_hours(c, "secrets", time.time())[2:]):
                return


def paths(world: ConsoleWorld, first: str) -> list[str]:
    """Every page. first: the HTML of one, whose frame links to those of the navigation."""
    found = re.findall(r'<li><a href="(/console[^"]*)"', first)
    assert len(found) >= 11, first[:2000]
    return [
        *found, "/console/calls?outcome=ok&alias=chat", f"/console/calls/{world.exchange}", "/console/failures/today",
        "/console/experiments/of/swap", "/console/experiments/new", "/console/label/queue?scorer=valid_json",
        f"/console/keys/key/{world.key}", "/console/system/config", "/console/system/dead", "/console/system/audit",
        "/console/system/design", "/console/guards?since=30d", "/console/guards/of/secrets",
        "/console/guards/of/secrets?since=30d",
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class PageTimes:
    """Seconds that a page took."""

    first: float
    median: float
    p95: float
    """Times of the visits after the first."""
    cpu: float
    """CPU time of this process, with all its threads, a page: the console and the reader; not PostgreSQL. It depends
    less on what else runs on the machine."""


def timed(client: httpx2.Client, path: str) -> PageTimes:
    taken, cpu = [], []
    for _ in range(TIMES + 1):
        began, used = time.perf_counter(), time.process_time()
        answer = client.get(path)
        taken.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
        assert answer.status_code == 200, (path, answer.text[:1000])
    later = sorted(taken[1:])
    return PageTimes(taken[0], statistics.median(later), later[int(0.95 * TIMES) - 1], statistics.median(cpu[1:]))


@contextlib.contextmanager
def statements() -> Iterator[list[tuple[str, Any]]]:
    """Collects the queries that this process makes meanwhile, with their parameters."""
    seen: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "WITH")):
            seen.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def rows_of_page(client: httpx2.Client, path: str, store_url: str) -> int:
    """Rows that one request for a page reads, and what is read in the background meanwhile: the least of several is
    the page's own."""
    with statements() as seen:
        client.get(path)
    return rows_read(store_url, seen)


def rows_read(store_url: str, seen: Sequence[tuple[str, Any]]) -> int:
    """Rows that the plans of these queries read: on PostgreSQL those of every scan, with what its filter removed; on
    SQLite the steps of its machine, of which a row takes ten or more."""
    opened = engine.connect_writer(store_url)
    total = 0
    with opened.connect() as connection:
        for statement, parameters in seen:
            if connection.dialect.name == "postgresql":
                plan = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters).scalar()
                total += sum(scanned(each["Plan"]) for each in (plan if isinstance(plan, list) else orjson.loads(plan)))
            else:
                total += steps(connection, statement, parameters) // 10
        connection.rollback()
    opened.dispose()
    return total


def scanned(node: Mapping[str, Any]) -> int:
    """Rows that the scans below a node read."""
    own = 0
    if "Scan" in node["Node Type"] and node["Node Type"] != "Subquery Scan":
        removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        own = round((node["Actual Rows"] + removed) * node["Actual Loops"])
    return own + sum(scanned(each) for each in node.get("Plans", ()))


def steps(connection: Connection, statement: str, parameters: Any) -> int:
    """Steps of SQLite's machine."""
    count, raw = [0], connection.connection.driver_connection
    assert raw is not None
    raw.set_progress_handler(lambda: count.__setitem__(0, count[0] + 100) or 0, 100)
    connection.exec_driver_sql(statement, parameters).fetchall()
    raw.set_progress_handler(None, 0)
    return count[0]


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_page_times_with_a_million_exchanges(
    database: str, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    url = None if database == "sqlite" else str(request.getfixturevalue("postgres_url"))
    with (
        console_world(tmp_path, url) as world,
        httpx2.Client(base_url=world.url, timeout=600, trust_env=False) as client,
    ):
        began = time.perf_counter()
        n = multiplied(world.store_url)
        assert n > 0.99 * EXCHANGES
        asyncio.run(guards_are_summed(world.store_url))
        assert client.post("/console/login", data={"token": TOKEN}).status_code == 303
        every = paths(world, client.get("/console").text)
        for path in every:  # what is read in the background is there
            while "This page reloads by itself" in client.get(path).text:
                time.sleep(0.5)
        read: dict[str, int] = {}
        lines = [f"{database}: {n:,} exchanges, written in {time.perf_counter() - began:.0f} s"]
        lines.append("   first   median      p95      CPU           rows")
        for path in every:
            took = timed(client, path)
            mark = "" if took.p95 <= P95_S else "  above 150 ms"
            rows = min(rows_of_page(client, path, world.store_url) for _ in range(3))
            many = f"  more than {MOST_ROWS} rows" if rows > MOST_ROWS else ""
            lines.append(
                f"{took.first * 1e3:8.0f} {took.median * 1e3:8.0f} {took.p95 * 1e3:8.0f} {took.cpu * 1e3:8.0f} ms "
                f"{rows:7} rows  {path[:60]}{mark}{many}"
            )
            read[path] = rows
        with capsys.disabled():
            print("\n" + "\n".join(lines))  # noqa: T201 - the figures are what the test is for
        assert max(read.values()) <= MOST_ROWS, read
