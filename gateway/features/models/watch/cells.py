"""The cells in which calls are compared with earlier ones, so that a mix that moves does not look like a change. Pure.

A cell is a customer and a form of request: a key, or a user of it, with the API, agent runs and the length of the
prompt. Customers with less than MEMBER_SHARE of the calls are one. A customer who begins later, or grows, is left out
until calls of NEW_H hours are known of it: its calls have nothing to be compared with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.statistics.adjusted_means import DAY_H, HourlySums
from gateway.statistics.domains import Floats

BASELINE_H = 14 * DAY_H
NEW_H = 13 * DAY_H
MEMBER_SHARE = 0.02
"""Share of the calls of the baseline, or of the last two weeks, from which on a customer has cells of its own."""
NEWCOMER_SHARE = 0.05
"""Share of the calls of a day from which on a customer without cells is left out."""
FEWEST_CALLS = 30
MIX_H = 7 * DAY_H
OTHERS = ""


class TrafficCell(NamedTuple):
    customer: str
    form: str


@dataclass(frozen=True, slots=True)
class CellHours:
    """The sums of hours by cell."""

    cells: Sequence[TrafficCell]
    series: Sequence[str]
    sums: HourlySums
    """Sums of the last of the hours, or of all."""
    calls: Floats
    """Shape (h, c): the weight of all calls."""
    hours: NDArray[np.int64]
    """Shape (h,), since 1970, in order."""


@dataclass(frozen=True, slots=True)
class Grouped:
    """Hours in the cells of a baseline."""

    sums: HourlySums
    mix: Floats
    """Shape (h, c): the calls of the week that ends with the hour."""
    left_out: Floats
    """Shape (h,): share of the calls that are compared with nothing."""


def members(hours: CellHours) -> set[str]:
    """The customers that have cells of their own in a baseline of these hours."""
    of_customers = dict(_totals(hours).items())
    total = sum(of_customers.values())
    return {name for name, calls in of_customers.items() if name != OTHERS and calls >= MEMBER_SHARE * total}


def _totals(hours: CellHours) -> dict[str, float]:
    totals: dict[str, float] = {}
    for cell, calls in zip(hours.cells, hours.calls.sum(axis=0).tolist(), strict=True):
        totals[cell.customer] = totals.get(cell.customer, 0.0) + calls
    return totals


def grouped_cells(hours: CellHours, named: set[str]) -> tuple[list[TrafficCell], NDArray[np.intp]]:
    """The cells with all customers that are not named in one, and the place of each cell among them."""
    places: dict[TrafficCell, int] = {}
    merged = (cell if cell.customer in named else TrafficCell(OTHERS, cell.form) for cell in hours.cells)
    index = [places.setdefault(cell, len(places)) for cell in merged]
    return list(places), np.array(index, dtype=np.intp)


def summed(array: Floats, index: NDArray[np.intp], size: int) -> Floats:
    """Sums over axis 1, by the places of an index; places below 0 are left out."""
    places = np.zeros((size, len(index)))
    places[index[index >= 0], np.flatnonzero(index >= 0)] = 1.0
    flat = array.reshape(len(array), len(index), -1)
    return np.asarray((places @ flat).reshape(len(array), size, *array.shape[2:]))


def in_cells(hours: CellHours, known: Mapping[TrafficCell, int], named: set[str], since: int) -> Grouped:
    """The hours from the place `since` on in the cells of a baseline; earlier ones say who is a newcomer.

    known: places of the baseline's cells. named: its customers.
    """
    index = np.array([known.get(_of(cell, named), -1) for cell in hours.cells], dtype=np.intp)
    keep = ~_newcomers(hours, named)
    calls = summed((hours.calls * keep)[..., None], index, len(known))[..., 0]
    recent, kept = hours.sums[since - len(hours.hours) :], keep[since:, :, None, None]
    strata = summed(recent.strata * kept, index, len(known))
    everything = np.maximum(hours.calls[since:].sum(axis=1), 1e-12)
    return Grouped(
        HourlySums(recent.hours, strata),
        _trailing(calls, hours.hours, MIX_H)[since:],
        1.0 - calls[since:].sum(axis=1) / everything,
    )


def _of(cell: TrafficCell, named: set[str]) -> TrafficCell:
    return cell if cell.customer in named else TrafficCell(OTHERS, cell.form)


def _newcomers(hours: CellHours, named: set[str]) -> NDArray[np.bool_]:
    """Shape (h, c): whether the cell is of a customer without cells of its own who has too many of the calls."""
    names = sorted({cell.customer for cell in hours.cells if cell.customer not in named and cell.customer != OTHERS})
    place = {name: i for i, name in enumerate(names)}
    index = np.array([place.get(cell.customer, -1) for cell in hours.cells], dtype=np.intp)
    mine = summed(hours.calls[..., None], index, len(names))[..., 0]
    every = hours.calls.sum(axis=1, keepdims=True)
    large = np.zeros((len(mine), len(names) + 1), dtype=np.bool_)
    for length, share in ((DAY_H, NEWCOMER_SHARE), (BASELINE_H, MEMBER_SHARE)):
        at_most = share * _trailing(every, hours.hours, length)
        large[:, :-1] |= _trailing(mine, hours.hours, length) > at_most
    return np.asarray(large[:, index])


def _trailing(x: Floats, hours: NDArray[np.int64], length: int) -> Floats:
    """Sums over the hours that end with each one."""
    total = np.concatenate([np.zeros((1, x.shape[1])), np.cumsum(x, axis=0)])
    first = np.searchsorted(hours, hours - length, side="right")
    return np.asarray(total[1:] - total[first])
