"""The difference of two rates of rare failures, from pairs: exact, valid at any time, and cheap while nothing fails.

Each pair gives d = failed in b - failed in a, in {-1, 0, 1}. The e-process against "the mean of d is m or more" bets on
less: a mixture over lambda of the products of 1 + lambda (m - d). It needs three counts only, so m can be solved for.

Sources: betting e-processes are Waudby-Smith & Ramdas 2024, JRSS-B 86(1), arXiv:2010.09686, section 4; Ville's
inequality makes 1/alpha their threshold at every n at once.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gateway.statistics.domains import at_least, inside
from gateway.statistics.stored_state import Stored

_MOST = 0.95
BETS = np.geomspace(1 / 64, _MOST, 13)  # lambda; dense where few failures are expected
WEIGHTS = 1.25 ** np.arange(13) / (1.25 ** np.arange(13)).sum()  # of the mixture; more on bets against rare failures
_BETS, _WEIGHTS = BETS.tolist(), WEIGHTS.tolist()  # for 13 numbers, numpy takes three times as long
_TOLERANCE = 1e-6  # of a bound


@dataclass(slots=True)
class RareDifference(Stored):
    """Two one-sided confidence sequences, alpha / 2 each, for the mean of d = failed in b - failed in a.

    Without any failure the upper bound falls below m after about 5.4 / m pairs at alpha = 0.05. Exact for independent
    pairs whose mean does not change; under drift it excludes m only if the mean was below m at some time. Raises
    ValueError outside the domains of its fields.
    Source: Waudby-Smith & Ramdas 2024, JRSS-B 86(1), arXiv:2010.09686, section 4; Ville's inequality.
    """

    alpha: float = 0.05  # in (0, 1), both sides together
    n: int = 0  # pairs so far
    more: int = 0  # pairs with d = 1: b failed alone
    fewer: int = 0  # pairs with d = -1: a failed alone

    def __post_init__(self) -> None:
        inside("alpha", self.alpha)
        at_least("n", self.n, self.more + self.fewer)
        at_least("more", self.more, 0)
        at_least("fewer", self.fewer, 0)

    @property
    def mean(self) -> float:
        """The mean of d; 0.0 before the first pair."""
        return (self.more - self.fewer) / self.n if self.n else 0.0

    def add(self, d: float) -> None:
        """Takes the next pair. Raises ValueError unless d is -1, 0 or 1."""
        if d not in (-1.0, 0.0, 1.0):
            raise ValueError(f"d: {d!r}, expected -1, 0 or 1")
        self.n += 1
        self.more += d == 1.0
        self.fewer += d == -1.0

    def log_evidence_below(self, m: float) -> float:
        """ln of the e-value against "the mean is m or more"; m in [-1, 1]."""
        return _log_evidence(m, self.n, self.more, self.fewer)

    def log_evidence_above(self, m: float) -> float:
        """ln of the e-value against "the mean is m or less"; m in [-1, 1]."""
        return _log_evidence(-m, self.n, self.fewer, self.more)

    def interval(self, of_event: float = 1.0) -> tuple[float, float]:
        """(low, high) inside [-1, 1], each bound right at every n at once with probability 1 - alpha / 2.

        of_event: failures that count as one, >= 1: the interval is that of as many times fewer pairs and failures. By
        Jensen's inequality it is never the narrower one.
        """
        least = math.log(2.0 / self.alpha)
        n, more, fewer = (count / at_least("of_event", of_event, 1) for count in (self.n, self.more, self.fewer))
        high = _bound(n, more, fewer, self.mean, least)
        return -_bound(n, fewer, more, -self.mean, least), high


def _log_evidence(m: float, n: float, more: float, fewer: float) -> float:
    """ln of the mixture over lambda of (1 + lambda (m - 1))^more (1 + lambda m)^same (1 + lambda (m + 1))^fewer."""
    if not n:
        return 0.0
    most = _MOST / (1.0 - m) if m < 0 else _MOST  # no bet may lose everything
    same, worse, better, log1p = n - more - fewer, m - 1.0, m + 1.0, math.log1p
    bets = [min(bet, most) for bet in _BETS]
    logs = [more * log1p(x * worse) + same * log1p(x * m) + fewer * log1p(x * better) for x in bets]
    top = max(logs)
    return top + math.log(sum(weight * math.exp(x - top) for weight, x in zip(_WEIGHTS, logs, strict=True)))


@lru_cache(maxsize=1024)  # plans search for the n of a width, where both bounds are of the same counts
def _bound(n: float, more: float, fewer: float, mean: float, least: float) -> float:
    """The smallest m above the mean that is excluded; 1.0 where none is. The evidence grows with m."""
    low, high = mean, 1.0
    if _log_evidence(high, n, more, fewer) < least:
        return 1.0
    while high - low > _TOLERANCE:
        middle = (low + high) / 2
        low, high = (low, middle) if _log_evidence(middle, n, more, fewer) >= least else (middle, high)
    return high
