"""A search for parts of the traffic in which a candidate is worse than a margin: one test, valid at every look.

After every block of pairs, a rule is fitted to the pairs so far: a property, or two of them together, of the requests
in which the candidate loses most. A bet is then made on the next pairs that the rule selects: that they lose more than
the margin on average. Where the candidate is worse by the margin nowhere, the wealth of such bets is a nonnegative
supermartingale, whatever rules are fitted, since each is fixed before the pairs that it bets on. So an alarm at a
wealth of 1 / alpha is false with a probability of at most alpha, over all looks together.

Sources: Shekhar & Ramdas 2021, arXiv:2112.09162 (tests by predictive bets); Duan, Wasserman & Ramdas 2021,
arXiv:2102.10778 (interactive search for a subgroup); Chernozhukov, Demirer, Duflo & Fernández-Val 2018,
arXiv:1712.04802 (the group that is predicted to gain least as the target); Ville's inequality.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.statistics.domains import Floats, finite, inside, not_negative
from gateway.statistics.stored_state import State

BLOCK = 50  # pairs between two fits
FEWEST = 12  # pairs that a rule is fitted to
MOST_FITTED = 2000  # pairs, the newest
_LARGEST_BET = 0.7  # of the wealth
_SHARES = (0.25, 0.5, 1.0)  # of the bet that would have won most so far: wealths that run side by side
_DOUBT = 1.0  # standard errors that a rule's gain is taken to be smaller by, since it is the best of many

Flags = NDArray[np.bool_]
Rule = tuple[int, ...]
"""Columns that must all hold; () if none was found."""


@dataclass(slots=True)
class WeakSpotSearch:
    """The state of the search. margin: the loss that is accepted anywhere, >= 0. Differences are in [-1, 1]."""

    margin: float
    alpha: float
    pairs: int = 0
    log_wealth: list[float] = field(default_factory=lambda: [0.0] * len(_SHARES))
    log_peak: float = 0.0
    bets: int = 0  # pairs that were bet on
    total: float = 0.0  # of their differences

    def __post_init__(self) -> None:
        not_negative("margin", self.margin)
        inside("alpha", self.alpha)
        finite("log_peak", self.log_peak)

    @property
    def p_value(self) -> float:
        """P-value of "the candidate is worse by the margin nowhere", at any look."""
        return math.exp(-self.log_peak)

    @property
    def alarm(self) -> bool:
        """Whether a weak spot is shown."""
        return self.p_value <= self.alpha

    def bet(self, differences: Floats, selected: Flags, size: float) -> None:
        """Bets on a block: shape (n,) each, in order. size: of the bet, fixed before the block; 0: none."""
        for difference, on in zip(differences.tolist(), selected.tolist(), strict=True):
            self.pairs += 1
            if not on or size <= 0 or self.alarm:
                continue
            gain = -self.margin - float(difference)
            self.bets += 1
            self.total += float(difference)
            self.log_wealth = [
                log + math.log1p(share * size * gain) for log, share in zip(self.log_wealth, _SHARES, strict=True)
            ]
            most = max(self.log_wealth)
            mixed = most + math.log(math.fsum(math.exp(log - most) for log in self.log_wealth) / len(_SHARES))
            self.log_peak = max(self.log_peak, mixed)

    def state(self) -> State:
        """A JSON-able dict from which from_state continues bit-identically."""
        names = ("margin", "alpha", "pairs", "log_wealth", "log_peak", "bets", "total")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "WeakSpotSearch":
        """Raises TypeError or ValueError."""
        return cls(**{**state, "log_wealth": [float(log) for log in state["log_wealth"]]})


@dataclass(frozen=True, slots=True)
class FittedRule:
    """The rule that would have gained most so far, and the size of its bet."""

    columns: Rule
    size: float  # 0: nothing is bet on
    share: float = 0.0  # of the pairs that it was fitted to

    def selects(self, features: Flags) -> Flags:
        """Rows that it selects. features: shape (n, columns)."""
        if not self.columns:
            return np.zeros(len(features), dtype=bool)
        return np.asarray(features[:, list(self.columns)].all(axis=1))


NOTHING = FittedRule((), 0.0)


def fit_rule(differences: Floats, features: Flags, margin: float) -> FittedRule:
    """Fits to all pairs so far. differences: shape (n,). features: shape (n, columns).

    A rule is one column or two that both hold. Its expected gain, the logarithm of the wealth by a pair of all traffic,
    is about share * gap² / (2 * spread²); the gap is between the mean loss and the margin, less its standard error.
    """
    n, columns = features.shape
    if n < 2 * FEWEST or not columns:
        return NOTHING
    loss = -margin - np.asarray(differences, dtype=float)
    x = features.astype(float)
    counts, sums, squares = x.T @ x, x.T @ (x * loss[:, None]), x.T @ (x * (loss**2)[:, None])
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = sums / counts
        spread = squares / counts - mean**2 + 1.0 / counts  # equal losses do not show that all are
        gap = mean - _DOUBT * np.sqrt(spread / counts)
        gain = np.where((counts >= FEWEST) & (counts < n) & (gap > 0), counts / n * gap**2 / (2 * spread), 0.0)
    i, j = divmod(int(np.argmax(np.triu(gain))), columns)
    if gain[i, j] <= 0:
        return NOTHING
    wanted = float(gap[i, j] / (spread[i, j] + gap[i, j] ** 2))
    size = min(wanted, _LARGEST_BET / (1.0 + margin))
    return FittedRule((i,) if i == j else (i, j), size, float(counts[i, j] / n))


def columns_of(rows: Sequence[Mapping[str, str]], most_values: int) -> tuple[list[tuple[str, str]], Flags]:
    """((property, value) of each column, shape (n, columns)): values that are neither too rare nor everywhere."""
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        for part in row.items():
            counts[part] = counts.get(part, 0) + 1
    by_property: dict[str, list[tuple[int, str]]] = {}
    for (name, value), n in counts.items():
        if FEWEST <= n < len(rows):
            by_property.setdefault(name, []).append((-n, value))
    chosen = [(name, value) for name, of in sorted(by_property.items()) for _, value in sorted(of)[:most_values]]
    flags = np.array([[row.get(name) == value for name, value in chosen] for row in rows], dtype=bool)
    return chosen, flags.reshape(len(rows), len(chosen))
