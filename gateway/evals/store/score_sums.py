"""Sums over scores by cell, kept beside them in the same transaction; and the weights that have closed.

A cell is one scorer (with version and config), alias, model, arm and stratum. Its population is N_h: what the Tallies
of the gateways counted there while the scorer was at work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, bindparam, delete, select, update

from gateway.core.exchange import Exchange
from gateway.core.score import ConfiguredScorer, ScoreResult
from gateway.evals.store.batches import CellDelta
from gateway.evals.store.buckets import bounds_of
from gateway.evals.store.engine import insert
from gateway.evals.store.inserting import add_to
from gateway.evals.store.rows import model_of
from gateway.evals.store.tables import CELL, score_buckets, score_cells, score_units

Place = tuple[str, str, str, str]  # alias, model, arm, stratum
Buckets = tuple[float, ...]  # upper bounds of a histogram
_SPENT = ("spent_scored", "spent_not_applicable", "spent_samples", "spent_total", "spent_population")
_CLOSED = ("weighted_sum", "weight")
_STATUS = ("scored", "not_applicable", "error", "timeout", "budget")


class ScoreSums:
    """What one transaction adds, by cell."""

    def __init__(self) -> None:
        self.by_cell: dict[tuple[str, ...], CellDelta] = {}
        self.units: dict[tuple[str, ...], UnitSums] = {}  # by cell and unit; only those of several exchanges
        self._by_place: dict[Place, dict[tuple[str, ...], tuple[CellDelta, Buckets]]] = {}

    def count(
        self, exchange: Exchange, results: Iterable[ScoreResult], scorers: Mapping[str, ConfiguredScorer]
    ) -> None:
        e = exchange
        pi, place = e.pi, (e.alias, model_of(e), e.arm or "", e.stratum)
        alone = e.unit in (e.id, e.pair)
        here = self._by_place.setdefault(place, {})
        for r in results:
            cell = r[:3]
            sums, bounds = here.get(cell) or self._cell(here, cell, place, scorers)
            sums.inverse_pi += 1.0 / (pi * r.pi)
            score = r.score
            if score is None:
                setattr(sums, r.status, getattr(sums, r.status) + 1)
            else:
                value = float(score.value)
                sums.add(value, bounds)
                if not alone:
                    self._of_unit(sums, (*cell, *place, e.unit), value, e.received)

    def _cell(
        self,
        here: dict[tuple[str, ...], tuple[CellDelta, Buckets]],
        cell: tuple[str, str, str],
        place: Place,
        scorers: Mapping[str, ConfiguredScorer],
    ) -> tuple[CellDelta, Buckets]:
        sums = self.by_cell[*cell, *place] = CellDelta()
        here[cell] = sums, bounds_of(*scorers[cell[0]].scorer.bounds)
        return here[cell]

    def _of_unit(self, sums: CellDelta, key: tuple[str, ...], value: float, at: float) -> None:
        """One score that is not a unit of its own."""
        sums.unit_sizes -= 1.0
        sums.unit_products -= value
        sums.unit_squares -= value * value
        unit = self.units.setdefault(key, UnitSums())
        unit.n += 1
        unit.total += value
        unit.at = max(unit.at, at)


@dataclass(slots=True)
class UnitSums:
    """What newly stored scores add to a conversation in one cell. at: Unix seconds."""

    n: int = 0
    total: float = 0.0
    at: float = 0.0


def add(connection: Connection, sums: ScoreSums) -> None:
    """Adds to the stored sums, never replaces them."""
    for key, unit in sorted(sums.units.items()):  # one order of locks
        _add_unit(connection, key, unit, sums.by_cell[key[:-1]])
    rows = [{**_key(key), **_cell_values(s)} for key, s in sums.by_cell.items()]
    add_to(connection, score_cells, rows, CELL, tuple(_cell_values(CellDelta())))
    buckets = [
        {**_key(key), "bucket": at, "n": n, "spent": 0, "weight": 0.0}
        for key, s in sums.by_cell.items()
        for at, n in s.buckets.items()
    ]
    add_to(connection, score_buckets, buckets, (*CELL, "bucket"), ("n",))


def _add_unit(connection: Connection, key: tuple[str, ...], more: UnitSums, sums: CellDelta) -> None:
    """Adds to the conversation, and to its cell's sums what it thereby gains: its scores depend on each other, so that
    an interval is made of conversations. The row stays locked until the transaction ends."""
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
    """Of conversations that nobody has gone on with since (Unix seconds). The sums stay; one that goes on after all is
    another."""
    connection.execute(delete(score_units).where(score_units.c.at < before))


def add_population(connection: Connection, scorers: Mapping[str, ConfiguredScorer], more: Mapping[Place, int]) -> None:
    """What a Tally counted since the one before, for every scorer that is at work."""
    rows = [
        {
            **_key((name, r.scorer.version, r.config_hash, *place)),
            **_cell_values(CellDelta()),
            "population": n,
        }
        for name, r in scorers.items()
        for place, n in more.items()
        if n
    ]
    add_to(connection, score_cells, rows, CELL, ("population",))


def close_weights(connection: Connection) -> None:
    """Gives each exchange of the population that came since the last closing to the scores that came since then.

    What a stratum's scores do not represent yet (none applied or answered, or the Tally is behind) waits for the next
    closing. So the closed sums only grow, and over any window their ratio is the weighted mean.
    """
    open_cells = select(score_cells).where(
        score_cells.c.population - score_cells.c.spent_population
        >= score_cells.c.n_scored
        + score_cells.c.n_not_applicable
        + score_cells.c.n_error
        + score_cells.c.n_timeout
        + score_cells.c.n_budget
        - score_cells.c.spent_samples,
        score_cells.c.n_scored + score_cells.c.n_not_applicable
        > score_cells.c.spent_scored + score_cells.c.spent_not_applicable,
    )
    for row in connection.execute(open_cells.with_for_update()).mappings().all():
        _close(connection, row)


def _close(connection: Connection, row: RowMapping) -> None:
    responded = row["n_scored"] + row["n_not_applicable"] - row["spent_scored"] - row["spent_not_applicable"]
    factor = (row["population"] - row["spent_population"]) / responded
    at_cell = {name: row[name] for name in CELL}
    closed = {
        "spent_scored": row["n_scored"],
        "spent_not_applicable": row["n_not_applicable"],
        "spent_samples": sum(row[f"n_{status}"] for status in _STATUS),
        "spent_total": row["total"],
        "spent_population": row["population"],
        "weighted_sum": row["weighted_sum"] + factor * (row["total"] - row["spent_total"]),
        "weight": row["weight"] + factor * (row["n_scored"] - row["spent_scored"]),
    }
    connection.execute(_at(score_cells).values(closed), _bound(at_cell))
    buckets = score_buckets.c
    weight = buckets.weight + bindparam("factor") * (buckets.n - buckets.spent)
    spent = _at(score_buckets).values(weight=weight, spent=buckets.n)
    connection.execute(spent, {**_bound(at_cell), "factor": factor})


def _at(table: Table) -> Any:
    return update(table).where(*(table.c[name] == bindparam(f"at_{name}") for name in CELL))


def _bound(at_cell: Mapping[str, Any]) -> dict[str, Any]:
    return {f"at_{name}": value for name, value in at_cell.items()}


def _key(values: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(CELL, values, strict=True))


def _cell_values(sums: CellDelta) -> dict[str, float]:
    return {
        **{f"n_{status}": getattr(sums, status) for status in _STATUS},
        "total": sums.total,
        "squares": sums.squares,
        "inverse_pi": sums.inverse_pi,
        "unit_sizes": sums.scored + sums.unit_sizes,
        "unit_products": sums.total + sums.unit_products,
        "unit_squares": sums.squares + sums.unit_squares,
    }
