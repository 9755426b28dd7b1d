"""The evidence that series of a target have left their baseline: an e-detector that starts again each hour. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gateway.features.models.watch.cells import (
    BASELINE_H,
    FEWEST_CALLS,
    NEW_H,
    CellHours,
    Grouped,
    TrafficCell,
    grouped_cells,
    in_cells,
    members,
    summed,
)
from gateway.features.models.watch.series import SILENT, Direction, terms_of
from gateway.statistics.adjusted_means import DAY_H, AdjustedBaseline, Deviations, HourlySums
from gateway.statistics.domains import Floats
from gateway.statistics.e_detector import bounded_log_gains, log_limit
from gateway.statistics.stored_state import State

QUARTER_H = 91 * DAY_H
"""Hours until a false notice of a deployment, on average at least."""
BASELINE_ERROR = 0.05
"""Probability that the mean of any series of a deployment is further from its baseline than that error allows."""
FEWEST_HOURS = 5 * DAY_H
"""Hours with calls in a baseline."""
BETS = np.array([0.1, 0.25, 0.5, 1.0, 1.5])
CAP = 3.0
"""Standard errors of an hour that count: an hour of failures alone does not ring."""
_WITHIN_H = 6  # of the likely beginning: events further away are too often chance
_LIKELY = 3.0  # ln of the evidence by which another beginning may be less likely
_LEAST_TERM = 0.3
"""Bound of a term in standard errors, at least, and that of the variance between hours, of which no terms are known."""


@dataclass(frozen=True, slots=True)
class WatchErrors:
    """All watches of a deployment share one error."""

    watches: int
    series: int
    """Number of series of all watches together."""

    @property
    def limit(self) -> float:
        """The mean of all e-values of a watch rings from here on, as a logarithm."""
        return log_limit(QUARTER_H, max(self.watches, 1))

    @property
    def series_error(self) -> float:
        return BASELINE_ERROR / max(self.series, 1)


@dataclass(frozen=True, slots=True)
class Moved:
    """A series that left its baseline."""

    series: str
    direction: Direction
    since: int
    """The hour at which it seems to have begun, since 1970."""
    between: tuple[int, int]
    """The hours between which it began, by the evidence."""
    before: float
    """Mean of the baseline."""
    now: float
    """The same with the mean deviation since then."""
    log_evidence: float


@dataclass(frozen=True, slots=True)
class CustomerShift:
    """The deviation of the answers to one customer."""

    customer: str
    total: float
    """Sum of the deviations, times the weights."""
    error: float
    weight: float


class Monitor:
    """Some series of one target: their baseline, and the evidence since."""

    def __init__(
        self,
        cells: Sequence[TrafficCell],
        series: Sequence[str],
        baseline: AdjustedBaseline,
        learned_to: int,
        logs: Floats | None = None,
        apart: Mapping[str, int] | None = None,
        renewed_to: int = 0,
    ) -> None:
        """learned_to: the last hour of the baseline. logs: ln of the e-values, shape (series, 2, BETS).
        apart: customers that are left out, with the hour since which. renewed_to: see renew."""
        self.cells, self.series, self.baseline, self.learned_to = list(cells), list(series), baseline, learned_to
        self.apart, self.renewed_to = dict(apart or {}), max(learned_to, renewed_to)
        shape = (len(self.series), 2, len(BETS))
        self.rings = np.array([name not in SILENT for name in self.series], dtype=np.bool_)
        self.logs = np.full(shape, -np.inf) if logs is None else logs.reshape(shape)

    @classmethod
    def begun(cls, hours: CellHours, errors: WatchErrors) -> Monitor | None:
        """A monitor with the baseline of these hours; None if they have too few calls."""
        if (hours.calls.sum(axis=1) > 0).sum() < FEWEST_HOURS:
            return None
        cells, index = grouped_cells(hours, members(hours))
        enough = summed(hours.calls[..., None], index, len(cells))[..., 0].sum(axis=0) >= FEWEST_CALLS
        if not enough.any():
            return None
        strata = summed(hours.sums.strata, index, len(cells))[:, enough]
        sums = HourlySums(hours.sums.hours, strata)
        baseline = AdjustedBaseline.fitted(sums, terms_of(hours.series), errors.series_error)
        kept = [cell for cell, keep in zip(cells, enough.tolist(), strict=True) if keep]
        return cls(kept, hours.series, baseline, int(hours.hours[-1]))

    @property
    def named(self) -> set[str]:
        return {cell.customer for cell in self.cells} | set(self.apart)

    def leave_out(self, customer: str, hour: int) -> None:
        """Takes a customer out, until it has BASELINE_H hours of its own since then, and begins the evidence again."""
        kept = [i for i, cell in enumerate(self.cells) if cell.customer != customer]
        self.cells, self.baseline.strata = [self.cells[i] for i in kept], self.baseline.strata[kept]
        self.apart[customer] = hour
        self.logs = np.full(self.logs.shape, -np.inf)

    def grouped(self, hours: CellHours, since: int) -> Grouped:
        return in_cells(hours, {cell: place for place, cell in enumerate(self.cells)}, self.named, since)

    def add(self, hours: CellHours, since: int) -> Floats:
        """Takes the hours from the place `since` on; earlier ones say who is a newcomer. Returns ln of the sum of all
        e-values after each."""
        grouped = self.grouped(hours, since)
        deviations = self.baseline.deviations(grouped.sums, grouped.mix)
        totals = np.empty(len(deviations.mean))
        for i, gains in enumerate(log_gains(deviations)):
            self.logs = np.logaddexp(self.logs, 0.0) + gains
            totals[i] = self.log_total
        return totals

    @property
    def log_total(self) -> float:
        return float(np.logaddexp.reduce(self.logs[self.rings].ravel()))

    @property
    def statistics(self) -> int:
        """Number of e-values in log_total."""
        return int(self.rings.sum()) * 2 * len(BETS)

    def evidence(self, k: int, direction: Direction) -> float:
        """ln of the mean e-value of a series, by its place."""
        return float(np.logaddexp.reduce(self.logs[k, _DIRECTIONS.index(direction)]) - math.log(len(BETS)))

    def renew(self, hours: CellHours) -> None:
        """Moves the baseline with the hours of the oldest of the last 14 days, so that users who come and go slowly are
        not a change, and a new change is not in it for two weeks. hours: the last BASELINE_H."""
        leaving = (hours.hours <= hours.hours[-1] - BASELINE_H + DAY_H) & (hours.hours > self.renewed_to)
        if leaving.any():
            strata = self.grouped(hours, 0).sums.strata[leaving]
            self.baseline.renew(strata.sum(axis=0), 1.0 - len(strata) / BASELINE_H)
            self.renewed_to = int(hours.hours[leaving][-1])

    def admit(self, hours: CellHours) -> None:
        """Adds the cells that have had calls for NEW_H hours. hours: the last BASELINE_H."""
        cells, index = grouped_cells(hours, self.named | members(hours))
        calls = summed(hours.calls[..., None], index, len(cells))[..., 0]
        early = hours.hours <= hours.hours[-1] - NEW_H
        grown = (calls[early].sum(axis=0) > 0) & (calls.sum(axis=0) >= FEWEST_CALLS)
        first, known = int(hours.hours[0]), set(self.cells)
        self.apart = {name: since for name, since in self.apart.items() if since >= first}
        wanted = (cell not in known and cell.customer not in self.apart for cell in cells)
        new = [i for i, want in enumerate(wanted) if want and grown[i]]
        if new:
            place = {old: i for i, old in enumerate(new)}
            index = np.array([place.get(i, -1) for i in index.tolist()], dtype=np.intp)
            totals = hours.sums.strata.sum(axis=0, keepdims=True)
            self.baseline.add_strata(summed(totals, index, len(new))[0])
            self.cells += [cells[i] for i in new]

    def moved(self, hours: CellHours, fewest: float) -> list[Moved]:
        """The series with this much evidence (ln) or more, the most first. hours: the last ones, with the newest."""
        after = int(np.searchsorted(hours.hours, self.learned_to, side="right"))
        grouped = self.grouped(hours, after)
        deviations = self.baseline.deviations(grouped.sums, grouped.mix)
        gains = log_gains(deviations)
        found = []
        for k, name in enumerate(self.series):
            for side, direction in enumerate(_DIRECTIONS):
                evidence = self.evidence(k, direction)
                if evidence >= fewest and self.rings[k]:
                    of_bet = np.cumsum(gains[:, k, side, int(self.logs[k, side].argmax())])
                    before = np.append(0.0, of_bet[:-1])
                    first, likely = int(before.argmin()), np.flatnonzero(before <= before.min() + _LIKELY)
                    since, earliest, latest = (int(grouped.sums.hours[i]) for i in (first, likely[0], likely[-1]))
                    between = max(earliest, since - _WITHIN_H), min(latest, since + _WITHIN_H)
                    mean = float(self.baseline.mean[k])
                    now = mean + _mean(deviations, grouped.sums, first, k)
                    found.append(Moved(name, direction, since, between, mean, now, evidence))
        return sorted(found, key=lambda moved: -moved.log_evidence)

    def customers(self, hours: CellHours, series: str, since: int) -> list[CustomerShift]:
        """The deviations of a series since an hour, of the customers with calls since then."""
        first = int(np.searchsorted(hours.hours, since))
        k = self.series.index(series)
        arrays = self.baseline.strata_since(self.grouped(hours, first).sums)
        total, error, weight = (array[:, k] for array in arrays)
        found = []
        for name in sorted(self.named):
            mine = np.array([cell.customer == name for cell in self.cells])
            sums = float(total[mine].sum()), float(np.sqrt((error[mine] ** 2).sum())), float(weight[mine].sum())
            found += [CustomerShift(name, *sums)] if sums[2] > 0 else []
        return found

    def state(self) -> State:
        return {
            "cells": [list(cell) for cell in self.cells],
            "series": self.series,
            "baseline": self.baseline.state(),
            "learned_to": self.learned_to,
            "apart": self.apart,
            "renewed_to": self.renewed_to,
            "logs": [round(max(x, _LOWEST), 4) for x in self.logs.ravel().tolist()],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Monitor:
        logs = np.array(state["logs"], dtype=np.float64)
        baseline = AdjustedBaseline.from_state(state["baseline"])
        cells = [TrafficCell(*cell) for cell in state["cells"]]
        return cls(cells, state["series"], baseline, state["learned_to"], logs, state["apart"], state["renewed_to"])


_DIRECTIONS: tuple[Direction, Direction] = ("down", "up")
_LOWEST = -700.0  # ln of an e-value that counts for nothing


def _mean(deviations: Deviations, sums: HourlySums, first: int, k: int) -> float:
    weight = sums.strata[first:, :, k, 0].sum(axis=1) * deviations.seen[first:, k]
    return float((weight * deviations.mean[first:, k]).sum() / max(weight.sum(), 1e-12))


def log_gains(deviations: Deviations) -> Floats:
    """Shape (h, k, 2, bets). The bounds are assumed as Deviations.reach and _LEAST_TERM say, the shares are those that
    the baseline fitted, and parts are taken to be independent."""
    reach = np.maximum(deviations.reach, _LEAST_TERM)
    bounds = np.concatenate([reach, np.full_like(reach[..., :1], _LEAST_TERM)], axis=3)
    gains = bounded_log_gains(deviations.z, deviations.shares[:, :, None], bounds, BETS, CAP)
    return gains * deviations.seen[..., None, None]
