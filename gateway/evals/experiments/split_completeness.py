"""Answers of a split to which its primary does not apply, as a comparison of both arms and at worst. Pure.

A scorer that does not apply to the candidate's bad answers leaves only its good ones to compare. The arms answer
different requests here, so a request to which the scorer never applies is missing on either arm as often but for
chance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.core.plan import CONTROL
from gateway.evals.experiments.completeness import SplitMissing
from gateway.evals.experiments.report import Comparison, Estimate
from gateway.evals.statistics.domains import Floats
from gateway.evals.store.experiments.queries import ServedAnswer

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
    rows: Sequence[ServedAnswer], primary: PrimaryValues, compare: Compare
) -> tuple[SplitMissing, Estimate] | None:
    """What is missing by arm, and the difference with that counted as the worst for the candidate.

    None: nothing is missing, or nothing of one arm can be compared.
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
    return SplitMissing(a, b, share, shares.difference), worst.difference
