"""Sample-ratio mismatch: whether the arms of a split get their planned shares, tested after every assignment."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.statistics.domains import at_least, finite, positive, same_length
from gateway.statistics.stored_state import Stored


def normalised(shares: Sequence[float]) -> list[float]:
    """Returns shares / sum(shares). shares: at least two, each > 0; else ValueError."""
    at_least("number of shares", len(shares), 2)
    total = sum(positive("share", share) for share in shares)
    return [share / total for share in shares]


@dataclass(slots=True)
class SequentialRatio(Stored):
    """A sequential multinomial test of n_j ~ shares_j, valid after every assignment: stopping at an alarm is allowed.

    Bayes factor of Dirichlet(k shares) against shares: Gamma(k) / Gamma(k + n) prod(Gamma(k s_j + n_j) / Gamma(k s_j))
    / prod(s_j^n_j), a martingale that starts at 1 under the null; p = 1 / its largest value so far. A larger k is more
    sensitive to small mismatches. Raises ValueError for fewer than 2 shares, a share <= 0 or k <= 0.
    Source: Lindon & Malek 2022, "Anytime-valid inference for multinomial count data", arXiv:2011.03567, equation 9.
    """

    shares: list[float]
    k: float = 100.0
    counts: list[int] = field(default_factory=list)  # by arm; empty: no unit yet
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
        """Counts `times` units assigned to shares[arm], with one look after all of them.

        Raises ValueError unless arm is an index of shares and times >= 0.
        """
        if not 0 <= arm < len(self.shares):
            raise ValueError(f"arm: {arm!r} is not in 0..{len(self.shares) - 1}")
        self.counts[arm] += at_least("times", times, 0)
        self.log_peak = max(self.log_peak, self.log_bayes_factor)

    @property
    def log_bayes_factor(self) -> float:
        """ln of the current Bayes factor in favour of a mismatch; also a log e-value."""
        n = sum(self.counts)
        start = math.lgamma(self.k) - math.lgamma(self.k + n)
        terms = (_arm_term(self.k * s, seen, s) for s, seen in zip(normalised(self.shares), self.counts, strict=True))
        return start + sum(terms)

    @property
    def p_value(self) -> float:
        """A p-value of at most 1, valid at any time: P(it ever falls to alpha) <= alpha under the null."""
        return math.exp(-self.log_peak)


def _arm_term(prior: float, seen: int, share: float) -> float:
    return math.lgamma(prior + seen) - math.lgamma(prior) - seen * math.log(share)
