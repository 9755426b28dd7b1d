"""From every older store forward, with what lay in it. On both databases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, Table, inspect, select, text
from sqlalchemy.exc import IntegrityError
from typer.testing import CliRunner

from gateway.cli import app
from gateway.core.exchange import Feedback
from gateway.store import engine
from gateway.store.rows import feedback_row
from gateway.store.tables import feedback, scores

pytestmark = pytest.mark.dialect

VERSIONS = Path(engine.__file__).parent / "migrations" / "versions"
OLDER = sorted(path.name[:4] for path in VERSIONS.glob("[0-9]*.py"))[:-1]


@pytest.fixture
def opened(new_url: str) -> Iterator[Engine]:
    """A connection to a database with nothing in it."""
    made = engine.connect_writer(new_url)
    yield made
    made.dispose()


@pytest.fixture
def old(opened: Engine) -> Callable[..., Engine]:
    """A store as a version left it, with a row in each of its tables. values: by table and column."""

    def make(version: str, **values: dict[str, Any]) -> Engine:
        engine.migrate(opened, version)
        there = MetaData()
        there.reflect(opened)
        with opened.begin() as connection:
            for table in there.sorted_tables:
                if table.name != "alembic_version":
                    connection.execute(table.insert().values(plain(table) | values.get(table.name, {})))
        return opened

    return make


def plain(table: Table, n: int = 1) -> dict[str, Any]:
    """A value that each column that must have one can hold. n: another number gives another row."""
    needed = (c for c in table.columns if (not c.nullable or c.primary_key) and c.server_default is None)
    return {c.name: _plain(c.type.python_type, n) for c in needed}


def _plain(kind: type, n: int) -> Any:
    return {str: f"x{n}", int: n, float: float(n), bytes: b"12345", bool: False}[kind]


def rows(opened: Engine, table: str, *columns: str) -> list[tuple[Any, ...]]:
    there = Table(table, MetaData(), autoload_with=opened)
    with opened.connect() as connection:
        return [tuple(row) for row in connection.execute(select(*(there.c[name] for name in columns)))]


def reflected(opened: Engine) -> dict[str, Table]:
    there = MetaData()
    there.reflect(opened)
    return {table.name: table for table in there.sorted_tables if table.name != "alembic_version"}


def read(opened: Engine, table: Table, columns: Sequence[str]) -> Counter[tuple[Any, ...]]:
    """Its rows, in any order."""
    with opened.connect() as connection:
        return Counter(map(tuple, connection.execute(select(*(table.c[name] for name in columns)))))


def fill(opened: Engine, there: dict[str, Table], version: int) -> list[dict[str, Any]]:
    """Adds a row to each table, and to the scores nine, in any order. Returns these."""
    full = {c.name: _plain(c.type.python_type, version) for c in there["scores"].columns}
    given = [full | {"score_id": f"s{version}.{i}", "exchange_id": f"e{9 - i % 3}", "value": i / 7} for i in range(9)]
    with opened.begin() as connection:
        for name, table in there.items():
            connection.execute(table.insert(), given if name == "scores" else [plain(table, version)])
    return given


def test_what_lay_in_a_store_of_any_version_is_there_in_this_one(opened):
    """Step by step: what a version left, and all versions before it, is there in the next. One opinion still is one
    row, and one that is there is not inserted again."""
    kept: dict[str, tuple[list[str], Counter[tuple[Any, ...]]]] = {}
    for version in [*OLDER, engine.head()]:
        engine.migrate(opened, version)
        there = reflected(opened)
        for name, (columns, before) in kept.items():
            assert set(columns) <= set(there[name].columns.keys()), "names that users query stay"
            assert read(opened, there[name], columns) == before, (version, name)
        if version != engine.head():
            given = fill(opened, there, int(version))
            names = {name: table.columns.keys() for name, table in there.items()}
            kept = {name: (columns, read(opened, there[name], columns)) for name, columns in names.items()}

    assert rows(opened, "alembic_version", "version_num") == [(engine.head(),)]
    assert len(kept["scores"][1]) == kept["scores"][1].total() == 9 * len(OLDER)
    assert inspect(opened).get_pk_constraint("scores")["constrained_columns"] == ["exchange_id", "score_id"]
    assert [index["name"] for index in inspect(opened).get_indexes("scores")] == ["scores_worst"]
    with opened.begin() as connection, pytest.raises(IntegrityError):
        connection.execute(scores.insert().values(given[0]))


def test_an_older_store_is_readable_only_after_migration(old, new_url):
    store = old("0003")
    with pytest.raises(engine.StoreUnavailable, match=r"tables of version 0003, .*gateway migrate"):
        engine.reader(new_url)
    engine.migrate(store)
    engine.reader(new_url).dispose()


def test_what_was_unaccounted_for_before_gaps_were_kept_stays_so(old):
    store = old("0005", ledgers={"incarnation": "g1", "closed_seq": 9, "enqueued": 9, "settled": 7})
    engine.migrate(store)
    assert rows(store, "gaps", "incarnation", "high_seq", "missing", "reason") == [("g1", 9, 2, "")]


def test_what_was_whole_leaves_no_gap(old):
    store = old("0005", ledgers={"incarnation": "g1", "closed_seq": 9, "enqueued": 9, "settled": 9})
    engine.migrate(store)
    assert rows(store, "gaps", "incarnation") == []


def test_the_size_of_what_is_there_is_known_afterwards(old):
    words = {"request": b"1234", "response": b"123", "text": "12", "reasoning": "1", "refusal": "", "attempts": "[]",
             "tool_calls": "[]"}  # fmt: skip
    store = old("0006", exchanges=words)
    engine.migrate(store)
    assert rows(store, "exchanges", "bytes") == [(2048 + 4 + 3 + 2 + 1 + 2 + 2,)]


def test_migrated_sums_count_every_exchange_as_a_unit(old):
    store = old("0007", score_cells={"n_scored": 3, "total": 1.5, "squares": 0.75})
    engine.migrate(store)
    assert rows(store, "score_cells", "unit_sizes", "unit_products", "unit_squares") == [(3.0, 1.5, 0.75)]


def test_migrated_open_sums_are_the_share_of_what_is_not_closed(old):
    columns = ("open_sizes", "open_products", "open_squares", "closed_sizes")
    sums = {"n_scored": 4, "spent_scored": 3, "unit_sizes": 8.0, "unit_products": 4.0, "unit_squares": 2.0}
    store = old("0037", score_cells=sums)
    engine.migrate(store)
    assert rows(store, "score_cells", *columns) == [(2.0, 1.0, 0.5, 0.0)]


def test_migrated_feedback_can_still_be_replaced(old):
    store = old("0003", feedback={"feedback_id": "f", "exchange_id": "e", "name": "thumb"})
    engine.migrate(store)
    assert rows(store, "feedback", "data_type", "resolved") == [("numeric", None)]
    new = dict(zip(feedback.columns.keys(), feedback_row(Feedback("e", "g", "web", 1.0, "thumb")), strict=True))
    with store.begin() as connection:
        connection.execute(feedback.insert().values(new))
    assert len(rows(store, "feedback", "feedback_id")) == 2


def test_a_migration_that_fails_leaves_the_store_as_it_was(old):
    store = old("0005")
    with store.begin() as connection:
        connection.execute(text("CREATE TABLE stream_nodes (shard INTEGER)"))  # what 0006 wants to make last
    with pytest.raises(Exception, match="stream_nodes"):
        engine.migrate(store)
    assert rows(store, "alembic_version", "version_num") == [("0005",)]
    with pytest.raises(Exception, match="gaps"):
        rows(store, "gaps", "incarnation")


def test_the_verb_says_which_version_there_was_and_is(tmp_path):
    def run() -> str:
        return CliRunner().invoke(app, ["migrate", "--data", str(tmp_path)]).stderr.strip()

    assert run() == f"the store has tables of version {engine.head()}"
    assert run() == f"the store has tables of version {engine.head()} already"
    older = f"sqlite:///{tmp_path / 'old' / 'gateway.db'}"
    opened = engine.connect_writer(older)
    engine.migrate(opened, "0002")
    opened.dispose()
    assert engine.migrate_store(older) == "0002"
    engine.reader(older).dispose()
