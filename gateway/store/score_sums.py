"""Sums over scores by cell, updated in the transaction that stores the scores; closed weights; costs.

A cell is one scorer (with version and config), alias, model, arm and stratum. Its population is N_h: what the Tallies
of the gateways counted there while the scorer was running.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, bindparam, delete, or_, select, text, update
from sqlalchemy.engine import Dialect

from gateway.core.exchange import IMPORTED, Exchange
from gateway.core.score import ConfiguredScorer, ScoreResult
from gateway.store.engine import adding, insert
from gateway.store.rows import model_of
from gateway.store.tables import CELL, score_buckets, score_cells, score_costs, score_units

UNIT_BOUNDS = tuple(i / 10 for i in range(11))  # for scores in [0, 1]
WIDE_BOUNDS = (-100.0, -10.0, -1.0, -0.1, 0.0, 0.1, 1.0, 10.0, 100.0, 1000.0, 10_000.0)  # for all others
BUCKET_COUNT = len(UNIT_BOUNDS) + 1  # one more for +Inf


def bucket_bounds(low: float | None, high: float | None) -> tuple[float, ...]:
    """The upper bounds of a scorer's histogram. Changing them would falsify stored counts."""
    return UNIT_BOUNDS if (low, high) == (0.0, 1.0) else WIDE_BOUNDS


def bucket_of(value: float, bounds: tuple[float, ...]) -> int:
    """The first bucket whose upper bound holds value; len(bounds) for none (+Inf)."""
    return bisect_left(bounds, value)


@dataclass(slots=True)
class CellDelta:
    """Sums that newly stored scores add to one cell.

    unit_*: the growth of the sums over units beyond scored, total and squares, since some scores share a unit.
    """

    scored: int = 0
    not_applicable: int = 0
    error: int = 0
    timeout: int = 0
    budget: int = 0
    total: float = 0.0
    squares: float = 0.0
    inverse_pi: float = 0.0
    unit_sizes: float = 0.0
    unit_products: float = 0.0
    unit_squares: float = 0.0
    buckets: dict[int, int] = field(default_factory=dict)

    def add(self, value: float, bounds: tuple[float, ...]) -> None:
        """Adds one score. bounds: of the histogram."""
        self.scored += 1
        self.total += value
        self.squares += value * value
        bucket = bucket_of(value, bounds)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1


@dataclass(slots=True)
class UnitSums:
    """Sums that newly stored scores add to a conversation in one cell. at: Unix seconds."""

    n: int = 0
    total: float = 0.0
    at: float = 0.0


CellPlace = tuple[str, str, str, str]  # alias, model, arm, stratum
Buckets = tuple[float, ...]  # upper bounds of a histogram
OPEN = ("open_sizes", "open_products", "open_squares")
_MORE = ("more_scored", "more_answered", "more_total")
_STATUS = ("scored", "not_applicable", "error", "timeout", "budget")


class ScoreSums:
    """Sums that one transaction adds, by cell."""

    def __init__(self) -> None:
        self.by_cell: dict[tuple[str, ...], CellDelta] = {}
        self.units: dict[tuple[str, ...], UnitSums] = {}  # by cell and unit; only units of several exchanges
        self._by_place: dict[CellPlace, dict[tuple[str, ...], tuple[CellDelta, Buckets]]] = {}

    def count(
        self, exchange: Exchange, results: Iterable[ScoreResult], scorers: Mapping[str, ConfiguredScorer]
    ) -> None:
        """Counts the scores of an exchange; those of an import belong to no population, and are not counted."""
        e, pi = exchange, exchange.pi
        if pi is None or e.role == IMPORTED:
            return
        place = e.alias, model_of(e), e.arm or "", e.stratum
        alone = e.unit in (e.id, e.pair)
        here = self._by_place.setdefault(place, {})
        for name, version, config_hash, status, score, _, _, seen, _ in results:
            cell = name, version, config_hash
            sums, bounds = here.get(cell) or self._cell(here, cell, place, scorers)
            sums.inverse_pi += 1.0 / (pi * seen)
            if score is None:
                setattr(sums, status, getattr(sums, status) + 1)
            else:
                value = float(score.value)
                sums.add(value, bounds)
                if not alone:
                    self._add_to_unit(sums, (*cell, *place, e.unit), value, e.received)

    def _cell(
        self,
        here: dict[tuple[str, ...], tuple[CellDelta, Buckets]],
        cell: tuple[str, str, str],
        place: CellPlace,
        scorers: Mapping[str, ConfiguredScorer],
    ) -> tuple[CellDelta, Buckets]:
        sums = self.by_cell[*cell, *place] = CellDelta()
        here[cell] = sums, bucket_bounds(*scorers[cell[0]].scorer.bounds)
        return here[cell]

    def _add_to_unit(self, sums: CellDelta, key: tuple[str, ...], value: float, at: float) -> None:
        """Adds a score that shares its unit with others."""
        sums.unit_sizes -= 1.0
        sums.unit_products -= value
        sums.unit_squares -= value * value
        unit = self.units.setdefault(key, UnitSums())
        unit.n += 1
        unit.total += value
        unit.at = max(unit.at, at)


