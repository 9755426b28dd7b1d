"""Waits between attempts: exponential backoff. Pure: nothing here sleeps or reads a clock."""

from __future__ import annotations

import math
from dataclasses import dataclass

_MAX_DOUBLINGS = 60  # 2.0**60 is beyond every cap in use; more would overflow in the end


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that double with each failure in a row. The caller counts the failures and resets its count on success."""

    first_s: float  # seconds after the first failure
    most_s: float = math.inf  # seconds; no wait is longer

    def wait_s(self, failures: int, u: float = 0.5) -> float:
        """Seconds to wait after this many failures in a row; failures ≥ 1.

        u: a draw from [0, 1), which spreads the wait between half and one and a half times, so that callers that failed
        together do not return together. The default gives no jitter.
        """
        doubled = self.first_s * 2.0 ** min(failures - 1, _MAX_DOUBLINGS)
        return min(self.most_s, doubled * (0.5 + u))
