"""Adjustment of a split by covariates. A covariate describes what the client sent. Pure.

Every value that an arm influences carries the arm's effect: the body as a target got it (with its model's name,
`system` and `set`), an answer, the number of a user's calls, later prompts of a conversation that contain earlier
answers. To remove such a value's share from a metric would remove the effect, too. So covariates are of a unit, from
before the first answer of its arm: the length of the first body that its client sent, and the unit's past before the
plan. They are averaged over the units of an arm, whether a metric applies to them or not, which no arm can change
either; the coefficients come from data that are centred within each arm. Randomisation then makes the expected shift 0,
and the gate `adjustment` watches whether it is.

Source: Deng, Xu, Kohavi & Walker 2013, WSDM (CUPED); for means over calls that are randomised by unit, Deng, Knoblich &
Lu 2018, KDD (delta method).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.core.plan import Plan
from gateway.core.served_answer import ServedAnswer
from gateway.reports.model import Comparison, Estimate, GateResult
from gateway.reports.number_format import with_sign
from gateway.statistics.domains import Floats

ADJUSTMENT = "adjustment"
GATE_ALPHA = 0.01  # the probability of a false alarm, over all looks and metrics that decide
_FEWEST = 10  # units of both arms for each covariate
TIMES = ("total_s", "first_token_s", "output_tokens")
History = Mapping[str, tuple[float, float]]
"""unit → (mean duration, share of failures) before the plan."""


@dataclass(frozen=True, slots=True)
class ArmTerms:
    """A weighted mean of one arm, as the terms of its units."""

    mean: float
    terms: Floats  # shape (units,): the sum of their squares is the variance of the mean
    effective_n: float
    units: int  # with a value


@dataclass(frozen=True, slots=True)
class UnitCovariates:
    """The covariates of one arm's units."""

    mean: Floats  # shape (k,)
    terms: Floats  # shape (units, k), as those of ArmTerms


@dataclass(frozen=True, slots=True)
class Adjustment:
    """The part of the difference between two arms that covariates take out."""

    shift: float  # of candidate minus control: raw minus adjusted
    a: Floats  # shape (units of the control,): what it takes out of each term
    b: Floats  # shape (units of the candidate,)


def arm_terms(values: Floats, weights: Floats, unit: Sequence[int] | NDArray[np.intp], units: int) -> ArmTerms:
    """values, weights: shape (n,) of one arm's records; NaN: the metric does not apply. unit: of each, below `units`.

    At least one value must be a number.
    """
    known = ~np.isnan(values)
    y, w, of = values[known], weights[known], np.asarray(unit)[known]
    total = float(w.sum())
    mean = float((w * y).sum()) / total
    terms = np.bincount(of, weights=w * (y - mean), minlength=units) / total
    sizes = np.bincount(of, weights=w, minlength=units)
    return ArmTerms(mean, terms, total**2 / float((sizes**2).sum()), int(np.count_nonzero(sizes)))


def covariates_of(rows: Sequence[ServedAnswer], metric: str, history: History, plan: Plan) -> dict[str, list[float]]:
    """unit → its covariates, for all units of these rows, which are in order of arrival. {} if there is none.

    A unit without a value of one has the mean of the others.
    """
    if not plan.adjusts_splits:
        return {}
    which = 0 if metric in TIMES else 1
    past = {unit: values[which] for unit, values in history.items()}
    names = dict.fromkeys(row.unit for row in rows)
    columns = [column for column in (_first_sizes(rows, plan), past) if len(set(column.values())) > 1]
    means = [float(np.mean(list(column.values()))) for column in columns]
    if not columns:
        return {}
    return {name: [column.get(name, mean) for column, mean in zip(columns, means, strict=True)] for name in names}


def _first_sizes(rows: Sequence[ServedAnswer], plan: Plan) -> dict[str, float]:
    """The logarithm of the length of the first body that each unit's client sent in this plan.

    Where only some calls are recorded, the first recorded one of a conversation may contain earlier answers.
    """
    if plan.unit != "request" and any(row.pi < 1.0 for row in rows):
        return {}
    found: dict[str, float] = {}
    seen: set[str] = set()
    for row in rows:
        if row.unit not in seen and row.client_bytes is not None:
            found[row.unit] = float(np.log1p(row.client_bytes))
        seen.add(row.unit)
    return found


def unit_covariates(of: Mapping[str, Sequence[float]], units: Sequence[str], weights: Floats) -> UnitCovariates:
    """Covariates of one arm's units. weights: one over the probability with which each unit is recorded."""
    x = np.array([of[unit] for unit in units], dtype=np.float64)
    share = weights / weights.sum()
    mean = share @ x
    return UnitCovariates(mean, share[:, None] * (x - mean))


def adjustment(a: ArmTerms, b: ArmTerms, x_a: UnitCovariates, x_b: UnitCovariates) -> Adjustment | None:
    """a, x_a: of the control. None if too few units, or nothing varies."""
    x, y = np.concatenate((x_a.terms, x_b.terms)), np.concatenate((a.terms, b.terms))
    if y.size < 2 * _FEWEST * x.shape[1] or not (np.abs(x).max(axis=0) > 1e-15).all():
        return None
    scale = np.sqrt((x**2).sum(axis=0))
    theta = np.linalg.lstsq(x / scale, y, rcond=None)[0] / scale
    return Adjustment(float(theta @ (x_b.mean - x_a.mean)), x_a.terms @ theta, x_b.terms @ theta)


def adjustment_gate(decisive: Sequence[Comparison]) -> GateResult | None:
    """Gate: do the adjusted differences agree with the measured ones, except for noise? None if nothing is adjusted.

    decisive: the primary and the guardrails. Red: a covariate differs between the arms, so an arm influenced it.
    """
    shifted = [c for c in decisive if c.shift is not None and c.raw is not None]
    if not shifted:
        return None
    for c in shifted:
        if c.shift is not None and c.raw is not None and _excludes_zero(c.shift):
            says = (
                f"{c.metric}: measured {with_sign(c.raw.value or 0.0)}, "
                f"adjusted {with_sign(c.difference.value or 0.0)}, "
                "which is further apart than chance explains: what it is adjusted for differs between the arms "
                "(adjust: false leaves that out)"
            )
            return GateResult(ADJUSTMENT, -1, says, c.shift.value)
    most = max(shifted, key=lambda c: abs(c.shift.value or 0.0) if c.shift else 0.0)
    says = f"adjusted and measured differences are as far apart as chance explains, at most on {most.metric}"
    return GateResult(ADJUSTMENT, 1, says, most.shift.value if most.shift else None)


def _excludes_zero(e: Estimate) -> bool:
    return (e.low is not None and e.low > 0) or (e.high is not None and e.high < 0)
