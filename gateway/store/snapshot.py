"""The sums of the store at one moment, for the gauges. Only reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import Connection, RowMapping, select

from gateway.statistics.control_variate import StageSums
from gateway.store import loss_accounting
from gateway.store.predictions import cards
from gateway.store.score_sums import BUCKET_COUNT, ScorerCost, scorer_costs
from gateway.store.tables import CELL, PREDICTION_TERMS, counters, prediction_sums, score_buckets, score_cells

_PLAIN_SUMS = ("total", "squares", "inverse_pi", "population", "weighted_sum", "weight")
_UNIT_SUMS = ("sizes", "products", "squares")


@dataclass(frozen=True, slots=True)
class CellKey:
    """The scores that are summed together."""

    scorer: str
    version: str
    config_hash: str
    alias: str
    model: str
    """Target as "upstream/model"."""
    arm: str
    """Arm of the experiment; "": none."""
    stratum: str

    @property
    def identity(self) -> tuple[str, str, str]:
        """The scorer, its version and its config hash."""
        return self.scorer, self.version, self.config_hash


@dataclass(frozen=True, slots=True)
class ScoreCell:
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
    """Sums over units of n², n t and t²; None means that every exchange is a unit."""
    closed_units: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Sums as in `units` over closed scores, times the squared weights."""


@dataclass(frozen=True, slots=True)
class StoreSnapshot:
    """The figures that the gauges show. dead_letters, lost: by reason. costs: by scorer."""

    cells: tuple[ScoreCell, ...]
    dead_letters: Mapping[str, int]
    duplicates: int
    unaccounted: int
    costs: Mapping[str, ScorerCost] = field(default_factory=dict)
    lost: Mapping[str, int] = field(default_factory=dict)
    guided: Mapping[CellKey, StageSums] = field(default_factory=dict)
    """Sums of scorers whose sampling a predictor guides, in [0, 1], 1 best; see guided_sums."""
    cards: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Card of the newest model by target."""


def take_snapshot(connection: Connection) -> StoreSnapshot:
    duplicates = select(counters.c.n).where(counters.c.name == "duplicates")
    cells = _cells(connection)
    return StoreSnapshot(
        cells=cells,
        dead_letters=loss_accounting.dead_letters_by_reason(connection),
        duplicates=connection.execute(duplicates).scalar() or 0,
        unaccounted=loss_accounting.unaccounted(connection),
        costs=scorer_costs(connection),
        lost=loss_accounting.lost_by_reason(connection),
        guided=guided_sums(connection, {cell.key: cell.population for cell in cells}),
        cards=cards(connection),
    )


def guided_sums(connection: Connection, populations: Mapping[CellKey, int]) -> dict[CellKey, StageSums]:
    """The sums over the exchanges whose judge was drawn by a predictor, with N_h. populations: of the cells."""
    found = {}
    for row in connection.execute(select(prediction_sums)).mappings():
        key = CellKey(**{name: row[name] for name in CELL})
        found[key] = stage_sums(row, float(populations.get(key, 0)))
    return found


def stage_sums(row: RowMapping | Mapping[str, Any], population: float) -> StageSums:
    products = np.zeros((4, 4))
    for i, first in enumerate(PREDICTION_TERMS):
        for j, second in enumerate(PREDICTION_TERMS[i:], i):
            products[i, j] = products[j, i] = row[f"s_{first}{second}"]
    sums = np.array([row[f"s_{name}"] for name in PREDICTION_TERMS], dtype=np.float64)
    name = f"{row['alias']} {row['model']} {row['stratum']}"
    return StageSums(name, row["n"], sums, products, population, max(0.0, row["s_failed"]))


def _cells(connection: Connection) -> tuple[ScoreCell, ...]:
    weights: dict[CellKey, list[float]] = {}
    for row in connection.execute(select(score_buckets)).mappings():
        key = CellKey(**{name: row[name] for name in CELL})
        weights.setdefault(key, [0.0] * BUCKET_COUNT)[row["bucket"]] = row["weight"]
    found = []
    for row in connection.execute(select(score_cells)).mappings():
        key = CellKey(**{name: row[name] for name in CELL})
        n = {column.removeprefix("n_"): row[column] for column in row if column.startswith("n_")}
        sums = {name: row[name] for name in _PLAIN_SUMS}
        units, closed = (tuple(row[f"{of}_{name}"] for name in _UNIT_SUMS) for of in ("unit", "closed"))
        buckets = tuple(weights.get(key, (0.0,) * BUCKET_COUNT))
        found.append(ScoreCell(key, n, **sums, bucket_weights=buckets, units=units, closed_units=closed))
    return tuple(found)
