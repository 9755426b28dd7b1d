"""How far two targets part on recorded turns: whether they take the same step. It decides nothing. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gateway.core.completion import Completion
from gateway.core.run_steps import canonical_call
from gateway.reports.model import Estimate
from gateway.verdict.items.pairs import mean_estimate

SHOWN_TURNS = 15
"""Turns that have a row of their own."""


@dataclass(frozen=True, slots=True)
class ComparedTurn:
    """One recorded turn. None: an answer is missing."""

    run: str
    place: int
    """The turn's place in its run, from 1."""
    candidate: bool | None
    """Whether the candidate takes another step than the control does now."""
    itself: bool | None
    """Whether the control takes another step now than it took when the run was recorded."""


@dataclass(frozen=True, slots=True)
class TurnParting:
    """The shares of runs that part at one turn."""

    turn: str
    runs: int
    candidate: Estimate
    itself: Estimate


@dataclass(frozen=True, slots=True)
class RunParting:
    """How far a candidate parts from the control, and the control from itself. Shares of turns, with intervals by
    run."""

    target: str
    runs: int
    turns: int
    candidate: Estimate
    """Another step than the control takes now."""
    itself: Estimate
    """The control's other step than it took when the run was recorded; no value if it served none of the runs."""
    difference: Estimate
    """The first minus the second, over the turns that have both."""
    by_turn: tuple[TurnParting, ...]


def same_step(one: Completion, other: Completion) -> bool:
    """Whether two answers call the same tools with equal arguments, in any order; two answers without a call are the
    same step, whatever they say."""
    return _calls(one) == _calls(other)


def _calls(answer: Completion) -> list[tuple[str, str]]:
    return sorted(canonical_call(call) for call in answer.tool_calls)


def parting_of(target: str, turns: Sequence[ComparedTurn], alpha: float) -> RunParting:
    both = [t for t in turns if t.candidate is not None and t.itself is not None]
    places = sorted({min(t.place, SHOWN_TURNS + 1) for t in turns})
    return RunParting(
        target,
        len({t.run for t in turns}),
        len(turns),
        _share(((t.run, t.candidate) for t in turns), alpha),
        _share(((t.run, t.itself) for t in turns), alpha),
        _mean([(t.run, float(t.candidate or 0) - float(t.itself or 0)) for t in both], alpha, bounded=False),
        tuple(_at(place, [t for t in turns if min(t.place, SHOWN_TURNS + 1) == place], alpha) for place in places),
    )


def _at(place: int, turns: Sequence[ComparedTurn], alpha: float) -> TurnParting:
    name = str(place) if place <= SHOWN_TURNS else f"{place} and later"
    candidate, itself = ([(t.run, v) for t, v in zip(turns, values, strict=True)] for values in _sides(turns))
    return TurnParting(name, len({t.run for t in turns}), _share(candidate, alpha), _share(itself, alpha))


def _sides(turns: Sequence[ComparedTurn]) -> tuple[list[bool | None], list[bool | None]]:
    return [t.candidate for t in turns], [t.itself for t in turns]


def _share(turns: Iterable[tuple[str, bool | None]], alpha: float) -> Estimate:
    return _mean([(run, float(parted)) for run, parted in turns if parted is not None], alpha)


def _mean(turns: Sequence[tuple[str, float]], alpha: float, *, bounded: bool = True) -> Estimate:
    """The mean over runs of each run's mean."""
    values: dict[str, list[float]] = {}
    for run, value in turns:
        values.setdefault(run, []).append(value)
    means = np.array([float(np.mean(of_run)) for of_run in values.values()])
    return mean_estimate(means, list(values), alpha, (0.0, 1.0) if bounded else (None, None))
