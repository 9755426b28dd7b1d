"""Variance reduction for paired differences: facts known about a request remove their share of the noise (CUPED).

Only some requests become pairs, by a draw that does not depend on them; of the others the same covariates are known.
Each pair is centred on requests without a pair that came before it: z = x - mean(x and theirs). The draw makes the mean
of z 0. So `y - theta z` has the mean of y, whatever theta is, if theta was fitted to earlier pairs only: the adjusted
differences keep every property of the differences, and have 1 - s R^2 of their variance, where R^2 is the share that
the covariates explain and s the share of the requests that are not pairs.

Each request without a pair is used once: differences that share one would depend on each other.

Sources: Deng, Xu, Kohavi & Walker 2013, WSDM (CUPED); the larger sample for the covariate's mean is that of two-phase
sampling, Cochran 1977, section 12.6. Weighting a prediction by how well it did so far is stacking, Wolpert 1992.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gateway.statistics.domains import at_least, between, finite, positive
from gateway.statistics.stored_state import Stored

LEARN = 10  # pairs before a prediction is believed
MISSED = 0.02  # pairs without a difference per pair with one, from which on nothing is adjusted
CONVINCED = 2.0  # standard errors by which earlier predictions must have been right
_SHRINK = 4.0  # pairs that count against every covariate, so that few pairs give small coefficients
WAITING = 100  # requests that may wait for a pair; older ones are dropped, so that they stay close in time


@dataclass(slots=True)
class PastAdjustment(Stored):
    """Adjusts differences in [-1, 1], in order of arrival.

    The weight of a prediction is the slope of earlier differences on earlier predictions, each made before its
    difference was known, within [0, 1]; 0 unless that slope is CONVINCED standard errors above 0.
    """

    size: int  # number of covariates
    most: int = 10  # requests without a pair that one pair is centred on, at most
    n: int = 0  # pairs that were centred
    mean: float = 0.0  # of their differences
    products: list[float] = field(default_factory=list)  # sums of z z', row by row, shape (size * size,)
    cross: list[float] = field(default_factory=list)  # sums of z (y - mean), shape (size,)
    agreement: float = 0.0  # sum of (y - mean) q over earlier predictions q
    squares: float = 0.0  # sum of q^2
    noise: float = 0.0  # sum of ((y - mean) q)^2
    missed: int = 0  # pairs with covariates and without a difference
    rate: float = 1.0  # the smallest rate at which requests without a pair are recorded
    waiting: list[list[float]] = field(default_factory=list)  # covariates of requests that no pair has used

    def __post_init__(self) -> None:
        at_least("size", self.size, 1)
        at_least("most", self.most, 1)
        self.products = self.products or [0.0] * self.size**2
        self.cross = self.cross or [0.0] * self.size

    def wait(self, x: Sequence[float], rate: float = 1.0, u: float = 0.0) -> None:
        """Takes a request without a pair. x: shape (size,), finite.

        rate: the probability with which a request such as this one is recorded, in (0, 1]. u: uniform on [0, 1), drawn
        for this request. Requests that are recorded more often than others are thinned to the smallest rate so far, so
        that the waiting ones are comparable to the pairs.
        """
        if between("rate", rate) < self.rate:
            self.rate, self.waiting = positive("rate", rate), []
        if u < self.rate / rate:
            self.waiting.append([finite("x", value) for value in x])
            del self.waiting[:-WAITING]

    def miss(self) -> None:
        """Takes a pair that has covariates and no difference. With many of them, the other requests are not comparable
        to the pairs."""
        self.missed += 1

    @property
    def weight(self) -> float:
        """The weight of the next prediction, in [0, 1]."""
        if self.n < 2 * LEARN or self.missed > MISSED * self.n or self.agreement <= CONVINCED * math.sqrt(self.noise):
            return 0.0
        return min(1.0, self.agreement / self.squares)

    def adjust(self, y: float, x: Sequence[float]) -> float:
        """The adjusted difference of the next pair; y itself while there is no request to centre it on."""
        k = min(len(self.waiting), self.most)
        if k == 0:
            return y
        taken, self.waiting = self.waiting[:k], self.waiting[k:]
        own = np.array(x, dtype=float)
        z = own - np.vstack([own, np.array(taken)]).mean(axis=0)
        q = self._predict(z)
        adjusted = y - self.weight * q
        self._learn(y, z, q)
        return adjusted

    def _predict(self, z: Any) -> float:
        """The prediction of y - mean, in [-1, 1], from earlier pairs."""
        if self.n < LEARN:
            return 0.0
        sums = np.array(self.products).reshape(self.size, self.size)
        ridge = np.diag(np.diag(sums) * _SHRINK / self.n + 1e-9)
        theta = np.linalg.solve(sums + ridge, np.array(self.cross))
        return float(np.clip(theta @ z, -1.0, 1.0))

    def _learn(self, y: float, z: Any, q: float) -> None:
        apart = y - self.mean  # from the mean of earlier pairs
        self.agreement += apart * q
        self.squares += q * q
        self.noise += (apart * q) ** 2
        self.n += 1
        self.mean += apart / self.n
        self.products = (np.array(self.products) + np.outer(z, z).ravel()).tolist()
        self.cross = (np.array(self.cross) + z * apart).tolist()
