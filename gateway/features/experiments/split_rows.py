"""The answers of both arms of a split, with what all of their comparisons share, computed once. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np
from numpy.typing import NDArray

from gateway.core.plan import CONTROL, Plan
from gateway.features.experiments.covariates import TIMES, History, UnitCovariates, covariates_of, unit_covariates
from gateway.features.experiments.rows.queries import ServedAnswer
from gateway.statistics.domains import Floats

Covariates = tuple[UnitCovariates, UnitCovariates]


@dataclass(frozen=True, slots=True)
class ArmRows:
    """One arm's answers."""

    at: NDArray[np.intp]  # shape (n,): their places among the answers of both arms
    unit: NDArray[np.intp]  # shape (n,): the place of each one's unit in `names`
    names: Sequence[str]  # all units of the arm, in order of arrival
    weights: Floats  # shape (units,): 1 / pi of the first answer of each


class SplitRows(Sequence[ServedAnswer]):
    """Answers in order of arrival: of the control, and of one candidate."""

    def __init__(self, rows: Sequence[ServedAnswer]) -> None:
        self._rows = rows
        self._known: dict[tuple[bool, int], Covariates | None] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> ServedAnswer: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[ServedAnswer]: ...
    def __getitem__(self, at: int | slice) -> ServedAnswer | Sequence[ServedAnswer]:
        return self._rows[at]

    @cached_property
    def arms(self) -> tuple[ArmRows, ArmRows]:
        """(control, candidate)."""
        return self._arm(True), self._arm(False)

    def _arm(self, control: bool) -> ArmRows:
        at = [i for i, row in enumerate(self._rows) if (row.arm == CONTROL) == control]
        places: dict[str, int] = {}
        unit = [places.setdefault(self._rows[i].unit, len(places)) for i in at]
        weights = np.ones(len(places))
        pi = np.array([self._rows[i].pi for i in reversed(at)], dtype=np.float64)
        weights[unit[::-1]] = 1.0 / pi  # of several assignments to one place, the last one stays: the first answer's
        return ArmRows(np.array(at, dtype=np.intp), np.array(unit, dtype=np.intp), list(places), weights)

    def covariates(self, metric: str, known: History, plan: Plan) -> Covariates | None:
        """Of the units of both arms; None: there is none. known: the same object for all metrics, or {}."""
        key = (metric in TIMES, len(known))
        if key not in self._known:
            found = covariates_of(self._rows, metric, known, plan)
            self._known[key] = self._of_units(found, plan) if found else None
        return self._known[key]

    def _of_units(self, found: dict[str, list[float]], plan: Plan) -> Covariates:
        """Calls are weighted by how often they are recorded; other units only count where all calls are."""
        by_call = plan.unit == "request"
        a, b = (unit_covariates(found, s.names, s.weights if by_call else np.ones(len(s.names))) for s in self.arms)
        return a, b