_ALONE = text(f"SELECT pg_advisory_xact_lock({0x6774_7375})")


def lock(connection: Connection) -> None:
    """Lets one transaction at a time change the ledgers and the sums of cells, until it ends.

    A batch has scores and tallies of several gateways, in the order of the stream: two consumers would lock the rows of
    a cell and of a ledger in different orders, and PostgreSQL would end one of them. They wait for each other's cells
    in any case. Call it before the first of these rows is locked, and after the rows of `score_units`. A transaction on
    SQLite is alone.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_ALONE)


def add(connection: Connection, sums: ScoreSums) -> None:
    """Adds to the stored sums, never replaces them."""
    for key, unit in sorted(sums.units.items()):  # one order of locks
        _add_unit(connection, key, unit, sums.by_cell[key[:-1]])
    if sums.by_cell:
        lock(connection)
    rows = [{**_key(key), **cell_values(s)} for key, s in sums.by_cell.items()]
    add_to(connection, score_cells, rows, tuple(cell_values(CellDelta())))
    buckets = [
        {**_key(key), "bucket": at, "n": n, "spent": 0, "weight": 0.0}
        for key, s in sums.by_cell.items()
        for at, n in s.buckets.items()
    ]
    add_to(connection, score_buckets, buckets, ("n",))


def _add_unit(connection: Connection, key: tuple[str, ...], more: UnitSums, sums: CellDelta) -> None:
    """Adds to the conversation, and its gain to the sums of its cell: scores of one conversation depend on each other,
    so intervals are computed over conversations. The row stays locked until the transaction ends."""
    u = score_units.c
    values = {**_key(key[:-1]), "unit": key[-1], "n": more.n, "total": more.total, "at": more.at}
    statement = insert(connection.dialect, score_units).values(values)
    given = statement.excluded
    later = {"n": u.n + given.n, "total": u.total + given.total, "at": given.at}
    statement = statement.on_conflict_do_update(index_elements=[*CELL, "unit"], set_=later).returning(u.n, u.total)
    n, total = connection.execute(statement).one()
    before_n, before_total = n - more.n, total - more.total
    sums.unit_sizes += n * n - before_n * before_n
    sums.unit_products += n * total - before_n * before_total
    sums.unit_squares += total * total - before_total * before_total


def forget_units(connection: Connection, before: float) -> None:
    """Forgets conversations without a call since `before` (Unix seconds). A later call starts a new one."""
    connection.execute(delete(score_units).where(score_units.c.at < before))


def add_population(
    connection: Connection, scorers: Mapping[str, ConfiguredScorer], more: Mapping[CellPlace, int]
) -> None:
    """Adds what a tally counted since the previous one, for every running scorer."""
    cells = [(name, r.scorer.version, r.config_hash) for name, r in scorers.items()]
    grown = [(place, n) for place, n in more.items() if n]
    add_to_population(connection, [((*cell, *place), n) for cell in cells for place, n in grown])


def add_to_population(connection: Connection, more: Iterable[tuple[tuple[str, ...], int]]) -> None:
    """Adds to populations. more: the key of a cell, and the growth of its population."""
    rows = [{**_key(cell), **cell_values(CellDelta()), "population": n} for cell, n in more]
    add_to(connection, score_cells, rows, ("population",))


def close_weights(connection: Connection) -> None:
    """Distributes the population that arrived since the last closing over the scores that arrived since then.

    A stratum whose scores do not represent it yet (none applied or answered, or the tally is behind) waits for the next
    closing. The tally is not behind where it grew by as much as the samples did, or has counted as many calls as all
    samples stand for: a tally that came before its samples gave its population to those that were there, and what grew
    since then can stay below the samples forever. So the closed sums only grow, and over any window their ratio is the
    weighted mean. The sums over units (closed_*) give its interval. A conversation adds the growth of its sums, so that
    one that began before the window counts with its earlier answers too.
    """
    c = score_cells.c
    grown = c.population - c.spent_population
    samples = c.n_scored + c.n_not_applicable + c.n_error + c.n_timeout + c.n_budget
    open_cells = select(score_cells).where(
        grown > 0,
        or_(grown >= samples - c.spent_samples, c.population >= c.inverse_pi),
        c.n_scored + c.n_not_applicable > c.spent_scored + c.spent_not_applicable,
    )
    lock(connection)
    for row in connection.execute(open_cells.with_for_update()).mappings().all():
        _close(connection, row)


def _close(connection: Connection, row: RowMapping) -> None:
    """An answer of a guided scorer counts 1 / π times (more_*)."""
    new = {name: row[name] - row[f"spent_{name}"] for name in (*_MORE, "total", "population")}
    scored, not_applicable = (row[f"n_{name}"] - row[f"spent_{name}"] for name in ("scored", "not_applicable"))
    factor = new["population"] / (scored + not_applicable + new["more_answered"])
    at_cell = {name: row[name] for name in CELL}
    closed = {
        "spent_scored": row["n_scored"],
        "spent_not_applicable": row["n_not_applicable"],
        "spent_samples": sum(row[f"n_{status}"] for status in _STATUS),
        "spent_total": row["total"],
        "spent_population": row["population"],
        "weighted_sum": row["weighted_sum"] + factor * (new["total"] + new["more_total"]),
        "weight": row["weight"] + factor * (scored + new["more_scored"]),
        **{f"spent_{name}": row[name] for name in _MORE},
        **{name: score_cells.c[name] - row[name] for name in OPEN},
        **{(at := name.replace("open", "closed")): row[at] + factor * factor * row[name] for name in OPEN},
    }
    connection.execute(_at(score_cells).values(closed), _bound(at_cell))
    b = score_buckets.c
    weight = b.weight + bindparam("factor") * (b.n - b.spent + b.more - b.spent_more)
    spent = _at(score_buckets).values(weight=weight, spent=b.n, spent_more=b.more)
    connection.execute(spent, {**_bound(at_cell), "factor": factor})


def _at(table: Table) -> Any:
    return update(table).where(*(table.c[name] == bindparam(f"at_{name}") for name in CELL))


def _bound(at_cell: Mapping[str, Any]) -> dict[str, Any]:
    return {f"at_{name}": value for name, value in at_cell.items()}


def _key(values: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(CELL, values, strict=True))


def cell_values(sums: CellDelta) -> dict[str, float]:
    """Columns of `score_cells` and what they grow by."""
    sizes = sums.scored + sums.unit_sizes
    products = sums.total + sums.unit_products
    squares = sums.squares + sums.unit_squares
    return {
        **{f"n_{status}": getattr(sums, status) for status in _STATUS},
        "total": sums.total,
        "squares": sums.squares,
        "inverse_pi": sums.inverse_pi,
        "unit_sizes": sizes,
        "unit_products": products,
        "unit_squares": squares,
        "open_sizes": sizes,
        "open_products": products,
        "open_squares": squares,
    }


def add_to(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], added: tuple[str, ...]) -> None:
    """Adds to sums, by primary key. rows: column → summand; a missing sum starts with it, and with zero elsewhere."""
    if not rows:
        return
    sql, names = _adding(table, added, connection.dialect)
    key = table.primary_key.columns.keys()
    zeros = {c.name: 0 for c in table.columns if c.name not in rows[0]}
    ordered = sorted(({**zeros, **row} for row in rows), key=itemgetter(*key))  # one order of locks
    values: Any = ordered if names is None else [tuple([row[name] for name in names]) for row in ordered]
    connection.exec_driver_sql(sql, values)


@cache
def _adding(table: Table, added: tuple[str, ...], dialect: Dialect) -> tuple[str, tuple[str, ...] | None]:
    """Returns SQL for the driver, and its parameters' names in order, or None where it takes them by name."""
    compiled = adding(dialect, table, added).compile(dialect=dialect)
    return str(compiled), tuple(compiled.positiontup) if compiled.positional else None


