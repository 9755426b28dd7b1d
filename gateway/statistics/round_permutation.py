"""Whether the newest round of repeated answers is like the rounds before it, question by question.

Each question was asked a few times in each of several rounds. If nothing changed, the rounds of a question are
exchangeable, whatever is shared by the answers of one round: a cache, a server, a batch. So the unit that is permuted
is the round of a question, and the null distribution of a sum over questions is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gateway.statistics.domains import Floats

BINS = 8192
"""Cells of the grid of the null distribution; a coarser one only makes the test more careful."""


class RoundScores(NamedTuple):
    """One question: how much the newest round differs from the others, and how much each earlier one would."""

    newest: float
    earlier: Sequence[float]


def permutation_p(questions: Sequence[RoundScores]) -> float:
    """P(the sum of scores is at least as large), where the newest round of each question is drawn at random.

    Exact up to rounding, which is upwards: the sum's distribution is computed by convolution over questions. It is at
    most 1, and at least the product of 1 / (rounds of a question). No question gives 1. Scores must be finite, else
    ValueError. Source: Pitman 1937, Supplement to JRSS 4; stratified as in van Elteren 1960.
    """
    strata = [np.array([newest, *earlier], dtype=np.float64) for newest, earlier in questions]
    if not all(np.isfinite(scores).all() for scores in strata):
        raise ValueError("scores: expected finite numbers")
    strata = [scores - scores.min() for scores in strata if np.ptp(scores) > 0]
    total = sum(float(scores.max()) for scores in strata)
    if total <= 0.0:
        return 1.0
    per_unit = BINS / total
    observed, law = 0, np.ones(1)
    for scores in strata:
        observed += int(np.floor(scores[0] * per_unit + 1e-6))
        cells = np.ceil(scores * per_unit - 1e-6).astype(np.int64)
        law = _plus(law, cells)
    return float(min(1.0, law[observed:].sum()))


def _plus(law: Floats, cells: NDArray[np.int64]) -> Floats:
    """The distribution of a sum with one more term, which is each of these cells with the same probability."""
    longer = np.zeros(law.size + int(cells.max()))
    for cell in cells.tolist():
        longer[cell : cell + law.size] += law
    return longer / cells.size


def kernel_scores(similarity: ArrayLike, rounds: Sequence[int]) -> RoundScores:
    """Scores one question by an unbiased MMD² between a round's answers and all others.

    similarity: shape (n, n), a positive definite kernel over answers, as 1 for equal ones and 0 for others. rounds: the
    round of each answer, whose largest is the newest; at least two rounds of at least two answers, else ValueError.
    Source: Gretton et al. 2012, JMLR 13, eq. 3; for the answers of models Gao, Liang & Guestrin 2024, arXiv:2410.20247.
    """
    kernel, labels = np.asarray(similarity, dtype=np.float64), np.asarray(rounds)
    member = _members(labels, least=2)
    of_round = member.sum(axis=1)
    inside = np.einsum("ri,ij,rj->r", member, kernel, member) - member @ np.diag(kernel)
    others = 1.0 - member
    outside = np.einsum("ri,ij,rj->r", others, kernel, others) - others @ np.diag(kernel)
    between = np.einsum("ri,ij,rj->r", member, kernel, others)
    rest = labels.size - of_round
    scores = inside / (of_round * (of_round - 1)) + outside / (rest * (rest - 1)) - 2.0 * between / (of_round * rest)
    return RoundScores(float(scores[-1]), scores[:-1].tolist())


def rank_scores(values: ArrayLike, rounds: Sequence[int]) -> RoundScores:
    """Scores one question by the mean mid-rank of a round's values among all, from −1/2 (all are smallest) to 1/2.

    values: shape (n,), finite. rounds: as in `kernel_scores`; at least two. For the other side, negate the values.
    Source: van Elteren 1960, Bulletin of the International Statistical Institute 37.
    """
    x, labels = np.asarray(values, dtype=np.float64), np.asarray(rounds)
    if not np.isfinite(x).all():
        raise ValueError("values: expected finite numbers")
    member = _members(labels, least=1)
    below = (x[:, None] > x[None, :]).sum(axis=1) + 0.5 * (x[:, None] == x[None, :]).sum(axis=1)
    scores: Floats = (member @ below) / member.sum(axis=1) / x.size - 0.5
    return RoundScores(float(scores[-1]), scores[:-1].tolist())


def _members(labels: NDArray[Any], least: int) -> Floats:
    """A row of zeros and ones for each round, in order."""
    names, counts = np.unique(labels, return_counts=True)
    if names.size < 2 or counts.min() < least:
        raise ValueError(f"rounds: expected two or more, of {least} or more answers; got {counts.tolist()}")
    return np.asarray(labels[None, :] == names[:, None], dtype=np.float64)
