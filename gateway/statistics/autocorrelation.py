"""Whether values that are close in time are alike: a test of a drift with a memory of about an hour. Pure.

Each value's deviation is multiplied by the sum of the earlier ones, which fades with time. That is the score test of a
first-order autoregression in continuous time against independent values, self-normalised as in statistics/dependence.
Values of one unit are alike without any drift, so that products within a unit are left out.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any
from zlib import crc32

from gateway.statistics.dependence import BUCKETS
from gateway.statistics.stored_state import State

MEMORY_S = 3600.0  # in which an earlier deviation fades to a third
FEWEST_PRODUCTS = 50
_FADED_S = 20 * MEMORY_S  # after which a unit's earlier deviations are forgotten
_ROUNDING = 1e-6  # of a deviation: less is left where all earlier values are of the same unit


@dataclass(slots=True)
class Autocorrelation:
    """Sums of products with faded deviations. rows: bucket of units → [faded sum of its deviations, its last time]."""

    earlier: float = 0.0  # faded sum of the deviations so far
    at: float = 0.0  # Unix seconds of the newest value
    products: float = 0.0
    squares: float = 0.0  # of the products
    n: int = 0  # products
    rows: dict[int, list[float]] = field(default_factory=dict)

    def add(self, deviation: float, at: float, unit: str | None) -> None:
        """Takes the next value. deviation: from the mean of all values before it. at: Unix seconds; one that is late
        counts as the newest. unit: None if it is of no unit."""
        at = max(at, self.at)
        self.earlier *= math.exp((self.at - at) / MEMORY_S)
        self.at = at
        own = 0.0 if unit is None else self._own(crc32(unit.encode("utf-8", "surrogatepass")) % BUCKETS, deviation)
        others = self.earlier - own
        if abs(others) > _ROUNDING * abs(deviation):
            product = deviation * others
            self.products += product
            self.squares += product * product
            self.n += 1
        self.earlier += deviation

    def _own(self, bucket: int, deviation: float) -> float:
        """The faded sum of a unit before its value, which is added to it."""
        total, last = self.rows.pop(bucket, [0.0, self.at])
        own = total * math.exp((last - self.at) / MEMORY_S)
        self.rows[bucket] = [own + deviation, self.at]
        while self.at - self.rows[oldest := next(iter(self.rows))][1] > _FADED_S:
            del self.rows[oldest]
        return own

    @property
    def p(self) -> float | None:
        """The one-sided p-value of one look against values that are independent in time; None if there are too few."""
        if self.n < FEWEST_PRODUCTS or not self.squares:
            return None
        return 1.0 - NormalDist().cdf(self.products / math.sqrt(self.squares))

    def state(self) -> State:
        """A JSON-able dict from which from_state continues bit-identically."""
        rows = [[bucket, *row] for bucket, row in self.rows.items()]
        return {"sums": [self.earlier, self.at, self.products, self.squares, self.n], "rows": rows}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Autocorrelation":
        """Raises KeyError if a field is missing."""
        test = cls(*state["sums"])
        test.rows = {bucket: row for bucket, *row in state["rows"]}
        return test
