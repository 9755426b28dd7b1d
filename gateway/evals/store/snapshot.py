"""The sums of the store at one moment, for the gauges. Only reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, func, select

from gateway.evals.store import loss_accounting
from gateway.evals.store.score_sums import BUCKET_COUNT, ScorerCost, scorer_costs
from gateway.evals.store.tables import CELL, counters, dead_letters, score_buckets, score_cells


@dataclass(frozen=True, slots=True)
class CellKey:
    """The scores that are summed together."""

    scorer: str
    version: str
    config_hash: str
    alias: str
    model: str
    """"upstream/model"."""
    arm: str
    """"" for none."""
    stratum: str


@dataclass(frozen=True, slots=True)
class ScoreCell:
    """A row of `score_cells`."""

    key: CellKey
    n: Mapping[str, int]  # by status
    total: float
    squares: float
    inverse_pi: float
    population: int
    weighted_sum: float
    weight: float
    bucket_weights: tuple[float, ...] = field(default=(0.0,) * BUCKET_COUNT)
    """Closed weights by bucket, not cumulative."""
    units: tuple[float, float, float] | None = None
    """Sums over units of n², n t and t²; None: every exchange is a unit."""


@dataclass(frozen=True, slots=True)
class StoreSnapshot:
    """Everything that the gauges show. dead_letters, lost: by reason. costs: by scorer."""

    cells: tuple[ScoreCell, ...]
    dead_letters: Mapping[str, int]
    duplicates: int
    unaccounted: int
    costs: Mapping[str, ScorerCost] = field(default_factory=dict)
    lost: Mapping[str, int] = field(default_factory=dict)


def take_snapshot(connection: Connection) -> StoreSnapshot:
    letters = select(dead_letters.c.reason, func.count()).group_by(dead_letters.c.reason)
    duplicates = select(counters.c.n).where(counters.c.name == "duplicates")
    return StoreSnapshot(
        cells=_cells(connection),
        dead_letters={reason: n for reason, n in connection.execute(letters)},
        duplicates=connection.execute(duplicates).scalar() or 0,
        unaccounted=loss_accounting.unaccounted(connection),
        costs=scorer_costs(connection),
        lost=loss_accounting.lost_by_reason(connection),
    )


def _cells(connection: Connection) -> tuple[ScoreCell, ...]:
    weights: dict[CellKey, list[float]] = {}
    for row in connection.execute(select(score_buckets)).mappings():
        key = CellKey(**{name: row[name] for name in CELL})
        weights.setdefault(key, [0.0] * BUCKET_COUNT)[row["bucket"]] = row["weight"]
    found = []
    for row in connection.execute(select(score_cells)).mappings():
        key = CellKey(**{name: row[name] for name in CELL})
        n = {column.removeprefix("n_"): row[column] for column in row if column.startswith("n_")}
        found.append(
            ScoreCell(
                key, n, row["total"], row["squares"], row["inverse_pi"], row["population"], row["weighted_sum"],
                row["weight"], tuple(weights.get(key, (0.0,) * BUCKET_COUNT)),
                (row["unit_sizes"], row["unit_products"], row["unit_squares"]),
            )
        )  # fmt: skip
    return tuple(found)
