"""Whether a mean has left its usual range: alarms whose false-alarm rate is bounded by construction.

An e-detector: for each stream of values in [0, 1], each direction and several sizes of bets, a CUSUM of betting
e-values; the average of them all is compared with 1 / alpha.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from gateway.statistics.domains import Floats, inside, not_negative
from gateway.statistics.special import two_sided_z
from gateway.statistics.stored_state import State

BETS = np.array([0.03, 0.1, 0.3, 0.8])  # shares of the wealth at the largest loss
_KEPT = 3.0  # how far, in ln, a statistic may rise above the alarm: a change that has ended is seen soon
Direction = Literal["down", "up"]


def usual_range(values: ArrayLike, margin: float, weights: ArrayLike | None = None) -> tuple[Floats, Floats]:
    """(low, high) of the means of streams: mean ± (2.6 standard errors + margin), inside [0, 1].

    values: shape (n, k), n >= 2, in [0, 1], of a time without a change. margin: >= 0, in the unit of the values.
    weights: shape (n,), each > 0, of a Hajek mean; None: all equal. Raises ValueError outside these domains.
    Source: none; if the range misses the mean, which 1 % of ranges do by more than the margin, alarms of ChangeDetector
    may be more frequent than it says.
    """
    x = np.asarray(values, dtype=np.float64)
    w = np.ones(len(x)) if weights is None else np.asarray(weights, dtype=np.float64)
    if x.ndim != 2 or len(x) < 2 or w.shape != (len(x),):
        raise ValueError(f"values: shape {x.shape}, weights: shape {w.shape}; expected (n, k) and (n,), n >= 2")
    not_negative("margin", margin)
    if not (w > 0).all():
        raise ValueError(f"weights: {w[~(w > 0)][0]} is not above 0")
    _in_unit_interval("values", x)
    w = w / w.sum()
    mean = w @ x
    spread = np.sqrt((w**2) @ (x - mean) ** 2) + 1.0 / len(x)
    half = two_sided_z(0.01) * spread + margin
    return np.clip(mean - half, 0.0, 1.0), np.clip(mean + half, 0.0, 1.0)


def _in_unit_interval(name: str, x: Floats) -> None:
    """Raises ValueError with the first value outside [0, 1]."""
    wrong = x[~((x >= 0) & (x <= 1))]
    if wrong.size:
        raise ValueError(f"{name}: {wrong.flat[0]} is outside [0, 1]")


class ChangeDetector:
    """Streams of values in [0, 1] whose means should stay between low and high, both of shape (k,).

    While every conditional mean does, the expected number of observations until the alarm is at least 1 / alpha, and
    the probability of an alarm within n of them at most n alpha, under any dependence. Source: Shin, Ramdas & Rinaldo
    2022, "E-detectors", arXiv:2203.03532, definitions 2.2 and 2.5 and theorem 2.4.
    """

    def __init__(self, low: ArrayLike, high: ArrayLike, alpha: float, logs: ArrayLike | None = None) -> None:
        """low, high: shape (k,), low <= high. alpha: in (0, 1). logs: the statistics so far, shape (k, 2, 4).

        Raises ValueError outside these domains.
        """
        self.low, self.high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
        if self.low.shape != self.high.shape or self.low.ndim != 1 or (self.low > self.high).any():
            raise ValueError(f"low {self.low} and high {self.high}: expected shape (k,), low <= high")
        self.alpha = inside("alpha", alpha)
        shape = (self.low.size, 2, BETS.size)
        self._logs = np.zeros(shape) if logs is None else np.asarray(logs, dtype=np.float64).reshape(shape)

    def add(self, values: ArrayLike, weights: ArrayLike = 1.0) -> None:
        """values: shape (n, k), in order. weights: shape (n,), in [0, 1]: smallest pi / pi where values were drawn with
        unequal probability, else 1. Raises ValueError outside these domains."""
        x = np.asarray(values, dtype=np.float64)
        if not len(x):
            return
        if x.ndim != 2 or x.shape[1] != self.low.size:
            raise ValueError(f"values: shape {x.shape}, expected (n, {self.low.size})")
        _in_unit_interval("values", x)
        w = np.broadcast_to(np.asarray(weights, dtype=np.float64), (len(x),))[:, None]
        _in_unit_interval("weights", w)
        down = w * (self.low - x) / np.maximum(1.0 - self.low, 1e-6)
        up = w * (x - self.high) / np.maximum(self.high, 1e-6)
        gains = np.log1p(BETS * np.maximum(np.stack([down, up], axis=2), -1.0)[..., None])
        total = np.cumsum(gains, axis=0)
        lowest = np.minimum.accumulate(np.concatenate([-np.maximum(self._logs, 0.0)[None], total[:-1]]), axis=0)
        self._logs = np.minimum((total - lowest)[-1], self.limit + _KEPT)

    @property
    def limit(self) -> float:
        """The alarm is on while log_statistic reaches it."""
        return -math.log(self.alpha)

    @property
    def log_statistic(self) -> float:
        """ln of the average of all e-detectors."""
        top = float(self._logs.max(initial=0.0))
        return top + math.log(float(np.exp(self._logs - top).mean())) if self._logs.size else 0.0

    @property
    def alarm(self) -> bool:
        """Whether a mean has left its range."""
        return self.log_statistic >= self.limit

    def largest(self) -> tuple[int, Direction]:
        """(stream, direction) with the most evidence."""
        stream, direction, _ = np.unravel_index(int(self._logs.argmax()), self._logs.shape)
        return int(stream), "up" if direction else "down"

    def state(self) -> State:
        """A JSON-able dict from which from_state continues."""
        return {
            "low": self.low.tolist(),
            "high": self.high.tolist(),
            "alpha": self.alpha,
            "logs": self._logs.ravel().tolist(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ChangeDetector:
        """Raises ValueError if a field is missing, unknown or outside its domain."""
        try:
            return cls(**state)
        except TypeError as error:
            raise ValueError(f"not the state of a ChangeDetector: {error}") from error
