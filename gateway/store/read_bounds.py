"""The rows that somebody may read whose rights are limited to some teams: every query of theirs is rewritten here.

A connection that has bounds replaces each table of a query by those of its rows that belong to the teams. A table
without a rule, a statement that is not a SELECT, and SQL that is a text are refused, so that a query that nobody has
thought of shows nothing instead of everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    CompoundSelect,
    Connection,
    Select,
    Subquery,
    Table,
    TextClause,
    and_,
    cast,
    event,
    false,
    func,
    null,
    or_,
    select,
)
from sqlalchemy.sql.util import ClauseAdapter
from sqlalchemy.sql.visitors import ExternallyTraversible, replacement_traverse

from gateway.store.tables import (
    audit,
    exchanges,
    feedback,
    guard_decisions,
    keys,
    labels,
    organizations,
    pair_scores,
    predictions,
    run_chunks,
    runs,
    score_cells,
    scores,
    teams,
    usage,
)


class OutOfBounds(Exception):
    """A query reads what bounds have no rule for."""


@dataclass(frozen=True, slots=True)
class ReadBounds:
    """One team; or those of an organization, in gateway.yaml and in the store."""

    teams: tuple[str, ...]
    """The team, or the organization's teams in gateway.yaml."""
    organization: str | None = None
    """The organization, whose teams in the store belong to it, too; None: one team alone."""
    other_teams: tuple[str, ...] = ()
    """The teams that gateway.yaml puts elsewhere, whatever the store says of a team with that id."""


