"""The sums of an hour's calls by cell, for the watch of each target. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from math import log
from typing import NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from gateway.core.exchange import CLIENT_ENDED
from gateway.core.refusal_text import REFUSING_FINISH_REASONS, refusal_language
from gateway.features.models.watch.cells import OTHERS, CellHours, TrafficCell
from gateway.features.models.watch.series import CALL_SERIES
from gateway.statistics.adjusted_means import SUMS, HourlySums
from gateway.statistics.domains import Floats

MOST_CUSTOMERS = 24
"""Customers of an hour that have cells; the others with fewer calls are one."""
LENGTHS = (500, 4_000)
"""Input tokens at which prompts are of another form."""


class TargetKey(NamedTuple):
    alias: str
    upstream: str
    model: str

    @property
    def target(self) -> str:
        return f"{self.upstream}/{self.model}"


@dataclass(slots=True)
class WatchedCall:
    """A served call."""

    target: TargetKey
    caller: str
    user: str | None
    unit: str
    """Calls of one unit depend on each other: an end user, a conversation, a run, or the call."""
    api: str
    in_run: bool
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    outcome: str
    finish_reason: str | None
    opening: str
    length: int
    refused: bool
    tool_calls: str
    first_token_s: float | None
    mean_logprob: float | None
    weight: float
    scores: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Value and weight by series."""

    @property
    def cell(self) -> TrafficCell:
        user = "" if self.user is None else "/" + sha256(f"{self.caller}\0{self.user}".encode()).hexdigest()[:8]
        return TrafficCell(self.caller + user, form_of(self.api, self.in_run, self.input_tokens))

    def values(self) -> dict[str, float]:
        """The values of the series of CALL_SERIES that the call has."""
        if self.outcome in CLIENT_ENDED:
            return {}
        if self.outcome != "ok":
            return {"failures": 1.0}
        tokens, cached = self.input_tokens, self.cached_tokens
        refused = self.refused or self.finish_reason in REFUSING_FINISH_REASONS or refusal_language(self.opening)
        found: dict[str, float | None] = {
            "refusals": float(bool(refused)) if self.length or self.refused else None,
            "invalid tool calls": _invalid(self.tool_calls),
            "length": log(1.0 + self.length) if self.length else None,
            "tokens": None if self.output_tokens is None else log(1.0 + self.output_tokens),
            "first token": log(self.first_token_s) if self.first_token_s else None,
            "cached share": min(1.0, (cached or 0) / tokens) if tokens and cached is not None else None,
            "log-probability": self.mean_logprob,
            "prompt length": None if tokens is None else log(1.0 + tokens),
        }
        return {"failures": 0.0, **{name: value for name, value in found.items() if value is not None}}


def form_of(api: str, in_run: bool, input_tokens: int | None) -> str:
    """The coarse features of a request: its API, whether it is a call of an agent's run, and the prompt's length."""
    size = "" if input_tokens is None else f" {sum(input_tokens >= length for length in LENGTHS)}"
    return f"{api}{' run' if in_run else ''}{size}"


def _invalid(tool_calls: str) -> float | None:
    """Whether the arguments of any tool call are not JSON; None without calls. tool_calls: JSON."""
    if len(tool_calls) < 3:
        return None
    try:
        for call in orjson.loads(tool_calls):
            orjson.loads(call.get("arguments") or "{}")
    except (ValueError, AttributeError, TypeError):
        return 1.0
    return 0.0


@dataclass(frozen=True, slots=True)
class HourOfTarget:
    """The sums of one hour of one target."""

    hour: int
    cells: Sequence[TrafficCell]
    series: Sequence[str]
    sums: NDArray[np.float32]
    """Shape (c, k, SUMS): as the strata of HourlySums."""
    calls: NDArray[np.float32]
    """Shape (c,)."""


def hours_of_targets(hour: int, calls: Iterable[WatchedCall]) -> dict[TargetKey, HourOfTarget]:
    by_target: dict[TargetKey, list[WatchedCall]] = {}
    for call in calls:
        by_target.setdefault(call.target, []).append(call)
    return {target: hour_of_target(hour, of_target) for target, of_target in by_target.items()}


