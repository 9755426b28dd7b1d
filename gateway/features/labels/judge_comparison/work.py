"""`gateway judge compare`: compares the scores of two judges with the labels of people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gateway.core.errors import CannotRun
from gateway.core.plan import REPEAT
from gateway.features.labels.correction import labelled_items
from gateway.features.labels.desk import newest_version
from gateway.features.labels.judge_comparison.model import (
    ComparisonOptions,
    JudgeComparison,
    JudgedTwice,
    JudgePrice,
    compare,
)
from gateway.features.labels.rows import ScorerVersion, labels_with_scores, mean_cost, scored_by_both
from gateway.store.query import Reading

LEAST = 2
MOST = 200_000
"""Answers that are compared: the newest."""
_Drawn = Mapping[str, tuple[float, float]]
"""Answer → (people's verdict, probability with which it came to be labelled)."""


def comparison(connection: Reading, options: ComparisonOptions) -> JudgeComparison:
    """People's labels are those under the name of the judge that has more of them: both are to answer one question.

    Raises CannotRun for one judge named twice, a judge of pairs or of nothing yet, and where too few answers have a
    score of both.
    """
    if options.first == options.second:
        raise CannotRun(f"{options.first} cannot be compared with itself: name two judges")
    first, second = newest_version(connection, options.first), newest_version(connection, options.second)
    for of in (first, second):
        if of.subject == "pair":
            raise CannotRun(f"{of.scorer} judges pairs; `judge compare` reads scores of single answers")
    drawn = {of.scorer: _labels(connection, of) for of in (first, second)}
    labels_of = max(drawn, key=lambda name: len(drawn[name]))
    rows = scored_by_both(connection, first, second, MOST)
    if len(rows) < LEAST:
        raise CannotRun(
            f"{len(rows)} answers have a score of both {first.scorer} and {second.scorer}: let both judge the same "
            "traffic for a while (a share of 1, or the same answers again with `gateway replay`)"
        )
    versions = (first.version, first.config_hash), (second.version, second.config_hash)
    prices = _price(connection, first), _price(connection, second)
    return compare(judged_twice(rows, drawn[labels_of]), options, versions, prices, labels_of)


def judged_twice(rows: Sequence[Mapping[str, Any]], drawn: _Drawn) -> JudgedTwice:
    """rows: of `scored_by_both`. Each judge draws by itself, given that the call was recorded."""
    weight = [row["pi"] / (row["first_pi"] * row["second_pi"]) for row in rows]
    labels = [drawn.get(row["id"], (math.nan, 1.0)) for row in rows]
    return JudgedTwice(
        np.array([row["first"] for row in rows], dtype=np.float64),
        np.array([row["second"] for row in rows], dtype=np.float64),
        np.array([verdict for verdict, _ in labels], dtype=np.float64),
        np.array(weight, dtype=np.float64),
        np.array([calls / pi for calls, (_, pi) in zip(weight, labels, strict=True)], dtype=np.float64),
        tuple(row["unit"] or row["id"] for row in rows),
        tuple(f"{row['alias']} → {row['target']}" for row in rows),
        _pairs(rows),
    )


def _pairs(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """A shadow names the call that it is of, which is the pair's name. Repeats of a control are in no pair."""
    shadows = [row["pair"] if row["arm"] != REPEAT else None for row in rows]
    shadowed = {pair for pair in shadows if pair}
    served = [row["id"] if row["id"] in shadowed else "" for row in rows]
    return tuple(pair or name for pair, name in zip(shadows, served, strict=True))


def _labels(connection: Reading, of: ScorerVersion) -> _Drawn:
    """Labels that nobody drew are left out."""
    items = labelled_items(of.scorer, labels_with_scores(connection, of))
    return {item.id: (item.y, item.pi) for item in items if item.pi > 0}


def _price(connection: Reading, of: ScorerVersion) -> JudgePrice:
    usd, seconds = mean_cost(connection, of)
    return JudgePrice(None if usd is None else 1_000.0 * usd, seconds)
