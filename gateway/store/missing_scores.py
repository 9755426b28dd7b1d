"""Scores for exchanges that were stored without them: the missing scores, the exchanges as recorded, and the writing.

The sums become those of a scorer that had run from the start. Scores are added as the consumer adds them. The
population of a cell is what the tallies counted there and the cell lacks: each new score brings an equal part of it,
the last the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, and_, delete, or_, select, true

from gateway.core.exchange import IMPORTED, Exchange, Target
from gateway.core.score import ConfiguredScorer, ScoreResult
from gateway.store import ledger, score_sums
from gateway.store.bulk_insert import insert_scores
from gateway.store.predictions import decided_scorers
from gateway.store.query import ExchangeFilter, conditions
from gateway.store.rows import ScoredExchange, ScoreIds, exchange_of, model_of, score_id_of
from gateway.store.run_chunks import WHOLE_EXCHANGE
from gateway.store.score_sums import CellPlace, ScoreSums
from gateway.store.tables import CELL, exchanges, score_cells, scores

SETTLED = ("scored", "not_applicable")
"""Statuses that another run would not change."""
Cell = tuple[str, str, str, str, str, str, str]
"""The key of a row of `score_cells`, in the order of CELL."""
_PAGE = 500
_LIGHT = ("id", "received", "unit", "alias", "upstream", "model", "variant", "arm", "stratum", "bytes")


@dataclass(frozen=True, slots=True)
class StoredPlace:
    """An exchange without its bodies."""

    id: str
    received: float
    unit: str
    place: CellPlace
    readable: bool
    """Whether the exchange still has its bodies; False if retention has removed them."""
    selected: bool
    """Whether it matches the filter."""
    settled: frozenset[str]
    """The score ids that another run would not change."""
    decided: frozenset[str] = frozenset()
    """The scorers whose draw a predictor made when the exchange arrived; scoring it now would have no probability."""


@dataclass(frozen=True, slots=True)
class StoredExchange:
    """An exchange as it was recorded, with the cost that was known then."""

    exchange: Exchange
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class AddedScores:
    """Results of one transaction, by cell."""

    new: Counter[Cell] = field(default_factory=Counter)
    """Scores stored."""
    present: Counter[Cell] = field(default_factory=Counter)
    """Scores that another process had stored, or whose exchange retention has deleted since."""


Place = tuple[float, str]
"""An exchange in order of arrival: received, id."""


def places(
    connection: Connection, filter: ExchangeFilter, until: float, after: Place | None, *, selected_only: bool = False
) -> list[StoredPlace]:
    """The next exchanges received until then (Unix seconds), oldest first; [] at the end. Raises QueryError.

    after: the last one of the previous page; None: from the first. selected_only: without those outside the filter.
    """
    chosen = and_(true(), *conditions(connection, filter))
    e = exchanges.c
    alone = or_(e.score_rate.is_(None), e.u < e.score_rate)  # else it is recorded for its run only
    # Neither a request for a likelihood nor a copy has scores of its own.
    scorable = and_(e.received <= until, e.likelihood.is_(None), e.tied.is_not(True), alone)
    query = select(*(e[name] for name in _LIGHT), chosen.label("selected")).where(scorable)
    query = (query.where(chosen) if selected_only else query).order_by(e.received, e.id)
    if after is not None:
        query = query.where(or_(e.received > after[0], and_(e.received == after[0], e.id > after[1])))
    rows = connection.execute(query.limit(_PAGE)).all()
    ids = [row.id for row in rows]
    settled, decided = _settled(connection, ids), decided_scorers(connection, ids)
    return [_place(row, frozenset(settled.get(row.id, ())), frozenset(decided.get(row.id, ()))) for row in rows]


def _place(row: Any, settled: frozenset[str], decided: frozenset[str]) -> StoredPlace:
    place = (row.alias, str(Target(row.upstream, row.model, row.variant or "")), row.arm or "", row.stratum)
    return StoredPlace(row.id, row.received, row.unit, place, row.bytes > 0, bool(row.selected), settled, decided)


def _settled(connection: Connection, ids: Sequence[str]) -> dict[str, list[str]]:
    s = scores.c
    found: dict[str, list[str]] = {}
    query = select(s.exchange_id, s.score_id).where(s.exchange_id.in_(ids), s.status.in_(SETTLED))
    for exchange_id, score_id in connection.execute(query):
        found.setdefault(exchange_id, []).append(score_id)
    return found


def stored_exchanges(connection: Connection, ids: Sequence[str]) -> list[StoredExchange]:
    """Exchanges of these that still have their bodies, in order of arrival."""
    e = exchanges.c
    query = select(*WHOLE_EXCHANGE).where(e.id.in_(ids), e.bytes > 0).order_by(e.received, e.id)
    return [StoredExchange(exchange_of(row), row["cost_usd"]) for row in connection.execute(query).mappings()]


def cell_of(name: str, of: ConfiguredScorer, place: CellPlace) -> Cell:
    return (name, of.scorer.version, of.config_hash, *place)


def add_late_scores(
    connection: Connection,
    judged: Iterable[ScoredExchange],
    scorers: Mapping[str, ConfiguredScorer],
    remaining: Mapping[Cell, int],
    now: float,
) -> AddedScores:
    """Stores the results of exchanges that are stored already. A result that failed before is replaced.

    remaining: number of results that each cell still lacks, these included; the last of them completes its population.
    Raises WriteConflict and database errors; then nothing is stored.
    """
    judged = list(judged)
    added, sums = AddedScores(), ScoreSums()
    known = _known(connection, [j.exchange.id for j in judged])
    fresh = [f for j in judged if (f := _fresh(j, known, scorers, added)).results]
    for each in fresh:
        sums.count(each.exchange, each.results, scorers)
    _forget_failed(connection, fresh, known, sums)
    insert_scores(connection, scorers, fresh, now)
    score_sums.add_costs(connection, score_sums.costs_of_results(r for each in fresh for r in each.results))
    score_sums.add(connection, sums)
    _add_population(connection, added, remaining)
    return added


_KnownScores = dict[str, dict[str, Any]]  # by exchange and score id; an exchange that is gone is missing


def _known(connection: Connection, ids: Sequence[str]) -> _KnownScores:
    """Locks the exchanges, so that retention does not delete one of them meanwhile."""
    there = select(exchanges.c.id).where(exchanges.c.id.in_(ids)).with_for_update(read=True)
    found: _KnownScores = {i: {} for i in connection.execute(there).scalars()}
    s = scores.c
    for row in connection.execute(select(s.exchange_id, s.score_id, s.status, s.pi).where(s.exchange_id.in_(ids))):
        if row.exchange_id in found:
            found[row.exchange_id][row.score_id] = row
    return found


def _fresh(
    judged: ScoredExchange, known: _KnownScores, scorers: Mapping[str, ConfiguredScorer], added: AddedScores
) -> ScoredExchange:
    """Exchanges without the results that are settled in the store. Counts both kinds."""
    e, kept = judged.exchange, list[ScoreResult]()
    place = (e.alias, model_of(e), e.arm or "", e.stratum)
    there = known.get(e.id)
    for r in judged.results:
        before = None if there is None else there.get(score_id_of(e.id, r.scorer, r.version, r.config_hash))
        cell = cell_of(r.scorer, scorers[r.scorer], place)
        if there is None or (before is not None and before.status in SETTLED):
            added.present[cell] += 1
        else:
            added.new[cell] += 1
            kept.append(r)
    return replace(judged, results=kept)


def _forget_failed(
    connection: Connection, fresh: Sequence[ScoredExchange], known: _KnownScores, sums: ScoreSums
) -> None:
    """Deletes the failed results that these replace, and takes them out of the sums. Their costs stay."""
    ids = ScoreIds()
    for each in fresh:
        e = each.exchange
        place = (e.alias, model_of(e), e.arm or "", e.stratum)
        for r, score_id in zip(each.results, ids.of(each), strict=True):
            before = known[e.id].get(score_id)
            if before is not None:
                s = scores.c
                connection.execute(delete(scores).where(s.exchange_id == e.id, s.score_id == score_id))
            if before is not None and e.role != IMPORTED:
                delta = sums.by_cell[*r[:3], *place]
                setattr(delta, before.status, getattr(delta, before.status) - 1)
                delta.inverse_pi -= 1.0 / before.pi


def complete_population(connection: Connection, cells: Iterable[Cell]) -> None:
    """Gives cells that lack no score the rest of their population: also those of which the scorer drew nothing."""
    cells = list(cells)
    _add_population(connection, AddedScores(new=Counter(dict.fromkeys(cells, 1))), {})


def _add_population(connection: Connection, added: AddedScores, remaining: Mapping[Cell, int]) -> None:
    counted = ledger.population(connection, {cell[3] for cell in added.new})
    rows = []
    for cell, new in sorted(added.new.items()):
        here = and_(*(score_cells.c[name] == value for name, value in zip(CELL, cell, strict=True)))
        held = connection.execute(select(score_cells.c.population).where(here).with_for_update()).scalar() or 0
        lacking = counted.get(cell[3:], 0) - held
        left = remaining.get(cell, 0) - added.present[cell]
        part = lacking if new >= left else lacking * new // left
        if part > 0:
            rows.append((cell, part))
    score_sums.add_to_population(connection, rows)
