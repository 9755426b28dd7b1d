"""The mean of a scorer whose sampling a predictor guides, from the sums of the store.

The plain mean of the judged answers is biased, since the predictor prefers answers that it cannot predict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, select

from gateway.core.score import Bounds, Direction
from gateway.statistics.control_variate import ControlledEstimate, StageSums, controlled_mean
from gateway.statistics.sampled_mean import WeightedEstimate
from gateway.store.predictions import cards
from gateway.store.snapshot import CellKey, ScoreCell, guided_sums
from gateway.store.tables import CELL, score_cells

TARGET_LABELS = "labels:"


def target_names(scorer: str) -> tuple[str, str]:
    """The targets under which a predictor guides this scorer."""
    return scorer, TARGET_LABELS + scorer


def harmful(card: Mapping[str, Any]) -> bool:
    """Tells whether a model is shown to cost precision, by its card: its predictions are then not used, and every
    exchange has the mean π."""
    low = card.get("variance_ratio_low")
    return low is not None and low > 1.0


def recorded_mean(connection: Connection, of: tuple[str, str, str]) -> ControlledEstimate | None:
    """The mean over every exchange that a predictor drew for this scorer, in [0, 1], 1 best. None if there is none.

    of: (scorer, version, config hash).
    """
    c = score_cells.c
    here = (c.scorer == of[0], c.version == of[1], c.config_hash == of[2])
    rows = connection.execute(select(*(c[name] for name in CELL), c.population).where(*here))
    populations = {CellKey(*row[:-1]): int(row[-1]) for row in rows}
    strata = [s for key, s in guided_sums(connection, populations).items() if key.identity == of]
    cards_here = [card for target, card in cards(connection).items() if target in target_names(of[0])]
    return controlled_mean(strata, controlled=not any(map(harmful, cards_here))) if strata else None


def guided_mean(
    cells: Iterable[ScoreCell],
    guided: Mapping[CellKey, StageSums],
    bounds: Bounds,
    direction: Direction,
    *,
    controlled: bool = True,
) -> WeightedEstimate | None:
    """The mean on the scorer's own scale, with an interval that is valid at any time. None if no predictor guides
    these.

    cells: of one version of the scorer, which has two finite bounds. controlled=False: the predictions are not used.
    A cell without predictions, from before the predictor, keeps its plain sums.
    """
    cells = list(cells)
    found, (low, high) = guided_unit_mean(cells, guided, bounds, direction, controlled=controlled), bounds
    if found is None or low is None or high is None:
        return None
    return _on_scale(found, cells, low, high, inverted=direction == "minimise")


def guided_unit_mean(
    cells: Sequence[ScoreCell],
    guided: Mapping[CellKey, StageSums],
    bounds: Bounds,
    direction: Direction,
    *,
    controlled: bool = True,
) -> ControlledEstimate | None:
    """The mean in [0, 1], 1 best; see guided_mean."""
    low, high = bounds
    if low is None or high is None or not any(cell.key in guided for cell in cells):
        return None
    inverted = direction == "minimise"
    strata = [guided.get(cell.key) or _plain(cell, low, high, inverted=inverted) for cell in cells]
    return controlled_mean(strata, controlled=controlled)


def unit_sums(cell: ScoreCell, low: float, high: float, *, inverted: bool) -> tuple[float, float]:
    """The sum of the values mapped to [0, 1], and that of their squares. inverted: the sums of 1 - x."""
    n, width = cell.n["scored"], high - low
    total = (cell.total - n * low) / width
    squares = (cell.squares - 2 * low * cell.total + n * low * low) / width**2
    return (n - total, n - 2 * total + squares) if inverted else (total, squares)


def _plain(cell: ScoreCell, low: float, high: float, *, inverted: bool) -> StageSums:
    """A cell in which every sample was judged with the same probability."""
    n = float(cell.n["scored"])
    total, squares = unit_sums(cell, low, high, inverted=inverted)
    failed = float(cell.n["error"] + cell.n["timeout"] + cell.n["budget"])
    sums, products = np.zeros(4), np.zeros((4, 4))
    sums[:2] = total, n
    products[:2, :2] = [[squares, total], [total, n]]
    key = cell.key
    population = float(cell.population) or cell.inverse_pi
    return StageSums(f"{key.alias} {key.model} {key.stratum}", sum(cell.n.values()), sums, products, population, failed)


def _on_scale(
    found: ControlledEstimate, cells: Iterable[ScoreCell], low: float, high: float, *, inverted: bool
) -> WeightedEstimate:
    def place(x: float) -> float:
        return high - (high - low) * x if inverted else low + (high - low) * x

    ends = sorted((place(found.low), place(found.high)))
    return WeightedEstimate(
        mean=None if found.mean is None else place(found.mean),
        low=ends[0],
        high=ends[1],
        n=sum(cell.n["scored"] for cell in cells),
        not_applicable=sum(cell.n["not_applicable"] for cell in cells),
        effective_n=found.effective_n,
        nonresponse=found.nonresponse,
        missing=found.missing,
    )
