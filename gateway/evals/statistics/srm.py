"""Sample-ratio mismatch: did the arms get the shares they were to get? Asked once (chi-square), or at any time."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gateway.evals.statistics.domains import at_least, counts, finite, positive, same_length
from gateway.evals.statistics.special import chi_square_tail
from gateway.evals.statistics.state import State, dump, load


def chi_square(observed: ArrayLike, shares: Sequence[float]) -> tuple[float, float]:
    """(sum (o - e)^2 / e, p) with e = n shares; p from chi-square with k - 1 degrees of freedom. For one look only.

    observed: counts, shape (k,); shares: k >= 2 positive numbers, made to sum to 1. ValueError outside.
    Source: Pearson 1900.
    """
    seen = counts("observed", observed, 1)
    same_length("observed, shares", seen, shares)
    expected = seen.sum() * np.array(normalised(shares))
    statistic = float(((seen - expected) ** 2 / expected).sum())
    return statistic, chi_square_tail(statistic, seen.size - 1)


def normalised(shares: Sequence[float]) -> list[float]:
    """shares / sum(shares). Raises ValueError unless there are two or more, each > 0."""
    at_least("number of shares", len(shares), 2)
    total = sum(positive("share", share) for share in shares)
    return [share / total for share in shares]


@dataclass(slots=True)
class SequentialRatio:
    """A sequential multinomial test of n_j ~ shares_j, valid after every assignment; one may stop when it alarms.

    Bayes factor of Dirichlet(k shares) against shares: Gamma(k) / Gamma(k + n) prod(Gamma(k s_j + n_j) / Gamma(k s_j))
    / prod(s_j^n_j), a martingale from 1 under the null; p = 1 / its largest value so far. Larger k looks for smaller
    mismatches. Source: Lindon & Malek 2022, "Anytime-valid inference for multinomial count data", arXiv:2011.03567,
    equation 9. Raises ValueError for fewer than 2 shares, one <= 0, k <= 0.
    """

    shares: list[float]
    k: float = 100.0
    counts: list[int] = field(default_factory=list)  # by arm; left out: none seen
    log_peak: float = 0.0  # the largest ln Bayes factor so far, at least 0

    def __post_init__(self) -> None:
        positive("k", self.k)
        normalised(self.shares)
        finite("log_peak", self.log_peak)
        self.counts = self.counts or [0] * len(self.shares)
        same_length("shares, counts", self.shares, self.counts)
        for count in self.counts:
            at_least("count", count, 0)

    def add(self, arm: int, times: int = 1) -> None:
        """Counts units assigned to shares[arm]; times > 1 looks only after all of them, which is as valid."""
        if not 0 <= arm < len(self.shares):
            raise ValueError(f"arm: {arm!r} is not in 0..{len(self.shares) - 1}")
        self.counts[arm] += at_least("times", times, 0)
        self.log_peak = max(self.log_peak, self.log_bayes_factor)

    @property
    def log_bayes_factor(self) -> float:
        """ln of the current Bayes factor for a mismatch; also a log e-value."""
        n = sum(self.counts)
        start = math.lgamma(self.k) - math.lgamma(self.k + n)
        terms = (_arm_term(self.k * s, seen, s) for s, seen in zip(normalised(self.shares), self.counts, strict=True))
        return start + sum(terms)

    @property
    def p_value(self) -> float:
        """Valid at any time: P(it ever falls to alpha) <= alpha under the null. At most 1."""
        return math.exp(-self.log_peak)

    def state(self) -> State:
        """A JSON-able dict from which from_state continues with the same bits."""
        return dump(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "SequentialRatio":
        """Raises ValueError if the state is of another kind."""
        return load(cls, state)


def _arm_term(prior: float, seen: int, share: float) -> float:
    return math.lgamma(prior + seen) - math.lgamma(prior) - seen * math.log(share)
