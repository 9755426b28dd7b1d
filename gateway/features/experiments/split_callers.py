"""The answers of a split, so that no caller has more than its share of the failures that are compared. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gateway.core.plan import CONTROL
from gateway.core.randomization import draw
from gateway.features.experiments.callers import may_be_left_out, thinned
from gateway.features.experiments.rows.queries import ServedAnswer
from gateway.statistics.domains import Floats


def thinned_values(rows: Sequence[ServedAnswer], values: Floats) -> Floats:
    """The values, NaN for units that are left out so that no caller has more than callers.CAP of the units.

    values: shape (n,), of these n rows; NaN: none. Which units of a caller stay is drawn by the id of their first
    answer, which the gateway makes, so that no caller can choose.
    """
    first: dict[str, dict[str, str]] = {}  # caller → unit → the id of its first answer
    for row, value in zip(rows, values.tolist(), strict=True):
        if value == value:
            first.setdefault(row.caller, {}).setdefault(row.unit, row.id)
    callers = sorted(first)
    weights = thinned([len(first[caller]) for caller in callers])
    if min(weights, default=1.0) == 1.0:
        return values
    stay = {
        (caller, unit)
        for caller, weight in zip(callers, weights, strict=True)
        for unit, answer in first[caller].items()
        if weight == 1.0 or draw("thinned", answer) < weight
    }
    out = [(row.caller, row.unit) not in stay for row in rows]
    return np.where(out, np.nan, values)


def without(rows: Sequence[ServedAnswer], values: Floats, caller: str) -> Floats:
    """The values without those of this caller."""
    return np.where([row.caller == caller for row in rows], np.nan, values)


def outstanding(rows: Sequence[ServedAnswer], values: Floats, sign: float) -> str | None:
    """The caller without whom sign · (candidate − control) is smallest; None: nobody may be left out."""
    known = ~np.isnan(values)
    names, of = np.unique([row.caller for row in rows], return_inverse=True)
    candidate = np.array([row.arm != CONTROL for row in rows])
    means = []
    for arm in (candidate, ~candidate):
        here = known & arm
        n = np.bincount(of[here], minlength=names.size)
        total = np.bincount(of[here], weights=values[here], minlength=names.size)
        means.append((total.sum() - total) / np.maximum(n.sum() - n, 1))
    less = sign * (means[0] - means[1])
    others = may_be_left_out({name: int(n) for name, n in zip(names.tolist(), np.bincount(of).tolist(), strict=True)})
    at = [i for i, name in enumerate(names.tolist()) if name in set(others)]
    return str(names[min(at, key=lambda i: less[i])]) if at else None
