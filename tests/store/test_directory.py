"""Keys, teams and organizations in the store, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from gateway.core.keys import AnyRecord, KeyRecord, OrganizationRecord, TeamRecord
from gateway.store.directory import (
    AuditRow,
    DirectoryPage,
    DirectoryRow,
    add_audit,
    all_rows,
    begin_change,
    begin_epoch,
    changed_since,
    count_members,
    count_rows,
    directory_state_of,
    find_row,
    key_named,
    list_audit,
    list_rows,
    save_row,
)

KEY = KeyRecord(
    "key_1", "web", (("0" * 64, None), ("1" * 64, 9.5)), {"usd_per_month": 5.5, "time_zone": "Europe/Berlin"},
    team="search", models=("chat",), allow=("sample",), sample="never", content="metadata", tags=("a", "b"),
    expires=2e9, disabled=True, end_streams=True,
)  # fmt: skip
TEAM = TeamRecord("search", {"requests_per_minute": 5}, "acme", ("chat",), ("t",), disabled=True)
ACME = OrganizationRecord("acme", {"tokens_per_day": 9}, disabled=True)


def save(store: Any, record: AnyRecord, at: float = 1.0, deleted: float | None = None) -> DirectoryRow:
    def saving(connection: Any) -> DirectoryRow:
        row = DirectoryRow(record, at, at, begin_change(connection), deleted)
        save_row(connection, row)
        return row

    row: DirectoryRow = store.run(saving)
    return row


@pytest.mark.parametrize(("kind", "record"), [("key", KEY), ("team", TEAM), ("organization", ACME)])
def test_a_record_comes_back_as_it_was_stored(store, kind, record):
    assert store.run(lambda c: find_row(c, kind, record.id)) is None
    row = save(store, record)
    assert store.run(lambda c: find_row(c, kind, record.id)) == row
    later = replace(row, record=replace(record, disabled=False, limits={}), updated=2.0)
    store.run(lambda c: save_row(c, later))
    assert store.run(lambda c: find_row(c, kind, record.id)) == later


def test_each_change_has_a_version_of_its_own(store):
    assert store.run(directory_state_of).version == 0
    assert [save(store, replace(ACME, id=f"o{n}")).version for n in range(3)] == [1, 2, 3]
    state = store.run(directory_state_of)
    assert state.version == 3
    assert len(state.epoch) == 16


def test_versions_become_visible_in_their_order(store):
    """Changes at the same time get different versions, none of which a reader can miss."""
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda n: save(store, replace(ACME, id=f"o{n}")), range(12)))
    assert sorted(row.version for row in rows) == list(range(1, 13))


def test_a_change_that_is_refused_takes_no_version(store):
    save(store, ACME)

    def refused(connection):
        begin_change(connection)
        raise LookupError

    with pytest.raises(LookupError):
        store.run(refused)
    assert store.run(directory_state_of).version == 1


def test_changes_since_a_version_are_found_in_order(store):
    for record in (ACME, TEAM, KEY):
        save(store, record)
    save(store, replace(ACME, disabled=False))
    state, rows = store.run(lambda c: changed_since(c, 1, 10))
    assert (state.version, [row.version for row in rows]) == (4, [2, 3, 4])
    _, first = store.run(lambda c: changed_since(c, 1, 2))
    assert [row.record.id for row in first] == ["search", "key_1"]


def test_a_deleted_key_stays_and_is_published_as_disabled(store):
    row = save(store, replace(KEY, disabled=False), deleted=5.0)
    assert store.run(lambda c: find_row(c, "key", "key_1")) == row
    assert row.published == KEY
    assert store.run(lambda c: key_named(c, "web")) is None
    assert store.run(lambda c: list_rows(c, "key", DirectoryPage())) == []
    assert store.run(lambda c: list_rows(c, "key", DirectoryPage(deleted=True))) == [row]
    assert store.run(lambda c: all_rows(c, 4.0))[1] == [row]
    assert store.run(lambda c: all_rows(c, 5.0))[1] == []


def test_a_name_belongs_to_one_key_in_force(store):
    save(store, KEY, deleted=5.0)
    save(store, replace(KEY, id="key_2"))
    assert store.run(lambda c: key_named(c, "web")).record.id == "key_2"
    with pytest.raises(DBAPIError):
        save(store, replace(KEY, id="key_3"))


def test_lists_are_read_page_by_page(store):
    for n in range(5):
        save(store, replace(KEY, id=f"key_{n}", name=f"n{n}", team="a" if n % 2 else "b"))
    ids = [row.record.id for row in store.run(lambda c: list_rows(c, "key", DirectoryPage(limit=2)))]
    more = [row.record.id for row in store.run(lambda c: list_rows(c, "key", DirectoryPage(ids[-1], 10)))]
    assert (ids, more) == (["key_0", "key_1"], ["key_2", "key_3", "key_4"])
    of_a = store.run(lambda c: list_rows(c, "key", DirectoryPage(team="a")))
    assert [row.record.id for row in of_a] == ["key_1", "key_3"]


def test_members_and_rows_are_counted_in_force_only(store):
    for record in (ACME, TEAM, KEY):
        save(store, record)
    save(store, replace(KEY, id="key_2", name="old"), deleted=3.0)
    assert store.run(lambda c: count_members(c, "team", "search")) == 1
    assert store.run(lambda c: count_members(c, "organization", "acme")) == 1
    assert store.run(count_rows) == {"organization": 1, "team": 1, "key": 1}


def test_a_new_epoch_is_above_what_has_been_published(store):
    save(store, ACME)
    before = store.run(directory_state_of)
    after = store.run(lambda c: begin_epoch(c, 41))
    assert after.version == 42
    assert after.epoch != before.epoch
    assert save(store, TEAM).version == 43


def entry(subject: str = "key_1", **fields: Any) -> AuditRow:
    plain = AuditRow(1.0, "ada", "owner", "create", "key", subject, None, {"name": "web"})
    return replace(plain, **fields)


def test_the_audit_is_read_from_its_end(store):
    rows = [entry(f"key_{n}") for n in range(4)]
    for row in rows:
        store.run(lambda c, row=row: add_audit(c, row))
    found = store.run(lambda c: list_audit(c, None, 10))
    assert found == sorted(rows, key=lambda row: row.id, reverse=True)
    assert store.run(lambda c: list_audit(c, found[1].id, 10)) == found[2:]
    assert [row.subject for row in store.run(lambda c: list_audit(c, None, 10, "key_2"))] == ["key_2"]


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'eve'", "DELETE FROM audit"])
def test_the_audit_refuses_to_be_changed(store, statement):
    store.run(lambda c: add_audit(c, entry()))
    with pytest.raises(DBAPIError, match="append-only"):
        store.run(lambda c: c.exec_driver_sql(statement))
    assert store.sql("SELECT actor FROM audit") == [("ada",)]


def test_the_audit_refuses_to_be_replaced(store):
    """`INSERT OR REPLACE` deletes the row in its way without a trigger's notice, and TRUNCATE touches no row."""
    row = entry()
    store.run(lambda c: add_audit(c, row))
    into = "INTO audit (rowid, id, at, actor, role, action, kind, subject) SELECT"
    forged = "2.0, 'eve', 'owner', 'create', 'key', 'key_1' FROM audit"
    statements = [f"INSERT OR REPLACE {into} NULL, id, {forged}", f"REPLACE {into} rowid, 'new', {forged}"]
    if store.engine.dialect.name == "postgresql":
        statements = ["TRUNCATE audit", "TRUNCATE audit, keys CASCADE"]
    for statement in statements:
        with pytest.raises(DBAPIError, match="append-only"):
            store.run(lambda c, statement=statement: c.exec_driver_sql(statement))
    assert store.sql("SELECT id, actor FROM audit") == [(row.id, "ada")]
    store.run(lambda c: add_audit(c, entry("key_2")))
    assert store.sql("SELECT count(*) FROM audit") == [(2,)], "new rows are added as before"
