"""Answers of a split to which its primary does not apply, as a comparison of both arms and at worst. Pure.

A scorer that does not apply to the candidate's bad answers leaves only its good ones to compare. The arms answer
different requests here, so a request to which the scorer never applies is missing on either arm as often but for
chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.core.plan import CONTROL
from gateway.features.experiments.completeness import SplitMissing
from gateway.features.experiments.gates import NEGLIGIBLE
from gateway.features.experiments.rows.queries import ServedAnswer
from gateway.reports.model import Comparison, Estimate
from gateway.statistics.domains import Floats

Flags = NDArray[np.bool_]
Compare = Callable[[Floats, float], Comparison | None]
"""(values, sign) → their comparison, weighted as that of the primary."""


@dataclass(frozen=True, slots=True)
class PrimaryValues:
    """The primary of n answers."""

    values: Floats  # shape (n,), on [0, 1]; NaN: it does not apply, or was not asked for
    responded: Flags  # shape (n,): its scorer has looked at the answer
    failed: Flags  # shape (n,)

    @property
    def missing(self) -> Flags:
        """Answers without a value, though its scorer has looked at them."""
        return np.isnan(self.values) & self.responded & ~self.failed


def split_missing(
    rows: Sequence[ServedAnswer], primary: PrimaryValues, compare: Compare, margin: float
) -> tuple[SplitMissing, Estimate] | None:
    """What is missing by arm, and the difference with that counted as the worst for the candidate.

    None: nothing is missing, or nothing of one arm can be compared. margin: of the primary.
    """
    missing, seen = primary.missing, primary.responded & ~primary.failed
    if not missing.any():
        return None
    control = np.array([row.arm == CONTROL for row in rows])
    shares = compare(np.where(seen, missing, np.nan), -1.0)
    worst = compare(np.where(missing, control, primary.values), 1.0)
    if shares is None or worst is None:
        return None
    a, b = ((int((missing & arm).sum()), int((seen & arm).sum())) for arm in (control, ~control))
    share = (shares.a.value or 0.0) + (shares.b.value or 0.0)
    needed = [n for n in (_until_alike(shares, NEGLIGIBLE * margin), _until(worst, -margin)) if n is not None]
    return SplitMissing(a, b, share, shares.difference, min(needed, default=None)), worst.difference


def _until_alike(shares: Comparison, limit: float) -> int | None:
    """Units until the arms' shares are shown to be alike within ±limit. None: they are not, or it is not known."""
    value, low, high = shares.difference.value, shares.difference.low, shares.difference.high
    if value is None or low is None or high is None:
        return None
    return _more(shares.pairs, (high - low) / 2.0, limit - abs(value))


def _until(worst: Comparison, bound: float) -> int | None:
    """Units until the difference is shown to be above the bound. None: it is not, or that is not known."""
    value, low = worst.difference.value, worst.difference.low
    return None if value is None or low is None else _more(worst.pairs, value - low, value - bound)


def _more(units: int, half: float, gap: float) -> int | None:
    """Units until half of the interval's width is below the gap: it falls as 1 / √n. None: there is no gap."""
    if gap <= 0:
        return None
    return max(1, math.ceil(units * ((half / gap) ** 2 - 1.0)))