def hour_of_target(hour: int, calls: Sequence[WatchedCall]) -> HourOfTarget:
    cells, place = _cells(calls)
    scores = sorted({name for call in calls for name in call.scores})
    series = {name: i for i, name in enumerate((*CALL_SERIES, *scores))}
    units: dict[tuple[str, str], int] = {}
    unit = np.array([units.setdefault((call.caller, call.unit), len(units)) for call in calls], dtype=np.intp)
    weight = np.array([call.weight for call in calls])
    values = np.full((len(calls), len(series)), np.nan)
    weights = np.repeat(weight[:, None], len(series), axis=1)
    for i, call in enumerate(calls):
        for name, value in call.values().items():
            values[i, series[name]] = value
        for name, (value, score_weight) in call.scores.items():
            values[i, series[name]], weights[i, series[name]] = min(1.0, max(0.0, value)), score_weight
    weights[np.isnan(values)] = 0.0
    values = np.nan_to_num(values)
    of_units = _grouped(weights, unit, len(units))[unit]
    parts = (weights, weights * values, weights * values**2, weights**2, weights * of_units)
    sums = np.stack([_grouped(part, place, len(cells)) for part in parts], axis=2)
    total = np.bincount(place, weight, len(cells))
    return HourOfTarget(hour, cells, list(series), *(x.astype(np.float32) for x in (sums, total)))


def _cells(calls: Sequence[WatchedCall]) -> tuple[list[TrafficCell], NDArray[np.intp]]:
    counts: dict[str, float] = {}
    own = [call.cell for call in calls]
    for cell, call in zip(own, calls, strict=True):
        counts[cell.customer] = counts.get(cell.customer, 0.0) + call.weight
    kept = set(sorted(counts, key=lambda name: (-counts[name], name))[:MOST_CUSTOMERS])
    places: dict[TrafficCell, int] = {}
    merged = (cell if cell.customer in kept else TrafficCell(OTHERS, cell.form) for cell in own)
    place = np.array([places.setdefault(cell, len(places)) for cell in merged], dtype=np.intp)
    return list(places), place


def _grouped(array: Floats, place: NDArray[np.intp], size: int) -> Floats:
    out = np.zeros((size, array.shape[1]))
    np.add.at(out, place, array)
    return out


def cell_hours(
    hours: Sequence[HourOfTarget], series: Sequence[str] | None = None, newest: int | None = None
) -> CellHours:
    """The hours as arrays. series: those to take; None: all of any hour. newest: of how many hours to take the sums;
    None: of all."""
    cells = list(dict.fromkeys(cell for hour in hours for cell in hour.cells))
    names = list(dict.fromkeys(name for hour in hours for name in hour.series)) if series is None else list(series)
    of_cell, of_series = {cell: i for i, cell in enumerate(cells)}, {name: i for i, name in enumerate(names)}
    summed = hours if newest is None else hours[-newest:]
    sums = np.zeros((len(summed), len(cells), len(names), SUMS))
    for i, hour in enumerate(summed):
        c, k, own = _places(hour, of_cell, of_series)
        sums[i][np.ix_(c, k)] = hour.sums[:, own]
    calls = np.zeros((len(hours), len(cells)))
    for i, hour in enumerate(hours):
        calls[i, [of_cell[cell] for cell in hour.cells]] = hour.calls
    at = np.array([hour.hour for hour in hours], dtype=np.int64)
    of_sums = HourlySums(at[len(hours) - len(summed) :], sums)
    return CellHours(cells, names, of_sums, calls, at)


def _places(
    hour: HourOfTarget, of_cell: Mapping[TrafficCell, int], of_series: Mapping[str, int]
) -> tuple[list[int], list[int], list[int]]:
    own = [i for i, name in enumerate(hour.series) if name in of_series]
    return [of_cell[cell] for cell in hour.cells], [of_series[hour.series[i]] for i in own], own
