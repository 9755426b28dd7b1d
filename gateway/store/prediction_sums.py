"""Sums over the exchanges whose judge was drawn by a learned model, updated in the transaction that stores them.

Of each exchange of a cell, with δ: the judge was drawn; ξ: it was drawn and answered (scored or not applicable);
a: it applied; h: its value in [0, 1], 1 best; π: the probability of the draw; g: the prediction, 0 without a model:

    B = ξ a h / π    D = ξ a / π    E1 = 1 − δ / π    E2 = g (1 − δ / π)

s_b … s_e2 are their sums, s_bb … s_e2e2 the sums of their products. E1 and E2 have mean 0 given everything that was
known before the draw, whatever the model is and however often the judge fails. n counts every exchange; failed those
that were drawn and have no answer (B = D = 0), and s_failed the sum of their 1 / π.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from gateway.core.score import ConfiguredScorer, ScoreResult, unit_value
from gateway.store.predictions import Prediction
from gateway.store.rows import ScoredExchange, model_of
from gateway.store.score_sums import OPEN, CellDelta, add_to, bucket_bounds, bucket_of, cell_values, lock
from gateway.store.tables import CELL, PREDICTION_SUMS, prediction_sums, score_buckets, score_cells

ANSWERED = ("scored", "not_applicable")
_MORE = ("more_scored", "more_answered", "more_total", *OPEN)


class PredictionTerms(NamedTuple):
    """Summands of one exchange."""

    b: float
    d: float
    e1: float
    e2: float
    failed: float
    """1 / π where the judge was drawn and did not answer, else 0."""


def terms_of(of: Prediction, result: ScoreResult | None, scorer: ConfiguredScorer) -> PredictionTerms:
    """The summands of an exchange. result: None if it was not drawn, or if an internal error lost the judge's
    result.
    """
    g = of.predicted or 0.0
    if not of.judged:
        return PredictionTerms(0.0, 0.0, 1.0, g, 0.0)
    weight = 1.0 / of.pi
    e1 = 1.0 - weight
    e2 = g * e1
    if result is None or result.status not in ANSWERED:
        return PredictionTerms(0.0, 0.0, e1, e2, weight)
    value = None if result.score is None else unit_value(float(result.score.value), scorer.scorer)
    return PredictionTerms(0.0 if value is None else weight * value, 0.0 if value is None else weight, e1, e2, 0.0)


@dataclass(slots=True)
class _Cell:
    """Sums that a batch adds to a cell. Most exchanges are not drawn: of these, g alone is kept."""

    key: dict[str, str]
    scorer: ConfiguredScorer
    not_drawn: list[float] = field(default_factory=list)
    drawn: list[PredictionTerms] = field(default_factory=list)
    answers: list[tuple[float, ScoreResult]] = field(default_factory=list)
    """1 / π − 1, and the judge's result."""

    def add_drawn(self, of: Prediction, results: Iterable[ScoreResult]) -> None:
        result = next((r for r in results if r.scorer == of.scorer), None)
        self.drawn.append(terms_of(of, result, self.scorer))
        if result is not None and result.status in ANSWERED:
            self.answers.append((1.0 / of.pi - 1.0, result))


def add_predictions(
    connection: Connection, judged: Iterable[ScoredExchange], scorers: Mapping[str, ConfiguredScorer]
) -> None:
    """Adds these exchanges, none of which is stored yet. Those whose prediction guides no scorer add nothing."""
    cells: dict[tuple[str | None, ...], _Cell] = {}
    for j in judged:
        of, e = j.prediction, j.exchange
        if of is None or of.scorer not in scorers or of.pi <= 0:  # 0: the scorer's share, in an experiment
            continue
        target = e.target
        place = of.scorer, e.alias, target.upstream, target.model, target.variant, e.arm, e.stratum
        cell = cells.get(place)
        if cell is None:
            scorer = scorers[of.scorer]
            of_scorer = of.scorer, scorer.scorer.version, scorer.config_hash
            key = *of_scorer, e.alias, model_of(e), e.arm or "", e.stratum
            cell = cells[place] = _Cell(dict(zip(CELL, key, strict=True)), scorer)
        if of.judged:
            cell.add_drawn(of, j.results)
        else:
            cell.not_drawn.append(of.predicted or 0.0)
    if cells:
        lock(connection)
    _add_weights(connection, cells.values())
    rows = [{**cell.key, **_sums(cell)} for cell in cells.values()]
    add_to(connection, prediction_sums, rows, ("n", "failed", *PREDICTION_SUMS))


def _add_weights(connection: Connection, of: Iterable[_Cell]) -> None:
    """Adds to the sums of scores the weight of each answer beyond 1, for their closed weights."""
    cells, buckets = [], []
    for cell in of:
        if not cell.answers:
            continue
        bounds = bucket_bounds(*cell.scorer.scorer.bounds)
        by_bucket: dict[int, float] = {}
        more = dict.fromkeys(_MORE, 0.0)
        for weight, result in cell.answers:
            more["more_answered"] += weight
            if result.score is not None:
                value = float(result.score.value)
                more["more_scored"] += weight
                more["more_total"] += weight * value
                squared = weight * (weight + 2.0)  # 1 / π² − 1
                for name, term in zip(OPEN, (1.0, value, value * value), strict=True):
                    more[name] += squared * term
                bucket = bucket_of(value, bounds)
                by_bucket[bucket] = by_bucket.get(bucket, 0.0) + weight
        cells.append({**cell.key, **cell_values(CellDelta()), **more})
        buckets += [{**cell.key, "bucket": bucket, "more": weight} for bucket, weight in by_bucket.items()]
    add_to(connection, score_cells, cells, _MORE)
    add_to(connection, score_buckets, buckets, ("more",))


def _sums(cell: _Cell) -> dict[str, float]:
    """The columns of PREDICTION_SUMS, n and failed."""
    drawn: NDArray[np.float64] = np.array(cell.drawn, dtype=np.float64).reshape(-1, 5)
    parts = np.zeros((len(cell.not_drawn) + len(drawn), 4))
    parts[: len(cell.not_drawn), 2] = 1.0  # as terms_of
    parts[: len(cell.not_drawn), 3] = cell.not_drawn
    parts[len(cell.not_drawn) :] = drawn[:, :4]
    failed = drawn[:, 4]
    products = (parts.T @ parts)[np.triu_indices(4)]
    values = [float(failed.sum()), *parts.sum(axis=0).tolist(), *products.tolist()]
    return {
        "n": len(parts),
        "failed": int(np.count_nonzero(failed)),
        **dict(zip(PREDICTION_SUMS, values, strict=True)),
    }