@dataclass(frozen=True, slots=True)
class ScorerCost:
    usd: float = 0.0
    tokens: int = 0


Paid = tuple[str, float | None, int | None]
"""A scorer, with the US dollars and the tokens that one score cost."""


def costs_of_results(results: Iterable[ScoreResult]) -> Iterator[Paid]:
    return ((r.scorer, r.spent.cost_usd, r.spent.tokens) for r in results if r.spent is not None)


def add_costs(connection: Connection, spent: Iterable[Paid]) -> None:
    """Adds what scores cost to the sums of their scorers."""
    sums: dict[str, ScorerCost] = {}
    for scorer, usd, tokens in spent:
        if usd or tokens:
            so_far = sums.get(scorer, ScorerCost())
            sums[scorer] = ScorerCost(so_far.usd + (usd or 0.0), so_far.tokens + (tokens or 0))
    statement = adding(connection.dialect, score_costs, ("usd", "tokens"))
    for scorer, cost in sorted(sums.items()):
        connection.execute(statement, {"scorer": scorer, "usd": cost.usd, "tokens": cost.tokens})


def scorer_costs(connection: Connection) -> Mapping[str, ScorerCost]:
    return {row.scorer: ScorerCost(row.usd, row.tokens) for row in connection.execute(select(score_costs))}
