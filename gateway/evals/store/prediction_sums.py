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
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from gateway.core.score import ConfiguredScorer, ScoreResult, unit_value
from gateway.evals.store.predictions import Prediction
from gateway.evals.store.rows import ScoredExchange, model_of
from gateway.evals.store.score_sums import CellDelta, add_to, bucket_bounds, bucket_of, cell_values
from gateway.evals.store.tables import CELL, PREDICTION_SUMS, prediction_sums, score_buckets, score_cells

ANSWERED = ("scored", "not_applicable")
_MORE = ("more_scored", "more_answered", "more_total")


class PredictionTerms(NamedTuple):
    """What one exchange adds."""

    b: float
    d: float
    e1: float
    e2: float
    failed: float
    """1 / π where the judge was drawn and did not answer, else 0."""


def terms_of(of: Prediction, result: ScoreResult | None, scorer: ConfiguredScorer) -> PredictionTerms:
    """result: the judge's; None: it has none, since it was not drawn, or an error of ours lost it."""
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


def add_predictions(
    connection: Connection, judged: Iterable[ScoredExchange], scorers: Mapping[str, ConfiguredScorer]
) -> None:
    """Adds these exchanges, none of which is stored yet. Those whose prediction guides no scorer add nothing."""
    by_cell: dict[tuple[str, ...], list[PredictionTerms]] = {}
    weights: dict[tuple[str, ...], list[tuple[float, ScoreResult]]] = {}
    for j in judged:
        prediction = j.prediction
        scorer = None if prediction is None else scorers.get(prediction.scorer)
        if prediction is None or scorer is None or prediction.pi <= 0:  # 0: the scorer's share, in an experiment
            continue
        e = j.exchange
        result = next((r for r in j.results if r.scorer == prediction.scorer), None)
        cell = (prediction.scorer, scorer.scorer.version, scorer.config_hash, e.alias, model_of(e), e.arm or "")
        by_cell.setdefault((*cell, e.stratum), []).append(terms_of(prediction, result, scorer))
        if result is not None and result.status in ANSWERED:
            weights.setdefault((*cell, e.stratum), []).append((1.0 / prediction.pi - 1.0, result))
    _add_weights(connection, weights, scorers)
    rows = [{**dict(zip(CELL, cell, strict=True)), **_sums(terms)} for cell, terms in by_cell.items()]
    add_to(connection, prediction_sums, rows, CELL, ("n", "failed", *PREDICTION_SUMS))


def _add_weights(
    connection: Connection,
    weights: Mapping[tuple[str, ...], list[tuple[float, ScoreResult]]],
    scorers: Mapping[str, ConfiguredScorer],
) -> None:
    """Adds to the sums of scores what each answer stands for beyond itself, for their closed weights.

    weights: cell → (1 / π − 1, result).
    """
    cells, buckets = [], []
    for cell, answers in weights.items():
        key, bounds = dict(zip(CELL, cell, strict=True)), bucket_bounds(*scorers[cell[0]].scorer.bounds)
        by_bucket: dict[int, float] = {}
        more = dict.fromkeys(_MORE, 0.0)
        for weight, result in answers:
            more["more_answered"] += weight
            if result.score is not None:
                value = float(result.score.value)
                more["more_scored"] += weight
                more["more_total"] += weight * value
                bucket = bucket_of(value, bounds)
                by_bucket[bucket] = by_bucket.get(bucket, 0.0) + weight
        cells.append({**key, **cell_values(CellDelta()), **more})
        buckets += [{**key, "bucket": bucket, "more": weight} for bucket, weight in by_bucket.items()]
    add_to(connection, score_cells, cells, CELL, _MORE)
    add_to(connection, score_buckets, buckets, (*CELL, "bucket"), ("more",))


def _sums(terms: list[PredictionTerms]) -> dict[str, float]:
    """The columns of PREDICTION_SUMS, n and failed."""
    columns: NDArray[np.float64] = np.array(terms, dtype=np.float64)
    parts, failed = columns[:, :4], columns[:, 4]
    products = (parts.T @ parts)[np.triu_indices(4)]
    values = [float(failed.sum()), *parts.sum(axis=0).tolist(), *products.tolist()]
    return {
        "n": len(terms),
        "failed": int(np.count_nonzero(failed)),
        **dict(zip(PREDICTION_SUMS, values, strict=True)),
    }
