"""Queries within bounds: whatever form a query has, it reads the teams' rows or is refused. On both databases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Select, Table, delete, exists, func, select, text, update
from sqlalchemy.dialects import sqlite

from gateway.store.directory import AuditRow, Kind, add_audit, list_audit
from gateway.store.read_bounds import OutOfBounds, ReadBounds, bounded, within_bounds
from gateway.store.tables import events, exchanges, keys, metadata, organizations, score_cells, scores, teams, usage

MINE = ReadBounds(("mine",))
OF_ACME = ReadBounds(("filed",), "acme", ("moved",))
E, S = exchanges.c, scores.c


@pytest.fixture
def read(store: Any) -> Callable[..., list[Any]]:
    """Runs a query within bounds, on a store with calls of five teams."""
    store.run(_fill)

    def reading(query: Any, bounds: ReadBounds = MINE) -> list[Any]:
        found: list[Any] = store.run(lambda c: [*bounded(c, bounds).execute(query)])
        return found

    return reading


def _fill(connection: Any) -> None:
    for team in ("mine", "theirs", "filed", "moved", "stored"):
        connection.execute(exchanges.insert().values(_row(exchanges, id=f"id-{team}", team=team)))
        connection.execute(scores.insert().values(_row(scores, score_id=team, exchange_id=f"id-{team}")))
    for team, organization in (("stored", "acme"), ("moved", "acme"), ("theirs", "rival")):
        connection.execute(teams.insert().values(_row(teams, id=team, organization=organization)))


def _row(table: Table, **given: Any) -> dict[str, Any]:
    """A row whose other values say nothing."""
    samples = {str: "{}", int: 1, float: 1.0, bool: False, bytes: b"x"}
    return {column.name: samples[column.type.python_type] for column in table.c if not column.nullable} | given


CTE = select(E.id, E.team).cte("found")
OTHER = exchanges.alias("other")
FORMS: dict[str, Select[Any]] = {
    "plain": select(E.id),
    "an alias": select(OTHER.c.id),
    "a join": select(S.exchange_id).join(exchanges, E.id == S.exchange_id),
    "an outer join": select(E.id).outerjoin(scores, E.id == S.exchange_id),
    "a subquery": select(select(E.id).subquery().c.id),
    "a common table": select(CTE.c.id),
    "a scalar": select(select(func.max(E.id)).scalar_subquery()),
    "exists": select(S.exchange_id).where(exists().where(E.id == S.exchange_id)),
    "in": select(S.exchange_id).where(S.exchange_id.in_(select(E.id))),
    "through scores alone": select(S.exchange_id),
    "grouped": select(E.id).group_by(E.id).having(func.count() > 0).order_by(E.id),
    "distinct": select(E.id).distinct(),
    "with itself": select(E.id).where(select(OTHER.c.id).where(OTHER.c.id != E.id).exists() | (E.id == E.id)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_query_reads_the_teams_rows(read: Callable[..., list[Any]], form: str) -> None:
    assert read(FORMS[form]) == [("id-mine",)]


def test_a_union_reads_the_teams_rows(read: Callable[..., list[Any]]) -> None:
    assert read(select(E.id).union_all(select(OTHER.c.id))) == [("id-mine",)] * 2


def test_an_organization_has_its_teams_of_file_and_store(read: Callable[..., list[Any]]) -> None:
    """A team that gateway.yaml puts elsewhere is not the organization's, whatever the store has of that id."""
    assert {row[0] for row in read(select(E.id), OF_ACME)} == {"id-filed", "id-stored"}
    assert {row[0] for row in read(select(S.exchange_id), OF_ACME)} == {"id-filed", "id-stored"}
    assert read(select(organizations.c.id)) == []


@pytest.mark.parametrize(
    "refused",
    [
        select(events),
        select(E.id).where(E.id.in_(select(events.c.subject))),
        text("SELECT id FROM exchanges"),
        select(text("(SELECT max(id) FROM exchanges)")),
        update(keys).values(disabled=False),
        delete(exchanges),
        usage.insert(),
    ],
    ids=str,
)
def test_a_table_without_a_rule_is_refused(read: Callable[..., list[Any]], refused: Any) -> None:
    with pytest.raises(OutOfBounds):
        read(refused)


def test_sql_that_is_a_text_is_refused(store: Any, read: Callable[..., list[Any]]) -> None:
    with pytest.raises(OutOfBounds):
        store.run(lambda c: bounded(c, MINE).exec_driver_sql("SELECT id FROM exchanges").all())


def test_sums_over_all_teams_show_names_of_scorers_alone(store: Any, read: Callable[..., list[Any]]) -> None:
    row = _row(score_cells, scorer="judge", n_scored=7)
    store.run(lambda c: c.execute(score_cells.insert().values(row)))
    assert read(select(score_cells.c.scorer, score_cells.c.n_scored, score_cells.c.alias)) == [("judge", None, None)]


def test_every_table_has_a_rule_or_is_refused(read: Callable[..., list[Any]]) -> None:
    """A new table is refused until somebody decides what belongs to a team."""
    readable = set()
    for table in metadata.sorted_tables:
        try:
            read(select(table))
            readable.add(table.name)
        except OutOfBounds:
            pass
    assert readable == {
        "exchanges", "scores", "pair_scores", "predictions", "labels", "feedback", "guard_decisions", "runs",
        "run_chunks", "usage", "keys", "teams", "organizations", "audit", "score_cells",
    }  # fmt: skip


def test_the_newest_calls_are_read_in_the_order_of_an_index(file_store: Any) -> None:
    """A sort would read all calls of an organization for its page."""
    newest = select(E.alias, E.team).order_by(E.received.desc(), E.id.desc()).limit(10)
    for bounds, index in ((MINE, "exchanges_team"), (OF_ACME, "exchanges_of_teams")):
        query = within_bounds(newest, bounds, "sqlite")
        sql = str(query.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))
        plan = str(file_store.run(lambda c, sql=sql: c.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}").all()))
        assert f"INDEX {index}" in plan
        assert "ORDER BY" not in plan


def test_changes_of_what_came_from_elsewhere_are_left_out(store: Any) -> None:
    """A key that was moved shows nothing of its past, to its new team and to the old one."""
    changes: list[tuple[Kind, str | None, str | None]] = [
        ("key", None, "mine"), ("key", "mine", "mine"), ("key", "theirs", "mine"), ("key", "mine", "theirs"),
        ("team", None, "acme"), ("team", "rival", "acme"), ("team", "acme", "acme"),
    ]  # fmt: skip
    for at, (kind, *sides) in enumerate(changes):
        member = "team" if kind == "key" else "organization"
        before, after = (None if side is None else {member: side} for side in sides)
        subject = "mine" if kind == "team" else "k"
        row = AuditRow(float(at), "ada", "owner", "change", kind, subject, before, after)
        store.run(lambda c, row=row: add_audit(c, row))

    def seen(bounds: ReadBounds) -> list[float]:
        return sorted(row.at for row in store.run(lambda c: list_audit(bounded(c, bounds), None, 100)))

    assert seen(MINE) == [0.0, 1.0, 4.0, 5.0, 6.0]
    assert seen(ReadBounds(("mine",), "acme")) == [0.0, 1.0, 4.0, 6.0]
