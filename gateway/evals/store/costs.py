"""What scorers have cost: sums that only grow, whatever becomes of the scores they were spent on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from gateway.core.score import ScoreResult
from gateway.evals.store.engine import insert
from gateway.evals.store.tables_labels import score_costs


@dataclass(frozen=True, slots=True)
class ScorerCost:
    usd: float = 0.0
    tokens: int = 0


def of_results(results: Iterable[ScoreResult]) -> list[tuple[str, ScorerCost]]:
    """What these cost, where they cost anything."""
    paid = [(r.scorer, r.spent) for r in results if r.spent is not None]
    return [(name, ScorerCost(s.cost_usd or 0.0, s.tokens or 0)) for name, s in paid if s.cost_usd or s.tokens]


def of_pairs(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, ScorerCost]]:
    """The same of rows of `pair_scores`, by column."""
    paid = ((r["scorer"], r.get("cost_usd"), r.get("tokens")) for r in rows)
    return [(scorer, ScorerCost(usd or 0.0, tokens or 0)) for scorer, usd, tokens in paid if usd or tokens]


def add(connection: Connection, spent: Iterable[tuple[str, ScorerCost]]) -> None:
    """Adds to the sums, by scorer."""
    sums: dict[str, ScorerCost] = {}
    for scorer, cost in spent:
        so_far = sums.get(scorer, ScorerCost())
        sums[scorer] = ScorerCost(so_far.usd + cost.usd, so_far.tokens + cost.tokens)
    statement = insert(connection.dialect, score_costs)
    more = {name: score_costs.c[name] + statement.excluded[name] for name in ("usd", "tokens")}
    for scorer, cost in sorted(sums.items()):
        values = {"scorer": scorer, "usd": cost.usd, "tokens": cost.tokens}
        connection.execute(statement.on_conflict_do_update(index_elements=["scorer"], set_=more), values)


def costs(connection: Connection) -> Mapping[str, ScorerCost]:
    """By scorer."""
    return {row.scorer: ScorerCost(row.usd, row.tokens) for row in connection.execute(select(score_costs))}
