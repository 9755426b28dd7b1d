"""Stores of every version since 0032, with their rows, brought to the present version. On both databases."""

from __future__ import annotations

import base64
import gzip
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Column, Connection, Engine, MetaData, Table, inspect, select, text
from sqlalchemy.engine.interfaces import ReflectedColumn
from sqlalchemy.exc import IntegrityError
from typer.testing import CliRunner

from gateway.cli import app
from gateway.store import engine
from gateway.store.tables import scores

pytestmark = [pytest.mark.dialect, pytest.mark.usefixtures("migrating_writer")]

Rows = Counter[tuple[Any, ...]]

VERSIONS = Path(engine.__file__).parent / "migrations" / "versions"
SAVED = Path(__file__).parents[1] / "fixtures" / "store_0032.json.gz"
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
    """The tables with their columns and keys, which takes a third of the time of all that they have."""
    found = inspect(opened)
    keys = {name: key["constrained_columns"] for (_, name), key in found.get_multi_pk_constraint().items() if key}
    return {
        name: Table(name, MetaData(), *(_column(each, keys.get(name, ())) for each in columns))
        for (_, name), columns in sorted(found.get_multi_columns().items())
        if name != "alembic_version"
    }


def _column(found: ReflectedColumn, key: Sequence[str]) -> Column[Any]:
    default = None if found["default"] is None else text(found["default"])
    in_key = found["name"] in key
    return Column(found["name"], found["type"], nullable=found["nullable"], primary_key=in_key, server_default=default)


def read_all(opened: Engine, there: Mapping[str, Table]) -> dict[str, tuple[list[str], Rows]]:
    """The names of each table's columns, and its rows."""
    with opened.connect() as connection:
        names = {name: table.columns.keys() for name, table in there.items()}
        return {name: (columns, read(connection, there[name], columns)) for name, columns in names.items()}


def read(connection: Connection, table: Table, columns: Sequence[str]) -> Rows:
    """Rows of a table, in any order. The query is text: one of a version's table would be compiled for it alone."""
    *names, of = map(connection.dialect.identifier_preparer.quote, (*columns, table.name))
    return Counter(map(tuple, connection.exec_driver_sql(f"SELECT {', '.join(names)} FROM {of}")))  # noqa: S608


def fill(opened: Engine, there: dict[str, Table], version: int) -> list[dict[str, Any]]:
    """Adds a row to each table, and to the scores nine, in any order. Returns these."""
    full = {c.name: _plain(c.type.python_type, version) for c in there["scores"].columns}
    given = [full | {"score_id": f"s{version}.{i}", "exchange_id": f"e{9 - i % 3}", "value": i / 7} for i in range(9)]
    with opened.begin() as connection:
        for name, table in there.items():
            connection.execute(table.insert(), given if name == "scores" else [plain(table, version)])
    return given


def test_rows_of_a_store_of_any_version_are_in_this_one(opened):
    """Step by step: what a version left, and all versions before it, is there in the next. One opinion still is one
    row, and one that is there is not inserted again."""
    kept: dict[str, tuple[list[str], Rows]] = {}
    for version in [*OLDER, engine.head()]:
        engine.migrate(opened, version)
        there = reflected(opened)
        with opened.connect() as connection:
            for name, (columns, before) in kept.items():
                assert set(columns) <= set(there[name].columns.keys()), "names that users query stay"
                assert read(connection, there[name], columns) == before, (version, name)
        if version != engine.head():
            given = fill(opened, there, int(version))
            kept = read_all(opened, there)

    assert rows(opened, "alembic_version", "version_num") == [(engine.head(),)]
    assert len(kept["scores"][1]) == kept["scores"][1].total() == 9 * len(OLDER)
    assert inspect(opened).get_pk_constraint("scores")["constrained_columns"] == ["exchange_id", "score_id"]
    indexes = {index["name"] for index in inspect(opened).get_indexes("scores")}
    assert indexes == {"scores_of_runs", "scores_worst"}
    with opened.begin() as connection, pytest.raises(IntegrityError):
        connection.execute(scores.insert().values(given[0]))


def test_an_older_store_is_readable_only_after_migration(old, new_url):
    store = old("0032")
    with pytest.raises(engine.StoreUnavailable, match=r"tables of version 0032, .*gateway migrate"):
        engine.reader(new_url)
    engine.migrate(store)
    engine.reader(new_url).dispose()


def test_migrated_open_sums_are_the_share_of_what_is_not_closed(old):
    columns = ("open_sizes", "open_products", "open_squares", "closed_sizes")
    sums = {"n_scored": 4, "spent_scored": 3, "unit_sizes": 8.0, "unit_products": 4.0, "unit_squares": 2.0}
    store = old("0037", score_cells=sums)
    engine.migrate(store)
    assert rows(store, "score_cells", *columns) == [(2.0, 1.0, 0.5, 0.0)]


def test_a_migration_that_fails_leaves_the_store_as_it_was(old):
    store = old("0032")
    with store.begin() as connection:
        connection.execute(text("CREATE TABLE hour_history (begin_ INTEGER)"))  # 0035 creates it, after 0033 and 0034
    with pytest.raises(Exception, match="hour_history"):
        engine.migrate(store)
    assert rows(store, "alembic_version", "version_num") == [("0032",)]
    with pytest.raises(Exception, match="deployment_secrets"):
        rows(store, "deployment_secrets", "name")


def test_a_store_before_0032_names_the_program_to_run_first(old, new_url):
    store = old("0032")
    with store.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0031'"))
    advice = r"tables of version 0031, .* from version 0032: run `gateway migrate` of the program at commit \w{7} first"
    for opening in (engine.writer, engine.reader, engine.migrate_store):
        with pytest.raises(engine.StoreUnavailable, match=advice):
            opening(new_url)
        assert rows(store, "alembic_version", "version_num") == [("0031",)]


def test_rows_that_a_program_of_0032_stored_stay(opened):
    """The store of an experiment that ran then; what follows from its rows: tests/features/ramp/test_upgrade.py."""
    engine.migrate(opened, "0032")
    there, saved = reflected(opened), orjson.loads(gzip.decompress(SAVED.read_bytes()))["store"]
    with opened.begin() as connection:
        for table in there.values():
            for row in saved.get(table.name, ()):  # without the columns that are NULL
                connection.execute(table.insert().values({name: _bytes(value) for name, value in row.items()}))
    before = read_all(opened, there)
    assert before["exchanges"][1].total() == len(saved["exchanges"]) > 0
    engine.migrate(opened)
    after = reflected(opened)
    with opened.connect() as connection:
        for name, (columns, stored) in before.items():
            assert read(connection, after[name], columns) == stored, name


def _bytes(value: Any) -> Any:
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value


def test_the_verb_says_which_version_there_was_and_is(tmp_path):
    def run() -> str:
        return CliRunner().invoke(app, ["migrate", "--data", str(tmp_path)]).stderr.strip()

    assert run() == f"the store has tables of version {engine.head()}"
    assert run() == f"the store has tables of version {engine.head()} already"
    older = f"sqlite:///{tmp_path / 'old' / 'gateway.db'}"
    opened = engine.connect_writer(older)
    engine.migrate(opened, "0032")
    opened.dispose()
    assert engine.migrate_store(older) == "0032"
    engine.reader(older).dispose()
