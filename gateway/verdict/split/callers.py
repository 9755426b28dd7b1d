"""Limits on the weight of a single caller: thinning, and findings that no single caller can make or hide. Pure.

A caller is a key, or a token's subject; never a header, which a caller can make up. A caller can also make up any
number of units (conversations), and it may know which arm answers it. From CAPPED_FROM callers on, its units are
therefore thinned to CAP of the total weight, and a candidate is called worse, or not worse, only if that also holds
without any one caller. A caller with HALF of the calls or more is not a single caller among many: its calls are the
traffic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gateway.core.plan import CONTROL
from gateway.core.randomization import draw
from gateway.core.served_answer import ServedAnswer
from gateway.statistics.domains import Floats

CAP = 0.2
"""The largest share of the total weight that the units of one caller have."""
CAPPED_FROM = 5
"""Callers from which on units are thinned. With fewer, no thinning leaves each of them CAP at most."""
LEFT = 0.25
"""The share of the units that thinning leaves at least; it is left out where the others are too few for that."""
HALF = 0.5
"""The share of the calls from which on a caller's calls alone may show something."""


def thinned(units: Sequence[float]) -> list[float]:
    """The weight of each caller's units, in [0, 1], equal in both arms. units: of each caller, in both arms.

    All ones with fewer than CAPPED_FROM callers that have units, and where less than LEFT of the units would be left.
    """
    some = [n for n in units if n > 0]
    if len(some) < CAPPED_FROM:
        return [1.0] * len(units)
    most = _largest(sorted(some))
    left = sum(min(n, most) for n in some)
    if left < LEFT * sum(some):
        return [1.0] * len(units)
    return [min(1.0, most / n) if n > 0 else 1.0 for n in units]


def _largest(ascending: Sequence[float]) -> float:
    """The units that one caller may have: CAP of the sum of everybody's after that.

    The k largest callers are cut to CAP · (the sum of the others) / (1 - k · CAP), with the smallest k that leaves
    nobody else above that.
    """
    n, total = len(ascending), sum(ascending)
    for k in range(CAPPED_FROM):
        total -= ascending[n - k] if k else 0.0
        most = CAP * total / (1.0 - k * CAP)
        if ascending[n - k - 1] <= most:
            return most
    return ascending[n - CAPPED_FROM]


def may_be_left_out(calls: Mapping[str, int]) -> list[str]:
    """The callers without whom a finding must hold as well: those with less than HALF of the calls."""
    total = sum(calls.values())
    return [caller for caller, n in calls.items() if n < HALF * total]


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


def decisive_caller(rows: Sequence[ServedAnswer], values: Floats, sign: float) -> str | None:
    """The caller without whom sign · (candidate − control) is smallest; None means that nobody may be left out."""
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
