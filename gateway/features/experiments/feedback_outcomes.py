"""People's feedback as the metric of a split: one value for each answer, once the time in which it counts is over.

An answer counts when its window has closed: with the mean of what was given within the window, or as nonresponse.
Feedback that comes later changes nothing, so an answer's value is final and looking often remains valid. An answer
whose window is open counts neither way. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.core.plan import DEFAULT_WINDOW_S, Missing, Plan
from gateway.features.experiments.rows.feedback_given import GivenFeedback
from gateway.features.experiments.rows.queries import ServedAnswer
from gateway.statistics.domains import Floats

FENCE = 10.0
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class FeedbackTerms:
    """When feedback counts, and what an answer without it is."""

    window_s: float
    missing: Missing
    now: float
    """Unix seconds."""
    winsorised: bool = False
    """Values far outside those of the others count as the fence that they are beyond."""


def terms_of(plan: Plan, now: float) -> FeedbackTerms:
    window_s = plan.feedback_window_s or DEFAULT_WINDOW_S
    return FeedbackTerms(window_s, plan.feedback_missing, now, winsorised=plan.rules >= 2)


@dataclass(frozen=True, slots=True)
class FeedbackValues:
    """One kind of feedback on n answers."""

    values: Floats
    """Shape (n,). NaN: the answer has none, or its window is open."""
    closed: Flags
    """Shape (n,): the window has closed."""
    answered: Flags
    """Shape (n,): it has closed, and there was feedback in time."""
    fenced: int = 0
    """Values that were beyond a fence."""

    @property
    def bounded(self) -> bool:
        """Every value is in [0, 1], as those of thumbs."""
        known = self.values[~np.isnan(self.values)]
        return bool(known.size == 0 or (known.min() >= 0.0 and known.max() <= 1.0))


def feedback_values(rows: Sequence[ServedAnswer], given: GivenFeedback, terms: FeedbackTerms) -> FeedbackValues:
    """The value of each answer: the mean over the people who gave feedback in time."""
    closed = np.array([row.received + terms.window_s <= terms.now for row in rows], dtype=np.bool_)
    in_time = np.array([_in_time(row, given, terms.window_s) for row in rows], dtype=np.float64)
    answered = closed & ~np.isnan(in_time)
    values, fenced = np.where(answered, in_time, np.nan), 0
    if terms.winsorised and answered.any():
        inside = _within_fences(values, answered)
        values, fenced = inside, int((inside[answered] != values[answered]).sum())
    if terms.missing == "zero":
        values = np.where(closed & ~answered, 0.0, values)
    return FeedbackValues(values, closed, answered, fenced)


def _within_fences(values: Floats, answered: Flags) -> Floats:
    """The values, with those beyond a fence moved to it, so that one vote of -1e15 does not decide.

    The fences lie FENCE times as far from the median as 98 % of the values of both arms are apart. Of log-normal
    amounts with a deviation of 1 they hold all but one in a hundred thousand.
    """
    given = values[answered]
    low, median, high = np.quantile(given, (0.01, 0.5, 0.99))
    reach = FENCE * (float(high - low) or max(abs(float(median)), 1.0))
    return np.clip(values, median - reach, median + reach)


def _in_time(row: ServedAnswer, given: GivenFeedback, window_s: float) -> float:
    values = [value for at, value in given.get(row.id, ()) if at <= row.received + window_s]
    return math.fsum(values) / len(values) if values else math.nan
