"""Pairs of candidates: the answers of two candidates to the same request, compared like those of a candidate and the
control.

A duel is a sequence of its own among those of the plan (progress.py). The values are those of the primary, of answers
that each have one; a positive difference is better for the second candidate. There is no duel on a metric that compares
an answer with the served one, since two candidates have no such value of each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

from gateway.core.plan import Plan
from gateway.verdict.metrics import JoinedPair, Metric

_AGAINST = " against "  # names of arms have no spaces
_COMPARABLE = ("score", "value", "failed", "completed", "measure")
"""Sources of metrics that each answer has on its own."""


@dataclass(frozen=True, slots=True)
class Duel:
    """Two candidates."""

    first: str
    second: str

    @property
    def pair(self) -> tuple[str, str]:
        return self.first, self.second

    @property
    def name(self) -> str:
        """Name of the sequence's arm: the second, compared with the first."""
        return f"{self.second}{_AGAINST}{self.first}"


def is_duel(arm: str) -> bool:
    """Whether an arm of a sequence is a pair of candidates."""
    return _AGAINST in arm


def duels_of(plan: Plan) -> tuple[Duel, ...]:
    """Every pair of candidates; none unless the plan finds the best."""
    arms = [arm for arm, _ in plan.candidates] if plan.finds_best else []
    return tuple(Duel(*pair) for pair in combinations(arms, 2))


def duel_between(plan: Plan, one: str, other: str) -> Duel:
    """Finds the duel of two candidates, in the order of the plan."""
    arms = [arm for arm, _ in plan.candidates]
    return Duel(*sorted((one, other), key=arms.index))


def duel_pairs(plan: Plan, metrics: list[Metric], joined: JoinedPair) -> Iterator[tuple[str, Metric, JoinedPair]]:
    """(name of the duel, metric, the pair with the first candidate in the place of the control).

    A pair has only the duels of the candidates that received its request.
    """
    decides = [replace(m, against="control") for m in metrics if m.name == plan.primary and m.source in _COMPARABLE]
    for duel in duels_of(plan) if decides else ():
        first, second = joined.arms.get(duel.first), joined.arms.get(duel.second)
        if first is not None and second is not None:
            second = replace(second, tied=False)  # it is the served answer, and not the first candidate's
            beside = replace(joined, control=replace(first, tied=False), arms={duel.name: second})
            yield from ((duel.name, metric, beside) for metric in decides)