def bounded(connection: Connection, bounds: ReadBounds) -> Connection:
    """The connection, which from now on reads nothing outside the bounds and writes nothing."""

    def rewrite(on: Connection, clause: Any, several: Any, one: Any, options: Any) -> tuple[Any, Any, Any]:
        if not isinstance(clause, Select | CompoundSelect):
            raise OutOfBounds("rights that are limited to a team run nothing but queries")
        return within_bounds(clause, bounds, on.dialect.name), several, one

    def refuse_texts(on: Connection, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
        if getattr(context, "compiled", None) is None:
            raise OutOfBounds("rights that are limited to a team run no SQL that is a text")

    event.listen(connection, "before_execute", rewrite, retval=True)
    event.listen(connection, "before_cursor_execute", refuse_texts)
    return connection


Query = Select[Any] | CompoundSelect[Any]
Condition = Callable[[ReadBounds, str], ColumnElement[bool]]
"""A condition on the rows of a table, from the bounds and the name of the dialect."""


def _of_team(bounds: ReadBounds, column: ColumnElement[Any]) -> ColumnElement[bool]:
    if bounds.organization is None:
        return column == bounds.teams[0]  # written so, a database reads an index in its order
    found = select(teams.c.id).where(teams.c.organization == bounds.organization)
    stored = found.where(teams.c.id.not_in(bounds.other_teams)) if bounds.other_teams else found
    return or_(column.in_(bounds.teams), column.in_(stored))


def _called(bounds: ReadBounds, _: str) -> ColumnElement[bool]:
    """Calls of the teams. Of several, in the order of the index `exchanges_of_teams`: with a plain column, SQLite reads
    each team's calls and sorts all of them before it takes the newest."""
    team = exchanges.c.team
    if bounds.organization is None:
        return _of_team(bounds, team)
    return and_(team.is_not(None), _of_team(bounds, team.concat("")))


def _team_column(table: Table, name: str = "team") -> Condition:
    return lambda bounds, _: _of_team(bounds, table.c[name])


def _of_call(table: Table, *columns: str) -> Condition:
    """The condition that one of the columns names a call of the teams."""

    def holds(bounds: ReadBounds, _: str) -> ColumnElement[bool]:
        e = exchanges.c
        its = or_(*(e.id == table.c[name] for name in columns))
        return select(e.id).where(its, _of_team(bounds, e.team)).correlate(table).exists()

    return holds


def _of_run(table: Table) -> Condition:
    def holds(bounds: ReadBounds, _: str) -> ColumnElement[bool]:
        e = exchanges.c
        return select(e.id).where(e.run_id == table.c.run_id, _of_team(bounds, e.team)).correlate(table).exists()

    return holds


def _used(bounds: ReadBounds, _: str) -> ColumnElement[bool]:
    """The condition on usage: of the team, or of a time when the team was the organization's."""
    return (
        usage.c.team == bounds.teams[0] if bounds.organization is None else usage.c.organization == bounds.organization
    )


def _organization(bounds: ReadBounds, _: str) -> ColumnElement[bool]:
    return false() if bounds.organization is None else organizations.c.id == bounds.organization


def _audited(bounds: ReadBounds, dialect: str) -> ColumnElement[bool]:
    """The changes of what was within the bounds before and after: a key that came from elsewhere brings nothing of its
    past along."""
    a, organization = audit.c, bounds.organization
    sides = (a.before, a.after)
    key = [or_(side.is_(None), _of_team(bounds, _member(side, "team", dialect))) for side in sides]
    if organization is None:
        return or_(and_(a.kind == "key", *key), and_(a.kind == "team", a.subject == bounds.teams[0]))
    team = [or_(side.is_(None), _member(side, "organization", dialect) == organization) for side in sides]
    own = and_(a.kind == "organization", a.subject == organization)
    return or_(and_(a.kind == "key", *key), and_(a.kind == "team", *team), own)


def _member(column: ColumnElement[Any], name: str, dialect: str) -> ColumnElement[Any]:
    """A member of an object that is stored as a text."""
    if dialect == "postgresql":
        return func.json_extract_path_text(cast(column, JSON), name)
    return func.json_extract(column, f"$.{name}")


_CONDITIONS: Mapping[Table, Condition] = {
    exchanges: _called,
    usage: _used,
    keys: _team_column(keys),
    teams: _team_column(teams, "id"),
    organizations: _organization,
    audit: _audited,
    scores: _of_call(scores, "exchange_id"),
    pair_scores: _of_call(pair_scores, "exchange_id"),
    predictions: _of_call(predictions, "exchange_id"),
    labels: _of_call(labels, "subject_id"),
    guard_decisions: _of_call(guard_decisions, "exchange_id"),
    feedback: _of_call(feedback, "exchange_id", "resolved"),
    runs: _of_run(runs),
    run_chunks: _of_run(run_chunks),
}
_SHOWN: Mapping[Table, frozenset[str]] = {score_cells: frozenset({"scorer"})}
"""Tables of sums over all teams, with the columns that say nothing of any: names that the config gives. The others are
NULL."""


def _readable(table: Table, bounds: ReadBounds, dialect: str) -> Subquery:
    """The rows of a table within the bounds, under the table's name. Raises OutOfBounds."""
    if (shown := _SHOWN.get(table)) is not None:
        columns = [c if c.name in shown else cast(null(), c.type).label(c.name) for c in table.c]
        return select(*columns).subquery(table.name)
    condition = _CONDITIONS.get(table)
    if condition is None:
        raise OutOfBounds(f"the table {table.name} has no rule for rights that are limited to a team")
    return select(table).where(condition(bounds, dialect)).subquery(table.name)


def within_bounds(query: Query, bounds: ReadBounds, dialect: str) -> Query:
    """The query over the rows within the bounds alone. Raises OutOfBounds."""
    readable = {table: _readable(table, bounds, dialect) for table in {*_tables(query, ())}}
    adapters = [ClauseAdapter(each) for each in readable.values()]

    def replaced(element: ExternallyTraversible, **_: Any) -> ExternallyTraversible | None:
        if isinstance(element, Column) and element.table in readable:
            return readable[element.table].c[element.name]
        found = (adapter.replace(element) for adapter in adapters)
        return next((each for each in found if each is not None and each is not element), None)

    made: Query = replacement_traverse(query, {}, replaced)  # type: ignore[assignment]
    left = [table.name for table in _tables(made, tuple(readable.values()))]
    if left:  # such as below an alias, which an adapter leaves alone
        raise OutOfBounds(f"{left[0]} is read in a form that has no rule for rights that are limited to a team")
    return made


def _tables(query: Any, known: tuple[Subquery, ...]) -> Iterator[Table]:
    """Every table that a query reads, but those within the known subqueries. Raises OutOfBounds for SQL in texts."""
    waiting, seen = [query], set[int]()
    while waiting:
        element = waiting.pop()
        if id(element) in seen or any(element is each for each in known):
            continue
        seen.add(id(element))
        if isinstance(element, Table):
            yield element
            continue  # its columns lead nowhere else
        if isinstance(element, TextClause) and "select" in element.text.lower():
            raise OutOfBounds("a query has a SELECT in a text")
        table = getattr(element, "table", None)
        waiting += [*element.get_children(), *([table] if table is not None else [])]
