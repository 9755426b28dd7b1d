"""Bradley-Terry: strengths of three or more models from pairwise verdicts, with the advantage of being shown first."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gateway.statistics.domains import Floats, at_least, not_negative

STEPS = 50
LARGEST = 30.0  # a coefficient beyond this has no finite maximum: odds of 1e13


@dataclass(frozen=True, slots=True)
class Duels:
    """Verdicts on one ordered pair, of which `first` was shown first. A tie counts as half a win for each side.

    Raises ValueError for negative numbers of wins, and for a pair of one name.
    """

    first: str
    second: str
    first_wins: float  # >= 0
    second_wins: float  # >= 0

    def __post_init__(self) -> None:
        not_negative("first_wins", self.first_wins)
        not_negative("second_wins", self.second_wins)
        if self.first == self.second:
            raise ValueError(f"duel of {self.first!r} with itself")


@dataclass(frozen=True, slots=True)
class Strengths:
    """The fit. P(first beats second) = 1 / (1 + exp(-(strength first - strength second + order)))."""

    strength: dict[str, float]  # log odds against the reference, whose strength is 0.0
    robust_se: dict[str, float]  # HC0 sandwich, each verdict a unit of its own; the reference's is 0.0
    order: float  # advantage of being shown first, in log odds; 0.0 if not fitted


def fit_bradley_terry(duels: Sequence[Duels], reference: str, order_effect: bool = False) -> Strengths:
    """Maximum likelihood by Newton's method on the logistic model; rows without verdicts are ignored.

    duels: at least one with verdicts. reference: one of the names. order_effect: also fit the advantage of being shown
    first. Raises ValueError if a group of names never beat the others (no finite maximum exists: Ford 1957), or if the
    order effect has no finite maximum.
    Source: Bradley & Terry 1952; order effect from Davidson & Beaver 1977.
    """
    rows = [duel for duel in duels if duel.first_wins + duel.second_wins > 0]
    names = sorted({name for duel in rows for name in (duel.first, duel.second)})
    if reference not in names:
        raise ValueError(f"reference: {reference!r} is not one of {', '.join(names) or 'no names: no verdicts'}")
    _check_connected(rows, names)
    others = [name for name in names if name != reference]
    design, wins, losses = _design(rows, others, order_effect)
    beta = _maximise(design, wins, losses)
    robust = _robust_covariance(design, wins, losses, beta)
    k = len(others)
    return Strengths(
        strength={reference: 0.0} | dict(zip(others, beta[:k].tolist(), strict=True)),
        robust_se={reference: 0.0} | dict(zip(others, np.sqrt(np.diag(robust))[:k].tolist(), strict=True)),
        order=float(beta[k]) if order_effect else 0.0,
    )


def _design(rows: Sequence[Duels], others: Sequence[str], order_effect: bool) -> tuple[Floats, Floats, Floats]:
    column = {name: i for i, name in enumerate(others)}
    design = np.zeros((len(rows), len(others) + order_effect))
    for i, duel in enumerate(rows):
        for name, sign in ((duel.first, 1.0), (duel.second, -1.0)):
            if name in column:
                design[i, column[name]] = sign
    if order_effect:
        design[:, -1] = 1.0
    wins, losses = ([getattr(duel, side) for duel in rows] for side in ("first_wins", "second_wins"))
    return design, np.array(wins, dtype=np.float64), np.array(losses, dtype=np.float64)


def _maximise(design: Floats, wins: Floats, losses: Floats) -> Floats:
    beta = np.zeros(design.shape[1])
    for _ in range(STEPS):
        p = _chance(design, beta)
        information = (design.T * ((wins + losses) * p * (1.0 - p))) @ design
        gradient = design.T @ (wins - (wins + losses) * p)
        step = np.linalg.lstsq(information, gradient, rcond=None)[0]
        # Steps longer than 2 are shortened to 2: plain Newton may overshoot on lopsided counts.
        beta = beta + step / max(1.0, float(np.abs(step).max()) / 2.0)
        if np.abs(beta).max() > LARGEST:
            break
        if np.abs(step).max() < 1e-10:
            return np.asarray(beta, dtype=np.float64)
    raise ValueError(f"no finite maximum: a coefficient reached {np.abs(beta).max():.3g}; one side always wins")


def _chance(design: Floats, beta: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-(design @ beta))), dtype=np.float64)


def _robust_covariance(design: Floats, wins: Floats, losses: Floats, beta: Floats) -> Floats:
    """The HC0 sandwich, shape (parameters, parameters)."""
    p = _chance(design, beta)
    inverse = np.linalg.inv((design.T * ((wins + losses) * p * (1.0 - p))) @ design)
    meat = (design.T * (wins * (1.0 - p) ** 2 + losses * p**2)) @ design
    return np.asarray(inverse @ meat @ inverse, dtype=np.float64)


def _check_connected(rows: Sequence[Duels], names: Sequence[str]) -> None:
    beats: dict[str, set[str]] = {name: set() for name in names}
    beaten_by: dict[str, set[str]] = {name: set() for name in names}
    for duel in rows:
        if duel.first_wins > 0:
            beats[duel.first].add(duel.second)
            beaten_by[duel.second].add(duel.first)
        if duel.second_wins > 0:
            beats[duel.second].add(duel.first)
            beaten_by[duel.first].add(duel.second)
    at_least("number of names", len(names), 2)
    for edges, verb in ((beats, "beat"), (beaten_by, "lost to")):
        reached = _reach(edges, names[0])
        if apart := sorted(set(names) - reached):
            raise ValueError(f"no finite maximum: {', '.join(sorted(reached))} never {verb} {', '.join(apart)}")


def _reach(edges: dict[str, set[str]], start: str) -> set[str]:
    reached, open_names = {start}, [start]
    while open_names:
        fresh = edges[open_names.pop()] - reached
        reached |= fresh
        open_names.extend(fresh)
    return reached
