"""The difference of a split's primary by day (UTC), and whether it moves from day to day. Pure.

Within a day, the arms are compared as over all days: weighted means, with the variance of units. A unit with calls on
several days stays on its arm, so that what is special about it is in all of them: that makes the days alike, and the
test of the slope more careful than its alpha. Nothing is adjusted by what was known before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gateway.features.experiments.covariates import ArmTerms, arm_terms
from gateway.features.experiments.split_rows import SplitRows
from gateway.features.experiments.traffic_time import DAY_S, FEWEST_A_DAY, DayMean, Slope, slope_of
from gateway.reports.model import DayDifference
from gateway.statistics.domains import Floats


@dataclass(frozen=True, slots=True)
class SplitDays:
    """What the days of a split differ by."""

    days: tuple[DayDifference, ...] = ()
    """Days on which both arms have a value; `pairs` are units."""
    slope: Slope | None = None
    """None: fewer than three days have 20 units on both arms."""


def split_days(rows: SplitRows, values: Floats, weights: Floats, sign: float) -> SplitDays:
    """values: shape (n,), of the primary; NaN: none. weights: shape (n,). sign: −1 where less is better."""
    known = ~np.isnan(values)
    received = np.array([row.received for row in rows], dtype=np.float64)
    day_of = np.floor_divide(received, DAY_S)
    shown, tested = [], []
    for day in np.unique(day_of[known]).astype(int).tolist():
        arms = _arms(rows, np.where(day_of == day, values, np.nan), weights)
        if arms is None:
            continue
        a, b = arms
        difference = sign * (b.mean - a.mean)
        shown.append(DayDifference(day, a.units + b.units, difference))
        if min(a.units, b.units) >= FEWEST_A_DAY:
            tested.append(DayMean(day, difference, float((a.terms**2).sum() + (b.terms**2).sum())))
    return SplitDays(tuple(shown), slope_of(tested))


def _arms(rows: SplitRows, values: Floats, weights: Floats) -> tuple[ArmTerms, ArmTerms] | None:
    """(control, candidate); None: one of them has no value."""
    if any(np.isnan(values[arm.at]).all() for arm in rows.arms):
        return None
    a, b = (arm_terms(values[arm.at], weights[arm.at], arm.unit, len(arm.names)) for arm in rows.arms)
    return a, b
